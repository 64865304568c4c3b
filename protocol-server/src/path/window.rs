//! The path by window (Reynolds and Heller): the window is mapped, frames are found there, and the server sleeps by suspending its thread.
#![expect(unsafe_code, reason = "the window")]

use abi::{Error, device::NetInfo, socket::Request, supervise::Lease};
use alloc::{boxed::Box, string::String};
use core::time::Duration;
use protocol_server::{
    link::window::{Doorbell, WindowLink},
    server::Server,
};
use smoltcp::wire::IpCidr;
use userlib::{
    device::Device,
    memory,
    message::receive,
    port::ReceiveRight,
    thread::{self, ThreadRef},
};

use crate::{
    DEVICE, Number, announce, chaos, configure,
    guest::{Guest, send},
    limit_ns, link_info, name_of, now, seed,
};

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

/// Opens the device, makes a server of it, and runs that for ever.
pub fn run(number: Number, lease: Option<Lease>) -> Result<(), String> {
    let (mut server, device, net) = start().map_err(|error| alloc::format!("{DEVICE}: {error}"))?;
    configure(&mut server, number, lease)?;
    serve(&mut server, number, device, &net)
}

fn start() -> Result<(GuestServer, &'static Device, NetInfo), Error> {
    // Both live as long as the task.
    let device: &'static Device = Box::leak(Box::new(Device::open(DEVICE)?));
    let window: &'static memory::Mapping = Box::leak(Box::new(device.map_window()?));
    device.bind_thread(&ThreadRef::first())?;
    let net = device.info()?;
    // SAFETY: 1. the mapping is never dropped, and the kernel laid the window out when the device was opened. 2. This is its only use.
    // 3. The kernel gave it to us.
    let link = unsafe { WindowLink::new(window.base(), window.len(), link_info(&net), Bell(device)) };
    let link = link.map_err(|_| Error::PeerMisbehaviour)?;
    let port = ReceiveRight::allocate()?;
    port.bind_thread(Some(&ThreadRef::first()))?;
    Ok((Server::new(link, Guest { port }, seed(), now())?, device, net))
}

/// The loop: passes while there is work, then sleep until a frame, an application, a message or a timer.
fn serve(server: &mut GuestServer, number: Number, device: &Device, net: &NetInfo) -> Result<(), String> {
    let mut registered = false;
    let mut claimed = None;
    let mut passes = 0;
    loop {
        let changes = server.stack.address_changes();
        if claimed != Some(changes) {
            claim(server, number, device)?;
            claimed = Some(changes);
        }
        let worked = server.pass(now());
        if !registered && server.is_up() {
            registered = true;
            announce(server, number, net).map_err(|error| alloc::format!("the name service: {error}"))?;
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

/// Has frames for our addresses come to our window.
fn claim(server: &mut GuestServer, number: Number, device: &Device) -> Result<(), String> {
    let _ = device.disclaim(); // there may be nothing to give up
    let mut lost = None;
    for &address in server.stack.addresses() {
        match (device.claim(address.address().into()), address) {
            (Err(Error::Exists), IpCidr::Ipv6(v6)) if v6.address().is_unicast_link_local() => {
                // All servers of a device have the same one, made of its station address: the first keeps it.
                lost = Some(address);
            }
            (Err(Error::Exists), _) => {
                return Err(alloc::format!("{}: {address} is another server's", name_of(number)));
            }
            _ => {}
        }
    }
    if let Some(address) = lost {
        server.stack.remove_address(address);
    }
    Ok(())
}

/// Answers what has come.
fn answer_messages(server: &mut GuestServer) {
    for _ in 0..MESSAGES {
        let Ok(mut incoming) = receive(&server.system.port, Some(Duration::ZERO)) else { return };
        if Request::from_raw(incoming.id).is_none() {
            chaos::obey(&incoming);
        }
        // The server keeps the carried right or gives it up.
        if let Some(carried) = incoming.take_carried() {
            let _ = carried.into_name();
        }
        let Some(reply) = server.request(&incoming) else { continue };
        send(&reply, incoming.take_reply());
    }
}
