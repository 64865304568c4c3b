//! The path by message (Mach 3.0): frames and requests are messages, and the server waits for both by one receive.
//!
//! All that comes, comes to a port of a set: frames to the port of the packet filter, requests to the port that applications know. The answer
//! to a read or a write goes out with the next receive, in one trap. A message waits until it is taken, so nothing is announced, and
//! applications ring no bell.
#![expect(unsafe_code, reason = "bytes of pages that are this task's alone")]

use abi::{
    Error,
    device::NetInfo,
    message::{DATA_MAX, Message, NET_FRAME, frame},
    socket::Request,
    supervise::Lease,
};
use alloc::{string::String, vec};
use protocol_server::{
    frame::ChecksumRequest,
    link::message::{Arrived, MessageLink, Pages, Port, filter},
    server::Server,
};
use smoltcp::wire::{IpCidr, Ipv4Cidr};
use userlib::{
    device::Device,
    info, memory,
    port::{PortSet, ReceiveRight},
    rpc::{Answer, Payload, Received, answer_and_receive},
    thread,
};

use crate::{
    DEVICE, Number, announce, chaos, configure,
    guest::{Guest, send},
    limit_ns, link_info, now, seed,
};

/// How long what cannot wait for long waits, in nanoseconds: writes for company, frames for room in the device, messages for room here.
/// It's a tick of the clock, which by window is how long writes gather.
const SOON_NS: u64 = 1_000_000;

type GuestServer = Server<MessageLink<Frames>, Guest>;

/// A page of this task's own.
struct Page(memory::Mapping);

impl Pages for Page {
    fn bytes(&self) -> &[u8] {
        // SAFETY: memory of this task's own, mapped as long as `self`; nobody else maps it, and no other reference outlives the borrow.
        unsafe { core::slice::from_raw_parts(self.0.base().as_ptr(), self.0.len()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.0.base().as_ptr(), self.0.len()) }
    }
}

/// The device, and the port that its frames come to.
struct Frames {
    device: Device,
    port: ReceiveRight,
    /// Room for a message.
    message: Message,
    /// The address that the filter is for.
    address: Option<Ipv4Cidr>,
}

impl Frames {
    /// Asks for what a server with this address wants.
    fn set_filter(&mut self, address: Option<Ipv4Cidr>) -> Result<(), Error> {
        let program = filter::program(address);
        let words = program.words().ok_or(Error::TooLong)?;
        // Where several servers run, what is for a group or for all is for each of them.
        let shared = info::option("servers").is_some_and(|count| count != "1");
        self.device.set_filter(&self.port, filter::PRIORITY, shared, words)?;
        self.address = address;
        Ok(())
    }
}

/// What a message says of the frame that it brings.
#[inline]
fn arrived(message: &mut Received<'_>) -> Arrived<Page> {
    Arrived {
        length: message.data_length as usize,
        checksum_good: message.word(0).is_some_and(|word| word & frame::CHECKSUM_GOOD != 0),
        page: message.take_pages().map(Page),
    }
}

/// As the kernel wants it.
fn checksum_word(checksum: Option<ChecksumRequest>) -> u32 {
    checksum.map_or(0, |request| u32::from(request.start) | u32::from(request.offset) << 16)
}

impl Port for Frames {
    type Page = Page;

    #[inline]
    fn receive(&mut self, room: &mut [u8]) -> Option<Arrived<Page>> {
        answer_and_receive(None, &self.port, &mut self.message, room, 0)
            .ok()
            .map(|mut message| arrived(&mut message))
    }

    #[inline]
    fn write(&mut self, frame: &[u8], checksum: Option<ChecksumRequest>) -> bool {
        self.device.write(frame, checksum_word(checksum)) != Err(Error::QueueFull)
    }

    fn write_page(
        &mut self,
        page: Page,
        length: usize,
        checksum: Option<ChecksumRequest>,
    ) -> Result<(), Page> {
        match self.device.write_page(page.0, length, checksum_word(checksum)) {
            Err((Error::QueueFull, page)) => Err(Page(page)),
            _ => Ok(()), // as in `write`: what the device will not have is lost
        }
    }

    fn page(&mut self) -> Option<Page> {
        memory::Mapping::allocate(1).ok().map(Page)
    }
}

/// Opens the device, makes a server of it, and runs that for ever.
pub fn run(number: Number, lease: Option<Lease>) -> Result<(), String> {
    let (mut server, ports, net) = start().map_err(|error| alloc::format!("{DEVICE}: {error}"))?;
    configure(&mut server, number, lease)?;
    serve(&mut server, &ports, (number, &net))
}

