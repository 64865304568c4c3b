//! The protocol server's task: opens the device, maps its window, and runs [`protocol_server::server::Server`] for ever.
//!
//! What it takes from the kernel's command line is in [`protocol_server::config`]. When there is an address the server says so and
//! registers as `net`.
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
use core::{ptr::NonNull, time::Duration};
use protocol_server::{
    link::{
        LinkInfo,
        window::{Doorbell, WindowLink},
    },
    server::Server,
    system::{Exclusive, SharedMemory, System},
};
use smoltcp::time::Instant;
use userlib::{
    device::Device,
    info, memory,
    message::{Outgoing, receive},
    name,
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

fn main(_: userlib::entry::Args) -> Result<(), String> {
    let (mut server, net) = start().map_err(|error| alloc::format!("{DEVICE}: {error}"))?;
    server.configure(info::option).map_err(|error| alloc::format!("{error}"))?;
    run(&mut server, &net)
}

/// Opens the device and makes a server of it.
fn start() -> Result<(GuestServer, NetInfo), Error> {
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
    Ok((Server::new(link, Guest { port }, seed, now())?, net))
}

/// The loop: passes while there is work, then sleep until a frame, an application, a message or a timer.
fn run(server: &mut GuestServer, net: &NetInfo) -> Result<(), String> {
    let mut registered = false;
    let mut passes = 0;
    loop {
        let worked = server.pass(now());
        if !registered && server.is_up() {
            registered = true;
            announce(server, net).map_err(|error| alloc::format!("the name service: {error}"))?;
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

/// Says where we are, and registers.
fn announce(server: &GuestServer, net: &NetInfo) -> Result<(), Error> {
    println!("{}", server.announcement(DEVICE, net));
    name::register(NETWORK, &server.system.port)
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
