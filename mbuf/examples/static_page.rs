//! A server that sends a document without copying it: the document lies in external storage, each packet refers to a part of it
//! behind a header of its own, and the device gathers both. While it is on its way a new version is put beside it; the
//! pages of the old one are written again when the last packet of it has left.
//!
//! ```text
//! cargo run --release -p mbuf --example static_page [CLIENTS]
//! ```
//! One thread is the server, with its side of the free space; another is the driver with its device, which takes
//! packets from the OUT queue, checks every byte of them against the version that their header names, and leaves the buffers on the
//! deferred-free queue, since only the server knows who else refers to them.
#![expect(unsafe_code, reason = "makes the memory that the two sides share, and reads it as a device does")]

use std::{
    alloc::{Layout, alloc_zeroed},
    env,
    ops::ControlFlow,
    process::ExitCode,
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use mbuf::{
    EXTERNAL_PAGE_BYTES, ExternalPage, Geometry, InterruptSpace, NoLedger, Places, ProtocolSpace, View,
};
use shmqueue::{DualQueue, InConsumer, InProducer, Item, OutConsumer, OutProducer, copy::copy_out};

/// The document: three versions of it fit into the storage side by side.
const DOCUMENT_BYTES: u32 = 50_000;
const DOCUMENT_PAGES: u32 = DOCUMENT_BYTES.div_ceil(EXTERNAL_PAGE_BYTES);
const VERSIONS_AT_ONCE: usize = 3;
const PAGES: usize = DOCUMENT_PAGES as usize * VERSIONS_AT_ONCE;
/// What a packet carries of it.
const PART_BYTES: u32 = 1460;
/// Client, version, and where in the document the part begins.
const HEADER_BYTES: u32 = 12;
/// A new version after so many clients.
const CLIENTS_PER_VERSION: u32 = 10;

fn byte(version: u32, at: u32) -> u8 {
    (version.wrapping_mul(97) ^ at ^ at >> 8) as u8
}

/// What both threads see: the window, and the control blocks of the queues.
struct Shared {
    base: NonNull<u8>,
    geometry: Geometry,
    out: DualQueue,
    deferred: DualQueue,
    done: AtomicBool,
}

// SAFETY: the window is reached through views and raw pointers only; all else is atomics.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> Self {
        let places =
            Places::packed(64, 2, 128, 1).and_then(|p| p.with_external(PAGES as u32 * EXTERNAL_PAGE_BYTES));
        let geometry = Geometry::new(places.expect("it fits")).expect("packed places are good");
        let layout =
            Layout::from_size_align(geometry.places().window_bytes as usize, 4096).expect("a layout");
        // SAFETY: the layout is not empty. The window lives as long as the program.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        let shared = Self {
            base,
            geometry,
            out: DualQueue::new(),
            deferred: DualQueue::new(),
            done: AtomicBool::new(false),
        };
        mbuf::init(&shared.view());
        shared
    }

    fn view(&self) -> View<'_> {
        // SAFETY: the window is as large as the geometry says, is never freed, and is used through views and raw pointers.
        unsafe { View::new(self.base, self.geometry) }
    }
}

/// The server.
struct Server<'w> {
    space: ProtocolSpace<'w>,
    out: OutProducer<'w, View<'w>>,
    deferred: InConsumer<'w, View<'w>>,
    /// The version that clients get, as a packet of the server's own that keeps the storage in use.
    current: Option<(u32, Item)>,
    /// Starts of storage that no version is in.
    unused: Vec<u32>,
    written: u32,
}

impl<'w> Server<'w> {
    fn new(shared: &'w Shared, pages: &'w mut [ExternalPage]) -> Self {
        let start = shared.geometry.places().external;
        Self {
            space: ProtocolSpace::with_external(shared.view(), pages),
            out: OutProducer::new(&shared.out, shared.view()),
            deferred: InConsumer::new(&shared.deferred, shared.view()),
            current: None,
            unused: (0..VERSIONS_AT_ONCE as u32)
                .map(|n| start + n * DOCUMENT_PAGES * EXTERNAL_PAGE_BYTES)
                .collect(),
            written: 0,
        }
    }

    /// What the driver has given back, and with it whole versions that nobody reads any more.
    fn collect(&mut self) {
        self.space.drain_deferred(&mut self.deferred, usize::MAX).expect("an honest driver");
        while let Some((start, _)) = self.space.take_unreferenced() {
            self.unused.push(start);
        }
    }

    /// Writes the next version where no packet refers to, and withdraws the one before.
    fn publish(&mut self, version: u32) {
        let start = loop {
            if let Some(start) = self.unused.pop() {
                break start;
            }
            self.collect();
            thread::yield_now();
        };
        let (storage, _) = self.space.view().external_ptr().expect("there is storage");
        let from = start - self.space.view().geometry().places().external;
        for at in 0..DOCUMENT_BYTES {
            // SAFETY: inside of the storage, in pages that were given back or never used: nobody reads them.
            unsafe { storage.add((from + at) as usize).write_volatile(byte(version, at)) };
        }
        self.written += 1;
        let document = self.space.attach_external(start, DOCUMENT_BYTES).expect("pages that are free");
        if let Some((_, old)) = self.current.replace((version, document)) {
            // Its storage stays until the packets that carry it are back.
            self.space.free_chain(old);
        }
    }