fn start() -> Result<(GuestServer, PortSet, NetInfo), Error> {
    let device = Device::open(DEVICE)?;
    let net = device.info()?;
    let (frames, requests, ports) =
        (ReceiveRight::allocate()?, ReceiveRight::allocate()?, PortSet::allocate()?);
    ports.add(&frames)?;
    ports.add(&requests)?;
    let mut frames = Frames { device, port: frames, message: Message::new(0, 0), address: None };
    frames.set_filter(None)?;
    let link = MessageLink::new(link_info(&net), frames, info::out_of_line_bytes());
    let mut server = Server::new(link, Guest { port: requests }, seed(), now())?;
    server.keep_ends();
    Ok((server, ports, net))
}

/// The loop: a message, or the end of a wait; what it makes to be done; and the next, with the answer to the last.
fn serve(server: &mut GuestServer, ports: &PortSet, who: (Number, &NetInfo)) -> Result<(), String> {
    let out_of_line = info::out_of_line_bytes();
    let mut out = vec![0; DATA_MAX].into_boxed_slice();
    // The last that came, and the answer to it.
    let (mut incoming, mut reply) = (Message::new(0, 0), Message::new(0, 0));
    let mut registered = false;
    let mut answer: Option<Answer<'_>> = None;
    pass(server, who, &mut registered)?;
    loop {
        let limit = wait_limit(server);
        let mut room = server.stack.link.take_room();
        // The last answer is moved here, and with it the borrow of `out` ends.
        let received = answer_and_receive(answer, ports, &mut incoming, &mut room, limit);
        answer = None;
        match received {
            Ok(mut message) if message.id == NET_FRAME => {
                let frame = arrived(&mut message);
                server.stack.link.hand(room, frame);
                pass(server, who, &mut registered)?;
            }
            Ok(message) => {
                let transferred = transfer(server, message, &mut out, &mut reply, out_of_line);
                server.stack.link.give_room(room);
                match transferred {
                    Some(transferred) => answer = transferred,
                    None => pass(server, who, &mut registered)?,
                }
            }
            Err(error) => {
                server.stack.link.give_room(room);
                if !matches!(error, Error::TimedOut | Error::WouldBlock) {
                    // No place for the rights of the message, say. Others are asked to give theirs back meanwhile.
                    let _ = thread::suspend_ns(SOON_NS);
                }
                pass(server, who, &mut registered)?;
            }
        }
    }
}

/// How long the server may wait for the next message, in nanoseconds.
fn wait_limit(server: &mut GuestServer) -> u64 {
    if server.is_unfinished() {
        return 0;
    }
    let limit = limit_ns(server.next_deadline());
    if server.gathers() || server.stack.link.has_kept() { limit.min(SOON_NS) } else { limit }
}

/// One pass, and what follows from a new address.
fn pass(
    server: &mut GuestServer,
    (number, net): (Number, &NetInfo),
    registered: &mut bool,
) -> Result<(), String> {
    server.pass(now());
    server.publish_counters();
    let address = match server.stack.address() {
        Some(IpCidr::Ipv4(v4)) => Some(v4),
        _ => None,
    };
    let frames = server.stack.link.port();
    if frames.address != address {
        frames.set_filter(address).map_err(|error| alloc::format!("{DEVICE}: the packet filter: {error}"))?;
    }
    if !*registered && server.is_up() {
        *registered = true;
        announce(server, number, net).map_err(|error| alloc::format!("the name service: {error}"))?;
    }
    Ok(())
}

/// Does what a message asks. The answer to a read or a write, which is to go with the next receive; `None` for all else, which has been
/// answered, and after which sockets are to be served.
#[inline]
fn transfer<'o>(
    server: &mut GuestServer,
    mut message: Received<'_>,
    out: &'o mut [u8],
    reply: &'o mut Message,
    out_of_line: usize,
) -> Option<Option<Answer<'o>>> {
    let mut pages = None;
    let transferred = server.transfer(
        &message,
        message.data(),
        |length| {
            let length = length.min(DATA_MAX);
            if length >= out_of_line
                && let Ok(mapping) = memory::Mapping::allocate(length)
            {
                return pages.insert(Page(mapping)).bytes_mut();
            }
            &mut out[..length]
        },
        now,
        reply,
    );
    if !transferred {
        answer_message(server, message);
        return None;
    }
    let length = reply.data_length as usize;
    let payload = match pages {
        Some(Page(mapping)) if length != 0 => Payload::Pages(mapping, length),
        Some(_) => Payload::Inline(&[]),
        None => Payload::Inline(&out[..length]),
    };
    Some(message.take_reply().map(|to| Answer { to, message: reply, payload }))
}

/// Does what a message asks that is no read or write, and answers it.
#[cold]
fn answer_message(server: &mut GuestServer, mut message: Received<'_>) {
    if Request::from_raw(message.id).is_none() {
        chaos::obey(&message);
    }
    // The server keeps the carried right or gives it up.
    if let Some(carried) = message.take_carried() {
        let _ = carried.into_name();
    }
    if let Some(reply) = server.request(&message) {
        send(&reply, message.take_reply());
    }
}
