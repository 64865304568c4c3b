//! A socket's shared page: words by name, each with one writer; and the two byte rings, where they are mapped as well.
//!
//! Nothing here believes the server in what decides about memory safety: the size of a mapping is the kernel's word, and the rings'
//! sizes are read once and checked against it.
#![expect(unsafe_code, reason = "words of a page that the server writes too")]

use core::{
    ptr::NonNull,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use abi::{
    Error, info,
    socket::{Endpoint, MAGIC, Page as At, State},
};
use shmqueue::{
    WaitWord,
    bytes::{Consumer, Control, Producer},
};

use super::address;

/// A view of the page. The memory outlives it: see [`Page::new`].
#[derive(Clone, Copy, Debug)]
pub struct Page {
    base: NonNull<u8>,
    rx_bytes: u32,
    tx_bytes: u32,
}

// SAFETY: all accesses are atomic, or go through the one producer and the one consumer of `ends`.
unsafe impl Send for Page {}

impl Page {
    /// A view of the page at the start of a socket's memory object.
    ///
    /// # Safety
    /// For as long as this or a copy of it, or an end of [`ends`](Self::ends), is in use, a page is mapped at `base`, for reading and
    /// writing.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaviour`] where the head is none.
    pub unsafe fn new(base: NonNull<u8>) -> Result<Self, Error> {
        let it = Self { base, rx_bytes: 0, tx_bytes: 0 };
        let [magic, version, rx_bytes, tx_bytes] =
            [At::MAGIC_AT, At::VERSION_AT, At::RX_BYTES_AT, At::TX_BYTES_AT]
                .map(|at| it.word(at).load(Acquire));
        let fits = |bytes: u32| bytes.is_power_of_two() && (256..=1 << 28).contains(&bytes);
        if magic != MAGIC || version != info::VERSION || !fits(rx_bytes) || !fits(tx_bytes) {
            return Err(Error::PeerMisbehaviour);
        }
        Ok(Self { base, rx_bytes, tx_bytes })
    }

    /// The application's ends of the rings in the memory object, of which `len` bytes are mapped from the page on; the receive ring may
    /// be `apart`: where, and how many bytes.
    ///
    /// # Safety
    /// 1. Called once for each new page: there is one consumer and one producer here.
    /// 2. As [`new`](Self::new), for `len` bytes; what is apart is mapped as long, for reading at least, and aligned to a page.
    /// 3. This program forms no reference to the rings' bytes.
    ///
    /// # Errors
    /// [`Error::PeerMisbehaviour`] where the rings do not fit the mappings.
    pub unsafe fn ends(
        &self,
        len: usize,
        apart: Option<(NonNull<u8>, usize)>,
    ) -> Result<(Consumer<'static>, Producer<'static>), Error> {
        let here = if apart.is_some() { 0 } else { self.rx_bytes as usize };
        if At::bytes(here, self.tx_bytes as usize) > len
            || apart.is_some_and(|(_, len)| self.rx_bytes as usize > len)
        {
            return Err(Error::PeerMisbehaviour);
        }
        // SAFETY: both rings lie in the mappings, as was just checked, which the caller keeps mapped and unreferenced. The consumer
        // only reads the bytes, which it may be all that the mapping allows.
        unsafe {
            let first = self.base.byte_add(At::RINGS_AT);
            let rx_data = apart.map_or(first, |(data, _)| data);
            let tx_data = first.byte_add(here);
            Ok((
                Consumer::new(self.control(At::RX_RING_AT), rx_data.as_ptr(), self.rx_bytes),
                Producer::new(self.control(At::TX_RING_AT), tx_data.as_ptr(), self.tx_bytes),
            ))
        }
    }

    #[inline]
    fn word(&self, at: usize) -> &'static AtomicU32 {
        // SAFETY: `at` is a multiple of 4 within the first page, which the caller of `new` keeps mapped for as long as anything here is
        // used; the server writes it by atomic stores.
        unsafe { self.base.add(at).cast().as_ref() }
    }

    #[inline]
    fn control(&self, at: usize) -> &'static Control {
        // SAFETY: as for `word`: two atomic words, in lines of their own, for which any bytes will do.
        unsafe { self.base.add(at).cast().as_ref() }
    }

    /// Capacity of the receive ring.
    #[inline]
    #[must_use]
    pub const fn rx_bytes(&self) -> u32 {
        self.rx_bytes
    }

    /// Capacity of the transmit ring.
    #[inline]
    #[must_use]
    pub const fn tx_bytes(&self) -> u32 {
        self.tx_bytes
    }

    /// How full the receive ring is, as its published positions say.
    #[inline]
    #[must_use]
    pub fn rx_used(&self) -> u32 {
        self.control(At::RX_RING_AT).published()
    }

    /// How full the transmit ring is, as its published positions say.
    #[inline]
    #[must_use]
    pub fn tx_used(&self) -> u32 {
        self.control(At::TX_RING_AT).published()
    }

    /// Room in the transmit ring, as its published positions say.
    #[must_use]
    pub fn tx_room(&self) -> u32 {
        self.tx_bytes.saturating_sub(self.tx_used())
    }

    /// Up to where the transmit ring has been written. Relaxed: for comparison with [`acknowledged`](Self::acknowledged) alone.
    #[must_use]
    pub fn written(&self) -> u32 {
        self.word(At::TX_RING_AT).load(Relaxed)
    }

    /// The state. Acquire pairs with the server's Release: what came before it shows, the ring's last bytes among them.
    #[inline]
    #[must_use]
    pub fn state_raw(&self) -> u32 {
        self.word(At::STATE_AT).load(Acquire)
    }

    /// The state; one that there is not is as good as over.
    #[must_use]
    pub fn state(&self) -> State {
        State::from_raw(self.state_raw()).unwrap_or(State::Finished)
    }

    /// Why the socket is over, if not in good order.
    #[must_use]
    pub fn error(&self) -> Option<Error> {
        match self.word(At::ERROR_AT).load(Acquire) {
            0 => None,
            raw => Some(Error::from_raw(raw).unwrap_or(Error::PeerMisbehaviour)),
        }
    }

    /// The server has died: says in its stead that the socket is over, and why. There is no other writer of these words any more.
    pub(super) fn fail(&self, error: Error) {
        if self.state_raw() != State::Finished.raw() {
            self.word(At::ERROR_AT).store(error.raw(), Relaxed);
            self.word(At::STATE_AT).store(State::Finished.raw(), Release); // pairs with `state_raw`: the error is there before
        }
    }

    /// Connections that wait to be accepted.
    #[must_use]
    pub fn accept_ready(&self) -> u32 {
        self.word(At::ACCEPT_READY_AT).load(Acquire)
    }

    /// Up to where the other end has acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u32 {
        self.word(At::ACKNOWLEDGED_AT).load(Acquire)
    }

    /// Datagrams dropped because the receive ring was full.
    #[must_use]
    pub fn rx_dropped(&self) -> u32 {
        self.word(At::RX_DROPPED_AT).load(Relaxed)
    }

    /// The local end.
    #[must_use]
    pub fn local(&self) -> Endpoint {
        self.endpoint(At::LOCAL_AT)
    }

    /// The remote end.
    #[must_use]
    pub fn remote(&self) -> Endpoint {
        self.endpoint(At::REMOTE_AT)
    }

    fn endpoint(&self, at: usize) -> Endpoint {
        let mut words = [0; address::WORDS];
        for (i, word) in words.iter_mut().enumerate() {
            *word = self.word(at + 4 * i).load(Relaxed); // written before the state says so, which was loaded with Acquire
        }
        address::from_words(words)
    }

    /// This side's generation word.
    #[inline]
    #[must_use]
    pub fn wait_word(&self) -> &'static WaitWord {
        // SAFETY: as for `word`: one atomic word, for which any bytes will do.
        unsafe { self.base.add(At::WAIT_AT).cast().as_ref() }
    }

    /// Says what this side will wait for. Relaxed: the generation that follows is stored with Release.
    pub fn set_wait_for(&self, bits: u32) {
        self.word(At::WAIT_FOR_AT).store(bits, Relaxed);
    }

    /// Sets or clears a bit of [`abi::socket::wishes`]. Release: what was written before is in the ring before the server sees the wish.
    pub fn wish(&self, bit: u32, on: bool) {
        let word = self.word(At::WISHES_AT); // only this side writes it
        let wishes = word.load(Relaxed);
        word.store(if on { wishes | bit } else { wishes & !bit }, Release);
    }

    /// The bits of [`abi::socket::wishes`].
    #[must_use]
    pub fn wishes(&self) -> u32 {
        self.word(At::WISHES_AT).load(Relaxed)
    }
}
