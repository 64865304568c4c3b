//! Between smoltcp's addresses and those of messages and pages.

use abi::socket::Endpoint;
use smoltcp::wire::{IpAddress, IpEndpoint, IpListenEndpoint, Ipv4Address, Ipv6Address};

use crate::frame::Key;

/// An endpoint as it crosses the wall.
#[must_use]
pub fn to_abi(address: Option<IpAddress>, port: u16) -> Endpoint {
    let mut endpoint = Endpoint { port: u32::from(port), ..Endpoint::default() };
    match address {
        None => {}
        Some(IpAddress::Ipv4(v4)) => {
            endpoint.family = 4;
            endpoint.address[..4].copy_from_slice(&v4.octets());
        }
        Some(IpAddress::Ipv6(v6)) => {
            endpoint.family = 6;
            endpoint.address = v6.octets();
        }
    }
    endpoint
}

/// An endpoint from the other side, if it is one. An unspecified address counts as "any".
#[must_use]
pub fn from_abi(endpoint: &Endpoint) -> Option<IpListenEndpoint> {
    let port = u16::try_from(endpoint.port).ok()?;
    let addr = match endpoint.family {
        0 => None,
        4 => Some(IpAddress::Ipv4(Ipv4Address::from(*endpoint.address.first_chunk::<4>()?))),
        6 => Some(IpAddress::Ipv6(Ipv6Address::from(endpoint.address))),
        _ => return None,
    };
    Some(IpListenEndpoint { addr: addr.filter(|addr| !addr.is_unspecified()), port })
}

/// A peer from the other side: a unicast address and a port.
#[must_use]
pub fn peer_from_abi(endpoint: &Endpoint) -> Option<IpEndpoint> {
    let listen = from_abi(endpoint)?;
    Some(IpEndpoint { addr: listen.addr?, port: listen.port })
}

/// The key of a connection's received segments.
#[must_use]
pub fn connection_key(protocol: u8, local: IpEndpoint, remote: IpEndpoint) -> Key {
    let mut addresses = [0; 4];
    match (remote.addr, local.addr) {
        (IpAddress::Ipv4(source), IpAddress::Ipv4(destination)) => {
            let mut both = [0; 8];
            both[..4].copy_from_slice(&source.octets());
            both[4..].copy_from_slice(&destination.octets());
            addresses[0] = u64::from_ne_bytes(both);
        }
        (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) => {
            for (i, half) in source.octets().chunks(8).chain(destination.octets().chunks(8)).enumerate() {
                addresses[i] = u64::from_ne_bytes(half.try_into().unwrap_or_default());
            }
        }
        _ => {}
    }
    Key { addresses, ports: u32::from(local.port) << 16 | u32::from(remote.port), protocol }
}
