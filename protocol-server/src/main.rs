//! The protocol server's task: opens the device, maps its window, and runs [`protocol_server::server::Server`] for ever.
//!
//! From the kernel's command line: `ip=ADDRESS/PREFIX` or `ip=dhcp` (which is also what is done without it), `gw=ADDRESS`,
//! `ip6=ADDRESS/PREFIX`. When there is an address the server says so and registers as `net`.
//!
//! Where several servers run, each has a number as its argument. That of number 1 goes by `ip1=`, `gw1=`, `ip61=`, and registers as `net1`.
//! Each claims its addresses for its window: the kernel's driver looks at them. They share one station address, so DHCP would give all of
//! them the same address, and who is told that an address is another's ends: no more than one of them can use it.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "the window, and the promise about mapped memory objects")]

extern crate alloc;

use abi::{
    Error,
    device::NetInfo,
    message::{Disposition, Message},
    name::NETWORK,
    port::NULL,
};
use alloc::{boxed::Box, string::String};
use core::{fmt::Write, ptr::NonNull, time::Duration};
use protocol_server::{
    link::{
        LinkInfo,
        window::{Doorbell, WindowLink},
    },
    server::Server,
    system::{Exclusive, SharedMemory, System},
};
use smoltcp::{
    time::Instant,
    wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Cidr},
};
use userlib::{
    device::Device,
    info, memory,
    message::{Outgoing, receive},
    port::{ReceiveRight, Right, SendRight, WellKnown},
    println,
    thread::{self, ThreadRef},
    time,
};

userlib::entry!(main);

/// The device that is served.
const DEVICE: &str = "net0";
/// Passes with work after which messages are looked for without having been announced.
const PASSES_BETWEEN_MESSAGES: u32 = 64;
/// Messages answered in one go.
const MESSAGES: usize = 32;

type GuestServer = Server<WindowLink<'static, Bell>, Guest>;

