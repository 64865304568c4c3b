//! Sockets, in the manner of `std::net`: [`TcpStream`], [`TcpListener`], [`UdpSocket`], and [`EchoSocket`] for ping.
//!
//! Control goes by message to the protocol server ([`abi::socket`]); data crosses in a page and two byte rings that each socket shares
//! with the server. A read that finds data, or a write that finds room, makes no system call, unless the server sleeps and has to be
//! told, once for each time that it sleeps.
//!
//! | module | what it is |
//! | --- | --- |
//! | `page` | the shared page: the only place here with raw memory |
//! | `service` | the server as this task knows it: its port, its status page, its thread |
//! | `socket` | what all kinds have in common: open, wait, ring the bell |
//! | `tcp`, `datagram`, `wait` | streams and listeners; UDP and echo; waiting for several sockets at once |
//!
//! Sockets are their thread's: events resume the thread that opened them, which is the task's first unless
//! [`AsSocket::rebind`] says otherwise.

mod address;
mod datagram;
mod page;
mod service;
mod socket;
mod tcp;
#[cfg(test)]
mod tests;
mod wait;

pub use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use address::{from_endpoint, to_endpoint};
pub use datagram::{EchoSocket, UdpSocket};
pub use page::Page;
pub use service::{Service, choose, interface};
pub use socket::{AsSocket, Socket, Want};
pub use tcp::{Shutdown, TcpListener, TcpStream};
pub use wait::wait_any;
