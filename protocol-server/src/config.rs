//! What the kernel's command line says about addresses, for whoever runs the server.
//!
//! `ip=ADDRESS/PREFIX` or `ip=dhcp` (which is also what is done without it), `gw=ADDRESS`, `ip6=ADDRESS/PREFIX`.

use abi::device::NetInfo;
use core::fmt;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Cidr};

use crate::{link::Link, server::Server, system::System};

/// An option that says what is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddress<'l> {
    /// The option.
    pub key: &'static str,
    /// What it says.
    pub value: &'l str,
}

impl fmt::Display for NoAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} is no address", self.key, self.value)
    }
}

impl<L: Link, S: System> Server<L, S> {
    /// Does what the command line says, of which `option` gives the value of a key.
    ///
    /// # Errors
    /// The first option that is wrong.
    pub fn configure<'l>(&mut self, option: impl Fn(&str) -> Option<&'l str>) -> Result<(), NoAddress<'l>> {
        if let Some(value) = option("ip6") {
            let (address, prefix) = split(value, 64);
            let prefix = prefix.filter(|&prefix| prefix <= 128);
            let (Ok(address), Some(prefix)) = (address.parse(), prefix) else {
                return Err(NoAddress { key: "ip6", value });
            };
            self.stack.add_ipv6(Ipv6Cidr::new(address, prefix));
        }
        match option("ip") {
            None | Some("dhcp") => self.use_dhcp(),
            Some(value) => {
                let (address, prefix) = split(value, 24);
                let prefix = prefix.filter(|&prefix| prefix <= 32);
                let (Ok(address), Some(prefix)) = (address.parse(), prefix) else {
                    return Err(NoAddress { key: "ip", value });
                };
                let gateway: Option<Ipv4Address> = match option("gw") {
                    None => None,
                    Some(value) => Some(value.parse().map_err(|_| NoAddress { key: "gw", value })?),
                };
                self.stack.set_ipv4(Some(Ipv4Cidr::new(address, prefix)), gateway);
            }
        }
        Ok(())
    }

    /// The line that says where we are.
    pub fn announcement<'n>(&self, name: &'n str, device: &'n str, net: &'n NetInfo) -> Announcement<'n> {
        Announcement { address: self.stack.address(), name, device, net }
    }
}

/// The line that says where a server is, without its end.
#[derive(Clone, Copy, Debug)]
pub struct Announcement<'n> {
    address: Option<IpCidr>,
    name: &'n str,
    device: &'n str,
    net: &'n NetInfo,
}

impl fmt::Display for Announcement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        if let Some(address) = self.address {
            write!(f, "{address}")?;
        }
        let driver = self.net.driver.get(..self.net.driver_length as usize);
        let driver = driver.and_then(|name| str::from_utf8(name).ok()).unwrap_or("?");
        write!(f, " on {} ({driver} {})", self.device, EthernetAddress(self.net.mac))
    }
}

fn split(text: &str, default: u8) -> (&str, Option<u8>) {
    match text.split_once('/') {
        Some((address, prefix)) => (address, prefix.parse().ok()),
        None => (text, Some(default)),
    }
}
