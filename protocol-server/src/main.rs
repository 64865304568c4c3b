//! The protocol server's task: opens the device and runs [`protocol_server::server::Server`] for ever, on the path that the kernel's command
//! line says ([`abi::path`]). Each path's start and loop are a file below `path`.
//!
//! The supervisor starts it, and starts another when it ends; one argument may be the lease to go on with (`lease=`, [`Lease`]).
//!
//! What it takes from the command line beside that is in [`protocol_server::config`]. When there is an address the server says so and
//! registers as `net`.
#![no_std]
#![no_main]

extern crate alloc;

mod chaos;
mod guest;
mod path {
    pub mod message;
    pub mod window;
}

use abi::{Error, device::NetInfo, name::NETWORK, path::Path, supervise::Lease};
use alloc::string::String;
use guest::Guest;
use protocol_server::{
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

fn main(mut args: userlib::entry::Args) -> Result<(), String> {
    let lease = args.find_map(|word| lease_of(word.strip_prefix(LEASE)?));
    match info::path() {
        Path::Window => path::window::run(lease),
        Path::Ipc => path::message::run(lease),
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

/// Does what the command line says about addresses. Where that is DHCP, goes on with the lease of the server before.
fn configure<L: Link>(server: &mut Server<L, Guest>, lease: Option<Lease>) -> Result<(), String> {
    server.configure(info::option).map_err(|error| alloc::format!("{error}"))?;
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

/// From a deadline in microseconds to a limit in nanoseconds.
fn limit_ns(deadline: i64) -> u64 {
    if deadline == i64::MAX {
        return abi::syscall::FOREVER;
    }
    (deadline as u64).saturating_mul(1000).saturating_sub(time::now_ns())
}

/// Says where we are, and registers.
fn announce<L: Link>(server: &Server<L, Guest>, net: &NetInfo) -> Result<(), Error> {
    println!("{}", server.announcement(DEVICE, net));
    name::register(NETWORK, &server.system.port)
}
