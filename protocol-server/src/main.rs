//! The protocol server's task: opens the device and runs [`protocol_server::server::Server`] for ever, on the path that the kernel's command
//! line says ([`abi::path`]). Each path's start and loop are a file below `path`.
//!
//! The supervisor starts it, asks it under a name of its own how it is ([`CONTROL`]), and starts another when it ends; one argument may be the lease to go on with (`lease=`, [`Lease`]).
//!
//! What it takes from the command line beside that is in [`protocol_server::config`]. When there is an address the server says so and
//! registers as `net`.
//!
//! Where several servers run (`servers=`), each has a number as its argument. That of number 1 goes by `ip1=`, `gw1=`, `ip61=`, and registers
//! as `net1`. They share one station address, and are different clients to DHCP all the same; who is told that an address is another's ends.
#![no_std]
#![no_main]

extern crate alloc;

mod chaos;
mod guest;
mod path {
    pub mod message;
    pub mod window;
}

use abi::{
    Error,
    device::NetInfo,
    name::NETWORK,
    path::Path,
    supervise::{CONTROL, Lease},
};
use alloc::string::String;
use guest::Guest;
use protocol_server::{
    config::NoAddress,
    link::{Link, LinkInfo},
    server::Server,
};
use smoltcp::time::Instant;
use userlib::{info, name, println, time};

userlib::entry!(main);

/// The device that is served.
const DEVICE: &str = "net0";
/// How the argument begins that says with which lease to go on.
const LEASE: &str = "lease=";

/// Which server this is, of several; nothing for the first.
type Number = &'static str;

fn main(args: userlib::entry::Args) -> Result<(), String> {
    let (mut number, mut lease): (Number, _) = ("", None);
    for word in args {
        if chaos::is_stalled(word) {
            chaos::hang();
        }
        match word.strip_prefix(LEASE) {
            Some(text) => lease = lease_of(text),
            None => number = word,
        }
    }
    match info::path() {
        Path::Window => path::window::run(number, lease),
        Path::Ipc => path::message::run(number, lease),
        Path::Monolithic => Err(String::from("the stack is in the kernel")),
    }
}

/// What a link needs to know of the device.
const fn link_info(net: &NetInfo) -> LinkInfo {
    LinkInfo { mac: net.mac, frame_bytes_max: net.frame_bytes_max as usize, offload: net.offload }
}

/// A seed for what need not be secret.
fn seed() -> u64 {
    userlib::task::entropy().unwrap_or_else(|_| time::now_ns())
}

fn now() -> Instant {
    Instant::from_micros((time::now_ns() / 1000) as i64)
}

/// Does what the command line says about addresses. Where that is DHCP, goes on with the lease of the server before. From here on the
/// supervisor can ask how we are.
fn configure<L: Link>(
    server: &mut Server<L, Guest>,
    number: Number,
    lease: Option<Lease>,
) -> Result<(), String> {
    let control = alloc::format!("{CONTROL}{}", name_of(number));
    // Who was started by hand has no supervisor, and no right to the name.
    let _ = name::register(control.as_bytes(), &server.system.port);
    let option = |key: &str| info::option(&alloc::format!("{key}{number}"));
    server
        .configure(option)
        .map_err(|NoAddress { key, value }| alloc::format!("{key}{number}={value} is no address"))?;
    server.identify(number.parse().unwrap_or(0));
    if let Some(lease) = lease {
        server.inherit(lease, now());
    }
    Ok(())
}

/// The words of a [`Lease`], between commas, as the supervisor writes them.
fn lease_of(text: &str) -> Option<Lease> {
    let mut words = text.split(',');
    let mut word = || words.next()?.parse().ok();
    Lease::from_words([word()?, word()?, word()?, word()?])
}

/// The name that it is found by.
fn name_of(number: Number) -> String {
    alloc::format!("{}{number}", str::from_utf8(NETWORK).unwrap_or_default())
}

/// From a deadline in microseconds to a limit in nanoseconds.
fn limit_ns(deadline: i64) -> u64 {
    if deadline == i64::MAX {
        return abi::syscall::FOREVER;
    }
    (deadline as u64).saturating_mul(1000).saturating_sub(time::now_ns())
}

/// Says where we are, and registers.
fn announce<L: Link>(server: &Server<L, Guest>, number: Number, net: &NetInfo) -> Result<(), Error> {
    let name = name_of(number);
    println!("{}", server.announcement(&name, DEVICE, net));
    name::register(name.as_bytes(), &server.system.port)
}
