//! A socket's memory object: the page that application and server share, and the two rings.
//!
//! The application can write every byte of it at any time. So what decides about memory safety (addresses, capacities, the server's own
//! ring positions) is kept here, words are atomics, and ring bytes are copied by [`shmqueue::copy`]; a word that
//! cannot be is [`PeerMisbehaviour`](abi::Error::PeerMisbehaviour) and costs the application this one socket.
//!
//! The bytes of a connection's receive ring are not here: they are smoltcp's buffer ([`crate::socket::set`]). Of that ring the page has
//! the two positions, [`take_consumed`](SocketPage::take_consumed) and [`publish_received`](SocketPage::publish_received).
#![expect(unsafe_code, reason = "turns the addresses of a shared memory object into atomics and rings, once")]

use abi::{
    Error,
    socket::{Endpoint, MAGIC, Page, RECORD_BYTES, Record},
};
use core::{
    ptr::NonNull,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
};
use shmqueue::{
    Poster, WaitWord,
    bytes::{Consumer, Control, Producer},
    copy::copy_in,
};

use crate::{socket::end::Ring, system::SharedMemory};

/// The page and its rings. Fields drop in order: what points into the memory before the memory.
pub struct SocketPage<M> {
    /// Datagrams to the application; of a connection `None`.
    records: Option<Producer<'static>>,
    /// From the application.
    pub tx: Consumer<'static>,
    words: Words,
    poster: Poster,
    /// Of a connection's receive ring: up to where the application has read, as was checked.
    rx_head: u32,
    /// And up to where it may read.
    rx_tail: u32,
    tx_bytes: u32,
    /// Kept mapped for as long as the above are here.
    memory: M,
}

/// The first page as words. Private to this module, so that none outlives the memory.
#[derive(Clone, Copy)]
struct Words(&'static [AtomicU32; Page::RINGS_AT / 4]);

impl Words {
    #[inline(always)]
    fn at(&self, offset: usize) -> &'static AtomicU32 {
        &self.0[offset / 4]
    }
}

/// What the application may have changed: cheap to compare, so that a pass over idle sockets costs little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    tx_tail: u32,
    rx_head: u32,
    wishes: u32,
}

impl<M: SharedMemory> SocketPage<M> {
    /// A page for a connection, whose receive ring of `rx_bytes` is apart, in zeroed memory.
    ///
    /// # Errors
    /// The memory is too small.
    ///
    /// # Panics
    /// If a capacity is no power of two.
    pub fn for_stream(memory: M, rx_bytes: u32, tx_bytes: u32) -> Result<Self, Error> {
        assert!(rx_bytes.is_power_of_two(), "a position's place is its lower bits");
        Self::new(memory, 0, rx_bytes, tx_bytes)
    }

    /// A page for datagrams, both of whose rings are `ring_bytes` of the same zeroed memory.
    ///
    /// # Errors
    /// The memory is too small.
    ///
    /// # Panics
    /// If the capacity is no power of two.
    pub fn for_records(memory: M, ring_bytes: u32) -> Result<Self, Error> {
        Self::new(memory, ring_bytes, ring_bytes, ring_bytes)
    }

    /// Lays the page out, with `here` bytes for a receive ring of `rx_bytes`.
    fn new(memory: M, here: u32, rx_bytes: u32, tx_bytes: u32) -> Result<Self, Error> {
        if memory.length() < Page::bytes(here as usize, tx_bytes as usize) {
            return Err(Error::NoResources);
        }
        let base = memory.address();
        // SAFETY: 1. `SharedMemory` promises that `length` bytes from `base` are mapped until `memory` is dropped, and 64-byte
        // alignment; `length` is at least a page and the rings. 2. The `'static` references stay in this struct, whose last field is
        // `memory`: they are gone before it. 3. The page is reached by atomics only; the two ring controls are atomics too, at their
        // aligned offsets, and overlap only words of the page that are read as atomics. 4. Ring bytes have one producer or
        // consumer in this program, the ones made here.
        let (words, records, tx) = unsafe {
            let words = Words(base.cast().as_ref());
            let rx_control: &Control = base.byte_add(Page::RX_RING_AT).cast().as_ref();
            let tx_control: &Control = base.byte_add(Page::TX_RING_AT).cast().as_ref();
            let rx_data = base.byte_add(Page::RINGS_AT).as_ptr();
            let tx_data = rx_data.add(here as usize);
            let records = (here != 0).then(|| Producer::new(rx_control, rx_data, here));
            (words, records, Consumer::new(tx_control, tx_data, tx_bytes))
        };
        words.at(Page::MAGIC_AT).store(MAGIC, Relaxed);
        words.at(Page::VERSION_AT).store(abi::info::VERSION, Relaxed);
        words.at(Page::RX_BYTES_AT).store(rx_bytes, Relaxed);
        words.at(Page::TX_BYTES_AT).store(tx_bytes, Relaxed);
        let poster = Poster::new();
        Ok(Self { records, tx, words, poster, rx_head: 0, rx_tail: 0, tx_bytes, memory })
    }

