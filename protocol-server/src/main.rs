//! The protocol server's task: opens the device and runs [`protocol_server::server::Server`] for ever, on the path that the kernel's command
//! line says ([`abi::path`]). Each path's start and loop are a file below `path`.
//!
//! From the kernel's command line: `ip=ADDRESS/PREFIX` or `ip=dhcp` (which is also what is done without it), `gw=ADDRESS`,
//! `ip6=ADDRESS/PREFIX`. When there is an address the server says so and registers as `net`.
#![no_std]
#![no_main]

extern crate alloc;

mod guest;
mod path {
    pub mod message;
    pub mod window;
}

use abi::{Error, device::NetInfo, name::NETWORK, path::Path};
use alloc::string::String;
use core::fmt::Write;
use guest::Guest;
use protocol_server::{
    link::{Link, LinkInfo},
    server::Server,
};
use smoltcp::{
    time::Instant,
    wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Cidr},
};
use userlib::{info, name, println, time};

userlib::entry!(main);

/// The device that is served.
const DEVICE: &str = "net0";

fn main(_: userlib::entry::Args) -> Result<(), String> {
    match info::path() {
        Path::Window => path::window::run(),
        Path::Ipc => path::message::run(),
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

/// Does what the command line says about addresses.
fn configure<L: Link>(server: &mut Server<L, Guest>) -> Result<(), String> {
    let wrong = |key: &str, value: &str| alloc::format!("{key}={value} is no address");
    if let Some(text) = info::option("ip6") {
        let (address, prefix) = split(text, 64);
        let prefix = prefix.filter(|&prefix| prefix <= 128);
        let (Ok(address), Some(prefix)) = (address.parse(), prefix) else { return Err(wrong("ip6", text)) };
        server.stack.add_ipv6(Ipv6Cidr::new(address, prefix));
    }
    match info::option("ip") {
        None | Some("dhcp") => server.use_dhcp(),
        Some(text) => {
            let (address, prefix) = split(text, 24);
            let prefix = prefix.filter(|&prefix| prefix <= 32);
            let (Ok(address), Some(prefix)) = (address.parse(), prefix) else {
                return Err(wrong("ip", text));
            };
            let gateway: Option<Ipv4Address> = match info::option("gw") {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| wrong("gw", text))?),
            };
            server.stack.set_ipv4(Some(Ipv4Cidr::new(address, prefix)), gateway);
        }
    }
    Ok(())
}

fn split(text: &str, default: u8) -> (&str, Option<u8>) {
    match text.split_once('/') {
        Some((address, prefix)) => (address, prefix.parse().ok()),
        None => (text, Some(default)),
    }
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
    let mut text = String::new();
    match server.stack.address() {
        Some(IpCidr::Ipv4(v4)) => write!(text, "{v4}"),
        Some(IpCidr::Ipv6(v6)) => write!(text, "{v6}"),
        None => Ok(()),
    }
    .unwrap_or_default();
    let driver = net.driver.get(..net.driver_length as usize).and_then(|name| str::from_utf8(name).ok());
    println!("net: {text} on {DEVICE} ({} {})", driver.unwrap_or("?"), EthernetAddress(net.mac));
    name::register(NETWORK, &server.system.port)
}
