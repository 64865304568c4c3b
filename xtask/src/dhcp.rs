//! A DHCP server (RFC 2131) on the host's end of the tap, as small as a test needs it: one network, leases of an hour, and an address for each
//! client identifier (RFC 2131, section 4.2: the identifier if there is one, the hardware address if not).

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::{Context as _, Result};
use crate::{network, sys, traffic};

const OPTIONS_AT: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Message types (RFC 2132, section 9.6).
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;
/// Options.
const REQUESTED: u8 = 50;
const TYPE: u8 = 53;
const SERVER: u8 = 54;
const CLIENT: u8 = 61;
const END: u8 = 255;
const LEASE_S: u32 = 3600;

/// Who has which address, by identifier.
pub type Clients = HashMap<Vec<u8>, Ipv4Addr>;

/// The server, until it is dropped.
pub struct Server {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Clients>>>,
}

impl Server {
    /// Starts it: it gives out the addresses from `first` on.
    pub fn start(host: Ipv4Addr, first: Ipv4Addr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).context("the port of DHCP")?;
        socket.set_broadcast(true).context("broadcast")?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).context("socket")?;
        sys::bind_to_device(&socket, network::TAP).context(network::TAP)?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut pool = Pool { host, first, clients: Clients::new() };
            let mut message = [0; 1500];
            while !ended.load(Relaxed) {
                let length = match socket.recv(&mut message) {
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                        continue;
                    }
                    length => length.context("DHCP")?,
                };
                if let Some(reply) = pool.answer(&message[..length]) {
                    socket.send_to(&reply, (Ipv4Addr::BROADCAST, 68)).context("DHCP")?;
                }
            }
            Ok(pool.clients)
        });
        Ok(Self { over, thread: Some(thread) })
    }

    /// Ends it; who has which address.
    pub fn end(mut self) -> Result<Clients> {
        self.over.store(true, Relaxed); // no data goes with the flag
        self.thread.take().map_or_else(|| Ok(Clients::new()), traffic::join)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Relaxed); // no data goes with the flag
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The addresses.
struct Pool {
    host: Ipv4Addr,
    first: Ipv4Addr,
    clients: Clients,
}

impl Pool {
    fn answer(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let (head, options) = message.split_at_checked(OPTIONS_AT)?;
        let kind = *option(options, TYPE)?.first()?;
        if head[0] != 1 || head[236..240] != MAGIC || !matches!(kind, DISCOVER | REQUEST) {
            return None;
        }
        // Hardware addresses are a name space of their own, as identifiers of type 1 are.
        let client =
            option(options, CLIENT).map_or_else(|| [&[1][..], &head[28..34]].concat(), <[u8]>::to_vec);
        let next = Ipv4Addr::from_bits(self.first.to_bits() + self.clients.len() as u32);
        let address = *self.clients.entry(client).or_insert(next);
        // It asks for the address that it was offered, or goes on with the one that it has.
        let has = Ipv4Addr::from(*head[12..].first_chunk::<4>()?);
        let wanted = option(options, REQUESTED).and_then(|it| Some(Ipv4Addr::from(*it.first_chunk::<4>()?)));
        let reply = match kind {
            DISCOVER => OFFER,
            _ if wanted.unwrap_or(has) == address => ACK,
            _ => NAK,
        };
        let mut out = vec![0; OPTIONS_AT];
        out[..3].copy_from_slice(&[2, 1, 6]);
        out[4..8].copy_from_slice(&head[4..8]);
        out[28..44].copy_from_slice(&head[28..44]);
        out[236..].copy_from_slice(&MAGIC);
        out.extend([TYPE, 1, reply, SERVER, 4]);
        out.extend(self.host.octets());
        if reply != NAK {
            out[16..20].copy_from_slice(&address.octets());
            out.extend([1, 4, 255, 255, 255, 0, 3, 4]);
            out.extend(self.host.octets());
            out.extend([51, 4]);
            out.extend(LEASE_S.to_be_bytes());
        }
        // RFC 6842: the identifier comes back as it was.
        if let Some(identifier) = option(options, CLIENT) {
            out.extend([CLIENT, identifier.len() as u8]);
            out.extend(identifier);
        }
        out.push(END);
        Some(out)
    }
}

/// The first option of this kind.
fn option(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match *options {
            [0, ref rest @ ..] => options = rest,
            [END, ..] | [] | [_] => return None,
            [kind, length, ref rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(length))?;
                if kind == wanted {
                    return Some(value);
                }
                options = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pool: &mut Pool, options: &[u8]) -> Option<(u8, [u8; 4])> {
        let mut message = vec![0; OPTIONS_AT];
        message[0] = 1;
        message[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        message[236..].copy_from_slice(&MAGIC);
        message.extend(options);
        let reply = pool.answer(&message)?;
        let kind = option(&reply[OPTIONS_AT..], TYPE)?[0];
        Some((kind, *reply[16..].first_chunk()?))
    }

    #[test]
    fn each_identifier_has_an_address() {
        let (host, first) = (Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 50));
        let mut pool = Pool { host, first, clients: Clients::new() };
        assert_eq!(ask(&mut pool, &[53, 1, 1, 255]), Some((OFFER, [10, 9, 0, 50])));
        assert_eq!(ask(&mut pool, &[0, 61, 2, 255, 7, 53, 1, 1]), Some((OFFER, [10, 9, 0, 51])));
        let same = [53, 1, 3, 50, 4, 10, 9, 0, 50, 61, 7, 1, 2, 0, 0, 0, 0, 1, 255];
        assert_eq!(ask(&mut pool, &same), Some((ACK, [10, 9, 0, 50])));
        assert_eq!(ask(&mut pool, &[53, 1, 3, 50, 4, 10, 9, 0, 50, 61, 2, 255, 7]), Some((NAK, [0; 4])));
        assert_eq!(ask(&mut pool, &[53, 1, 7]), None);
        assert_eq!(ask(&mut pool, &[61, 200, 1]), None);
        assert_eq!(pool.answer(&[1; 100]), None);
    }
}