    /// Where both rings are, for the application's ends: to the application and from it. The bytes of a `stream`'s receive ring are
    /// apart.
    pub(crate) fn rings(&self, stream: Option<(NonNull<u8>, usize)>) -> (Ring, Ring) {
        let base = self.memory.address();
        // SAFETY: as in `new`: both controls lie in the page, and the rings' bytes follow it.
        let (rx_control, tx_control, data) = unsafe {
            let control = |at: usize| -> &'static Control { base.byte_add(at).cast().as_ref() };
            (control(Page::RX_RING_AT), control(Page::TX_RING_AT), base.byte_add(Page::RINGS_AT))
        };
        let (rx_data, rx_bytes, here) = match stream {
            Some((data, bytes)) => (data.as_ptr(), bytes as u32, 0),
            None => (data.as_ptr(), self.tx_bytes, self.tx_bytes as usize),
        };
        // SAFETY: the transmit ring begins here, inside of the memory (`new`).
        let tx_data = unsafe { data.as_ptr().add(here) };
        let rx = Ring { control: rx_control, data: rx_data, bytes: rx_bytes };
        (rx, Ring { control: tx_control, data: tx_data, bytes: self.tx_bytes })
    }

    /// Takes the right to the memory that the application is to have, and says how long the memory is.
    pub fn take_right(&mut self) -> (u32, u32) {
        (self.memory.take_right(), self.memory.length() as u32)
    }

    /// The words that tell of work for this socket.
    #[inline]
    #[must_use]
    pub fn glance(&self) -> Glance {
        Glance {
            // The acquire that makes the bytes visible is in the ring's own load.
            tx_tail: self.words.at(Page::TX_RING_AT).load(Relaxed),
            rx_head: self.words.at(RX_HEAD_AT).load(Relaxed),
            wishes: self.wishes(),
        }
    }

    /// Bits of [`abi::socket::wishes`].
    #[inline]
    #[must_use]
    pub fn wishes(&self) -> u32 {
        self.words.at(Page::WISHES_AT).load(Acquire) // pairs with the application's store after its last write to the ring
    }

    /// Stores a word that the server owns, after all that was stored before.
    #[inline]
    pub fn set(&self, at: usize, value: u32) {
        self.words.at(at).store(value, Release); // pairs with the application's acquire load
    }

    /// Stores an endpoint; to be followed by a [`set`](Self::set) of the state.
    pub fn set_endpoint(&self, at: usize, endpoint: &Endpoint) {
        self.words.at(at).store(endpoint.family, Relaxed);
        for (i, four) in endpoint.address.chunks_exact(4).enumerate() {
            let word = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
            self.words.at(at + 4 + 4 * i).store(word, Relaxed);
        }
        self.words.at(at + 20).store(endpoint.port, Relaxed);
    }