    /// The document to one client: references and headers.
    fn serve(&mut self, client: u32) -> u32 {
        let (version, document) = self.current.expect("a version was published");
        let mut packets = 0;
        for at in (0..DOCUMENT_BYTES).step_by(PART_BYTES as usize) {
            let len = PART_BYTES.min(DOCUMENT_BYTES - at);
            let packet = loop {
                let part = self.space.copy_range(document, at, len);
                match part.and_then(|part| {
                    self.space.prepend(part, HEADER_BYTES).inspect_err(|_| self.space.free_chain(part))
                }) {
                    Ok(packet) => break packet,
                    Err(_) => {
                        // All mbufs are on their way.
                        self.collect();
                        thread::yield_now();
                    }
                }
            };
            self.write_header(packet, [client, version, at]);
            self.out.append(packet).expect("the server's own packet");
            // The driver here looks by itself; a real one is started where this says so.
            let _ = self.out.consumer_idle();
            packets += 1;
        }
        packets
    }

    fn write_header(&self, packet: Item, words: [u32; 3]) {
        let (at, len) = self.space.view().data_ptr(packet).expect("a good packet");
        assert_eq!(len, HEADER_BYTES, "the header has an mbuf of its own");
        for (i, word) in words.into_iter().enumerate() {
            // SAFETY: inside of the mbuf's 12 bytes, which are the server's.
            unsafe { at.add(4 * i).cast::<[u8; 4]>().write_volatile(word.to_le_bytes()) };
        }
    }
}

/// The driver and its device: packets that were right.
fn drive(shared: &Shared) -> Result<u32, String> {
    let view = shared.view();
    let mut space = InterruptSpace::new(view);
    let mut out = OutConsumer::new(&shared.out, view);
    let mut deferred = InProducer::new(&shared.deferred, view);
    let (mut right, mut wrong) = (0, None);
    loop {
        // Loaded before the look: what was appended before it was set is then found.
        let done = shared.done.load(Ordering::Acquire);
        let mut sent = Vec::new();
        let drained = out.drain(64, |item| {
            match transmit(&view, item) {
                Ok(()) => right += 1,
                Err(what) => wrong = Some(what),
            }
            sent.push(item);
            ControlFlow::Continue(())
        });
        let _ = drained.map_err(|misbehaviour| misbehaviour.to_string())?;
        // The header's mbuf is simple, but it is the first of a chain: all of these are deferred.
        space
            .try_free(&sent, &mut NoLedger, |item| deferred.append(item).expect("room without bounds"))
            .map_err(|misbehaviour| misbehaviour.to_string())?;
        if let Some(what) = wrong {
            return Err(what);
        }
        if sent.is_empty() {
            if done {
                return Ok(right);
            }
            thread::yield_now();
        }
    }
}

/// Gathers a packet as the device would, by its mbufs, and compares it with what its header says.
fn transmit(view: &View<'_>, packet: Item) -> Result<(), String> {
    let mut frame = Vec::new();
    let mut next = Some(packet);
    while let Some(item) = next {
        let (data, len) = view.data_ptr(item).ok_or("an mbuf that leads nowhere")?;
        let mut piece = vec![0; len as usize];
        // SAFETY: the view has checked that so many bytes are valid.
        unsafe { copy_out(&mut piece, data.as_ptr()) };
        frame.extend(piece);
        next = view.mbuf(item).ok_or("no mbuf")?.next();
    }
    let (header, part) = frame.split_at_checked(HEADER_BYTES as usize).ok_or("a short frame")?;
    let word = |i: usize| u32::from_le_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    let (client, version, at) = (word(0), word(4), word(8));
    if (0u32..).zip(part).all(|(i, got)| *got == byte(version, at + i)) && !part.is_empty() {
        Ok(())
    } else {
        Err(format!("client {client} got other bytes at {at} than version {version} has there"))
    }
}

fn main() -> ExitCode {
    let clients = match env::args().nth(1).map_or(Ok(200), |text| text.parse::<u32>()) {
        Ok(clients) => clients,
        Err(error) => {
            eprintln!("usage: static_page [CLIENTS]: {error}");
            return ExitCode::from(2);
        }
    };
    let shared = Shared::new();
    let mut pages = [ExternalPage::FREE; PAGES];
    let mut server = Server::new(&shared, &mut pages);
    let mut packets = 0;
    let result = thread::scope(|scope| {
        let driver = scope.spawn(|| {
            let result = drive(&shared);
            if let Err(what) = &result {
                // The server would wait for buffers for ever.
                eprintln!("static_page: {what}");
                std::process::exit(1);
            }
            result
        });
        for client in 0..clients {
            if client % CLIENTS_PER_VERSION == 0 {
                server.publish(client / CLIENTS_PER_VERSION);
            }
            packets += server.serve(client);
        }
        shared.done.store(true, Ordering::Release);
        driver.join().expect("the driver ends")
    });
    if let Some((_, document)) = server.current.take() {
        server.space.free_chain(document);
    }
    server.collect();
    let free = shared.view().audit();
    let whole = matches!(free, Ok(free) if free.mbufs == shared.geometry.mbufs());
    println!(
        "{clients} clients, {packets} packets, {} right, {} versions written, {} of {VERSIONS_AT_ONCE} places free, {}",
        result.as_ref().copied().unwrap_or_default(),
        server.written,
        server.unused.len(),
        if whole { "no buffer lost" } else { "buffers are missing" }
    );
    let right = result == Ok(packets) && server.unused.len() == VERSIONS_AT_ONCE && whole;
    if right && server.space.misbehaviour().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
