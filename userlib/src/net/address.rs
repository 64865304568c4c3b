//! Addresses between `core::net` and [`Endpoint`].

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use abi::socket::Endpoint;

/// The words of an [`Endpoint`] in a message.
pub(super) const WORDS: usize = 6;

/// As the protocol has it.
#[must_use]
pub fn to_endpoint(address: SocketAddr) -> Endpoint {
    let mut it = Endpoint { port: address.port().into(), ..Endpoint::default() };
    match address.ip() {
        IpAddr::V4(ip) => {
            it.family = 4;
            it.address[..4].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            it.family = 6;
            it.address = ip.octets();
        }
    }
    it
}

/// As programs have it; `None` for a family that there is not, or a port that cannot be. The family 0 is any address of IPv4.
#[must_use]
pub fn from_endpoint(endpoint: &Endpoint) -> Option<SocketAddr> {
    let [a, b, c, d, ..] = endpoint.address;
    let ip = match endpoint.family {
        0 => Ipv4Addr::UNSPECIFIED.into(),
        4 => Ipv4Addr::new(a, b, c, d).into(),
        6 => Ipv6Addr::from(endpoint.address).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::try_from(endpoint.port).ok()?))
}

/// As the words of a message.
pub(super) fn to_words(endpoint: &Endpoint) -> [u32; WORDS] {
    let mut words = [endpoint.family, 0, 0, 0, 0, endpoint.port];
    for (word, bytes) in words[1..5].iter_mut().zip(endpoint.address.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    words
}

/// From the words of a message or a page.
pub(super) fn from_words(words: [u32; WORDS]) -> Endpoint {
    let mut it = Endpoint { family: words[0], address: [0; 16], port: words[5] };
    for (bytes, word) in it.address.chunks_exact_mut(4).zip(&words[1..5]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    it
}
