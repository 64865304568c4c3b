//! Sockets, in the manner of `std::net`: [`TcpStream`], [`TcpListener`], [`UdpSocket`], and [`EchoSocket`] for ping.
//!
//! Each socket has a page that this task shares with whoever has the stack: state, errors, ring positions, and the words to wait by. How
//! bytes move is the path's business ([`abi::path`]), and the same program runs on each:
//!
//! - By window the two byte rings are mapped here. A read that finds data, or a write that finds room, makes no system call, unless
//!   the server sleeps and has to be told, once for each time that it sleeps. Control goes by message to the protocol server.
//! - By message a read or a write is a call of the protocol server: a request and its reply, with the data.
//! - Monolithic, each is a system call.
//!
//! | module | what it is |
//! | --- | --- |
//! | `page` | the shared page |
//! | `service` | the server as this task knows it: its port, its status page, its thread; or the kernel |
//! | `transport`, `trap` | rings, messages, system calls |
//! | `socket` | what all kinds have in common: open, wait, put and take |
//! | `tcp`, `datagram`, `wait` | streams and listeners; UDP and echo; waiting for several sockets at once |
//!
//! A protocol server may die, and another take its place. Streams are then over ([`abi::Error::NetworkReset`]), at once and whatever a thread
//! waits for; listeners and datagram sockets come back by themselves with the next call that needs the server, which waits for it. What
//! was in their rings is lost, as datagrams may be.
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
mod transport;
mod trap;
mod wait;

pub use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use address::{from_endpoint, to_endpoint};
pub use datagram::{EchoSocket, UdpSocket};
pub use page::Page;
pub(crate) use service::look_for_death;
pub use service::{Service, choose, interface, wait_for_network};
pub use socket::{AsSocket, Socket, Want};
pub use tcp::{Shutdown, TcpListener, TcpStream};
pub use wait::wait_any;