/// Starts the device by a trap.
struct Bell(&'static Device);

impl Doorbell for Bell {
    #[inline]
    fn start(&self) {
        // Fails only when the kernel has closed the window; the next receive says so.
        let _ = self.0.start();
    }

    fn audit(&self) -> abi::device::Audit {
        self.0.audit().unwrap_or_default()
    }
}

/// A memory object, mapped, and the right to it that an application is to have.
struct Mapped {
    mapping: memory::Mapping,
    right: Option<Right>,
}

// SAFETY: 1. a `Mapping` stays where it is, page aligned, until it is dropped. 2. It is private: only its address is given out.
unsafe impl SharedMemory for Mapped {
    fn address(&self) -> NonNull<u8> {
        self.mapping.base()
    }

    fn length(&self) -> usize {
        self.mapping.len()
    }

    fn take_right(&mut self) -> u32 {
        self.right.take().map_or(NULL, Right::into_name)
    }
}

/// The system around the server: system calls.
struct Guest {
    port: ReceiveRight,
}

/// Runs `call` with a right that stays the caller's.
fn borrowed<T>(name: u32, own: fn(Right) -> T, call: impl FnOnce(&T), disown: fn(T) -> Right) {
    if let Some(right) = Right::from_name(name) {
        let owned = own(right);
        call(&owned);
        let _ = disown(owned).into_name();
    }
}

impl System for Guest {
    type Memory = Mapped;

    fn shared_memory(&mut self, length: usize) -> Result<Mapped, Error> {
        let object = memory::MemoryObject::create(length)?;
        let mapping = object.map_shared(length)?;
        Ok(Mapped { mapping, right: Some(object.into_right()) })
    }

    fn exclusive_memory(&mut self, length: usize) -> Result<Exclusive<Mapped>, Error> {
        let object = memory::MemoryObject::create(length)?;
        let mapping = object.map_shared(length)?;
        let right = object.read_only()?.into_right();
        drop(object);
        // SAFETY: the kernel maps by the right that is left for reading only, and whoever copies it gets one like it. The one that
        // could write was this task's alone and is gone; the mapping made by it is in the value.
        Ok(unsafe { Exclusive::new(Mapped { mapping, right: Some(right) }) })
    }

    fn read_only(&mut self, name: u32) -> Result<u32, Error> {
        let mut outcome = Err(Error::BadName);
        let make = |object: &memory::MemoryObject| {
            outcome = object.read_only().map(|new| new.into_right().into_name());
        };
        borrowed(name, memory::MemoryObject::new, make, memory::MemoryObject::into_right);
        outcome
    }

    #[inline]
    fn resume(&mut self, thread: u32) {
        let resume = |thread: &ThreadRef| {
            let _ = thread.resume(); // it may have died
        };
        borrowed(thread, ThreadRef::new, resume, ThreadRef::into_right);
    }

    fn watch(&mut self, thread: u32) -> bool {
        let mut watched = false;
        let watch = |right: &SendRight| watched = right.notify_dead(&self.port).is_ok();
        borrowed(thread, SendRight::new, watch, SendRight::into_right);
        watched
    }

    fn release(&mut self, name: u32) {
        drop(Right::from_name(name));
    }
}

fn now() -> Instant {
    Instant::from_micros((time::now_ns() / 1000) as i64)
}

/// Which server this is, of several.
struct Identity {
    /// What stands behind its options and its name; nothing for the first.
    number: &'static str,
    /// Its name.
    name: String,
    device: &'static Device,
    net: NetInfo,
}

fn main(mut args: userlib::entry::Args) -> Result<(), String> {
    let number = args.next().unwrap_or("");
    let (mut server, device, net) = start().map_err(|error| alloc::format!("{DEVICE}: {error}"))?;
    let name = str::from_utf8(NETWORK).unwrap_or_default();
    let identity = Identity { number, name: alloc::format!("{name}{number}"), device, net };
    configure(&mut server, &identity)?;
    run(&mut server, &identity)
}

/// Opens the device and makes a server of it.
fn start() -> Result<(GuestServer, &'static Device, NetInfo), Error> {
    // Both live as long as the task.
    let device: &'static Device = Box::leak(Box::new(Device::open(DEVICE)?));
    let window: &'static memory::Mapping = Box::leak(Box::new(device.map_window()?));
    device.bind_thread(&ThreadRef::first())?;
    let net = device.info()?;
    let link_info =
        LinkInfo { mac: net.mac, frame_bytes_max: net.frame_bytes_max as usize, offload: net.offload };
    // SAFETY: 1. the mapping is never dropped, and the kernel laid the window out when the device was opened. 2. This is its only use.
    // 3. The kernel gave it to us.
    let link = unsafe { WindowLink::new(window.base(), window.len(), link_info, Bell(device)) };
    let link = link.map_err(|_| Error::PeerMisbehaviour)?;
    let port = ReceiveRight::allocate()?;
    port.bind_thread(Some(&ThreadRef::first()))?;
    let seed = userlib::task::entropy().unwrap_or_else(|_| time::now_ns());
    Ok((Server::new(link, Guest { port }, seed, now())?, device, net))
}

/// Does what the command line says about addresses.
fn configure(server: &mut GuestServer, Identity { number, .. }: &Identity) -> Result<(), String> {
    let option = |key: &str| info::option(&alloc::format!("{key}{number}"));
    let wrong = |key: &str, value: &str| alloc::format!("{key}{number}={value} is no address");
    if let Some(text) = option("ip6") {
        let (address, prefix) = split(text, 64);
        let prefix = prefix.filter(|&prefix| prefix <= 128);
        let (Ok(address), Some(prefix)) = (address.parse(), prefix) else { return Err(wrong("ip6", text)) };
        server.stack.add_ipv6(Ipv6Cidr::new(address, prefix));
    }
    match option("ip") {
        None | Some("dhcp") => server.use_dhcp(),
        Some(text) => {
            let (address, prefix) = split(text, 24);
            let prefix = prefix.filter(|&prefix| prefix <= 32);
            let (Ok(address), Some(prefix)) = (address.parse(), prefix) else {
                return Err(wrong("ip", text));
            };
            let gateway: Option<Ipv4Address> = match option("gw") {
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

/// The loop: passes while there is work, then sleep until a frame, an application, a message or a timer.
fn run(server: &mut GuestServer, identity: &Identity) -> Result<(), String> {
    let mut registered = false;
    let mut claimed = None;
    let mut passes = 0;
    loop {
        let changes = server.stack.address_changes();
        if claimed != Some(changes) {
            claim(server, identity)?;
            claimed = Some(changes);
        }
        let worked = server.pass(now());
        if !registered && server.is_up() {
            registered = true;
            announce(server, identity).map_err(|error| alloc::format!("the name service: {error}"))?;
        }
        if worked {
            passes += 1;
            if passes % PASSES_BETWEEN_MESSAGES == 0 {
                answer_messages(server);
            }
        }
        if server.is_unfinished() {
            continue;
        }
        // No second pass to see that there is nothing more: getting ready to sleep looks for itself.
        if let Some(misbehaviour) = server.stack.link.misbehaviour() {
            return Err(alloc::format!("{DEVICE}: {misbehaviour}"));
        }
        let Some(deadline) = server.prepare_sleep() else { continue };
        let woken = thread::suspend_ns(limit_ns(deadline));
        server.wake();
        if woken.is_ok_and(thread::Wake::message) {
            answer_messages(server);
        }
    }
}

/// From a deadline in microseconds to a limit in nanoseconds.
fn limit_ns(deadline: i64) -> u64 {
    if deadline == i64::MAX {
        return abi::syscall::FOREVER;
    }
    (deadline as u64).saturating_mul(1000).saturating_sub(time::now_ns())
}

/// Has frames for our addresses come to our window.
fn claim(server: &mut GuestServer, Identity { name, device, .. }: &Identity) -> Result<(), String> {
    let _ = device.disclaim(); // there may be nothing to give up
    let mut lost = None;
    for &address in server.stack.addresses() {
        match (device.claim(address.address().into()), address) {
            (Err(Error::Exists), IpCidr::Ipv6(v6)) if v6.address().is_unicast_link_local() => {
                // All servers of a device have the same one, made of its station address: the first keeps it.
                lost = Some(address);
            }
            (Err(Error::Exists), _) => {
                return Err(alloc::format!("{name}: {address} is another server's"));
            }
            _ => {}
        }
    }
    if let Some(address) = lost {
        server.stack.remove_address(address);
    }
    Ok(())
}

/// Says where we are, and registers.
fn announce(server: &GuestServer, Identity { name, net, .. }: &Identity) -> Result<(), Error> {
    let mut text = String::new();
    match server.stack.address() {
        Some(IpCidr::Ipv4(v4)) => write!(text, "{v4}"),
        Some(IpCidr::Ipv6(v6)) => write!(text, "{v6}"),
        None => Ok(()),
    }
    .unwrap_or_default();
    let driver = net.driver.get(..net.driver_length as usize).and_then(|name| str::from_utf8(name).ok());
    println!("{name}: {text} on {DEVICE} ({} {})", driver.unwrap_or("?"), EthernetAddress(net.mac));
    userlib::name::register(name.as_bytes(), &server.system.port)
}

/// Answers what has come.
fn answer_messages(server: &mut GuestServer) {
    for _ in 0..MESSAGES {
        let Ok(mut incoming) = receive(&server.system.port, Some(Duration::ZERO)) else { return };
        // The server keeps the carried right or gives it up.
        if let Some(carried) = incoming.take_carried() {
            let _ = carried.into_name();
        }
        let Some(reply) = server.request(&incoming) else { continue };
        send(&reply, incoming.take_reply());
    }
}

/// Sends a reply; rights that move with it are given up where it cannot be sent.
fn send(reply: &Message, to: Option<Right>) {
    let mut outgoing = Outgoing::with_bytes(reply.id, reply.bytes());
    if let Some(carried) = Right::from_name(reply.carried) {
        outgoing = outgoing.carry_move(carried);
    }
    if reply.reply_disposition == Disposition::Move.raw() {
        if let Some(moved) = Right::from_name(reply.reply) {
            outgoing = outgoing.reply_move(moved);
        }
    } else if reply.reply != NULL {
        outgoing = outgoing.reply_copy(WellKnown::Thread as u32);
    }
    if let Some(to) = to {
        let _ = outgoing.answer(to); // who asked may have died
    }
}