    /// One more datagram dropped because the ring was full.
    pub fn count_rx_dropped(&self) {
        let dropped = self.words.at(Page::RX_DROPPED_AT);
        dropped.store(dropped.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Room in the transmit ring as the application will find it.
    #[inline]
    #[must_use]
    pub fn tx_room(&self) -> u32 {
        let tail = self.words.at(Page::TX_RING_AT).load(Relaxed);
        self.tx_bytes.saturating_sub(tail.wrapping_sub(self.tx.position()))
    }

    /// How many bytes of the stream the application has read since this was last asked: their room in the ring is free.
    ///
    /// # Errors
    /// Its position is not between where it was and what it was given.
    #[inline]
    pub fn take_consumed(&mut self) -> Result<u32, Error> {
        let head = self.words.at(RX_HEAD_AT).load(Acquire); // pairs with the reader's release: the bytes were read before
        let consumed = head.wrapping_sub(self.rx_head);
        if consumed > self.rx_tail.wrapping_sub(self.rx_head) {
            return Err(Error::PeerMisbehaviour);
        }
        self.rx_head = head;
        Ok(consumed)
    }

    /// Lets the application read `unread` bytes from the last position [taken](Self::take_consumed) on; how many of them are new.
    ///
    /// What was published stays so: a stream that has ended may have been forgotten by TCP, but not by its reader.
    #[inline]
    pub fn publish_received(&mut self, unread: usize) -> u32 {
        let known = self.rx_tail.wrapping_sub(self.rx_head);
        let new = (unread as u32).saturating_sub(known);
        if new != 0 {
            self.rx_tail = self.rx_tail.wrapping_add(new);
            self.words.at(Page::RX_RING_AT).store(self.rx_tail, Release); // pairs with the acquire in the reader's ring
        }
        new
    }

    /// Capacity of the transmit ring.
    #[inline]
    #[must_use]
    pub const fn tx_capacity(&self) -> u32 {
        self.tx_bytes
    }

    /// Whether to resume the application's thread for `events`, bits of [`abi::socket::wait_for`] that have just come true.
    ///
    /// `Some(false)`: it is awake or waits for something else, or was resumed for this wait already; the resume was spared.
    #[inline]
    pub fn wants(&mut self, events: u32) -> bool {
        // SAFETY: a `WaitWord` is one `AtomicU32` (`repr(C)`), here inside the page that `words` refers to.
        let word = unsafe { &*core::ptr::from_ref(self.words.at(Page::WAIT_AT)).cast::<WaitWord>() };
        shmqueue::sync::full_fence(); // pairs with the one in the application's `prepare`
        if !word.is_waiting() {
            return false;
        }
        fence(Acquire); // what it waits for was stored before the generation
        self.words.at(Page::WAIT_FOR_AT).load(Relaxed) & events != 0 && self.poster.should_post_fenced(word)
    }

    /// Puts one datagram into the receive ring, whole; false if it does not fit.
    ///
    /// # Errors
    /// The application's ring position cannot be.
    pub fn write_record(&mut self, peer: Endpoint, payload: &[u8]) -> Result<bool, Error> {
        let header = record_bytes(&Record { length: payload.len() as u32, peer, reserved: 0 });
        let total = RECORD_BYTES + payload.len().next_multiple_of(4);
        let mut fits = false;
        let Some(records) = &mut self.records else { return Ok(false) };
        records
            .write_with(|[(first, first_bytes), (second, second_bytes)]| {
                if first_bytes + second_bytes < total {
                    return 0;
                }
                fits = true;
                let mut at = 0;
                for part in [&header[..], payload] {
                    let here = part.len().min(first_bytes.saturating_sub(at));
                    let (head, rest) = part.split_at(here);
                    // SAFETY: `at + here <= first_bytes` where `here` is not 0; what is left goes to the second chunk at `at + here -
                    // first_bytes`, and all parts together are at most `total`, which fits into both.
                    unsafe {
                        if !head.is_empty() {
                            copy_in(first.add(at), head);
                        }
                        if !rest.is_empty() {
                            copy_in(second.add(at + here - first_bytes), rest);
                        }
                    }
                    at += part.len();
                }
                total
            })
            .map_err(|_| Error::PeerMisbehaviour)?;
        Ok(fits)
    }

    /// The head of the next datagram of the transmit ring, with all of its payload there.
    ///
    /// # Errors
    /// It is longer than the ring, or a position cannot be.
    pub fn peek_record(&mut self) -> Result<Option<Record>, Error> {
        let available = self.tx.available().map_err(|_| Error::PeerMisbehaviour)? as usize;
        if available < RECORD_BYTES {
            return Ok(None);
        }
        let mut header = [0; RECORD_BYTES];
        self.tx.peek(&mut header).map_err(|_| Error::PeerMisbehaviour)?;
        let record = record_from(&header);
        let Some(room) = (self.tx_bytes as usize).checked_sub(RECORD_BYTES) else {
            return Err(Error::PeerMisbehaviour);
        };
        if record.length as usize > room {
            return Err(Error::PeerMisbehaviour);
        }
        let total = RECORD_BYTES + (record.length as usize).next_multiple_of(4);
        // The writer publishes a record whole.
        if available < total {
            return Err(Error::PeerMisbehaviour);
        }
        Ok(Some(record))
    }

    /// Takes the datagram whose head [`peek_record`](Self::peek_record) gave, its payload into `into` as far as that goes.
    pub fn take_record(&mut self, record: &Record, into: &mut [u8]) {
        let length = record.length as usize;
        let wanted = into.len().min(length);
        // That many bytes are there, as the peek has seen: none of these can fail or fall short.
        let _ = self.tx.consume(RECORD_BYTES);
        let _ = self.tx.read(&mut into[..wanted]);
        let _ = self.tx.consume(length.next_multiple_of(4) - wanted);
    }
}

/// A [`Record`] as it lies in a ring.
pub(crate) fn record_bytes(record: &Record) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[0..4].copy_from_slice(&record.length.to_ne_bytes());
    bytes[4..8].copy_from_slice(&record.peer.family.to_ne_bytes());
    bytes[8..24].copy_from_slice(&record.peer.address);
    bytes[24..28].copy_from_slice(&record.peer.port.to_ne_bytes());
    bytes
}

pub(crate) fn record_from(bytes: &[u8; RECORD_BYTES]) -> Record {
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let mut address = [0; 16];
    address.copy_from_slice(&bytes[8..24]);
    Record { length: word(0), peer: Endpoint { family: word(4), address, port: word(24) }, reserved: 0 }
}

/// The application's position in the receive ring.
const RX_HEAD_AT: usize = Page::RX_RING_AT + Control::BYTES / 2;

const _: () = assert!(
    core::mem::offset_of!(Record, peer) == 4
        && core::mem::offset_of!(Endpoint, address) == 4
        && core::mem::offset_of!(Endpoint, port) == 20
        && Page::TX_RING_AT == Page::RX_RING_AT + Control::BYTES
        && Page::WAIT_AT == Page::TX_RING_AT + Control::BYTES
);
