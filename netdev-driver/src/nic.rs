//! What every network device does for the endpoint: it takes empty buffers and gives them back with frames, it takes frames and gives
//! their buffers back.
//!
//! A buffer is named by a token, the offset of its mbuf, and by its address for the device. A device never sees a pointer, and the
//! endpoint never a descriptor. All methods are statically dispatched.

use core::fmt;

/// Segments of a frame to send, at most.
pub const SEGMENTS_MAX: usize = 16;

/// How a received frame came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxStatus {
    /// Whole.
    Good,
    /// Whole, and the device or the driver at its other end vouches for its transport checksum.
    ChecksumGood,
    /// The device reports an error of the frame.
    Error,
    /// A part, not the last, of a frame that is too long for a buffer: no frame of its own.
    Fragment,
    /// The last part of a frame that is too long for a buffer.
    Oversized,
}

/// A buffer that comes back from the receive ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxDone {
    /// Which one.
    pub token: u32,
    /// The bytes in it, as the device says: not yet to be believed.
    pub len: u32,
    /// How the frame came.
    pub status: RxStatus,
}

/// A piece of a frame to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Its address for the device.
    pub phys: u64,
    /// Its bytes.
    pub len: u32,
}

/// Asks the device to fill in an Internet checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxChecksum {
    /// The first byte that it covers, counted from the start of the frame; it covers all after it.
    pub start: u16,
    /// Where it goes, counted from `start`.
    pub offset: u16,
}

/// Why a device does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicError {
    /// A region of registers that it needs is missing or too small.
    NoRegisters,
    /// No memory for its rings.
    NoMemory,
    /// It does not come out of reset.
    NoReset,
    /// It lacks something that the driver needs, or offers something impossible.
    Unsupported,
}

impl fmt::Display for NicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRegisters => "the device's registers are missing",
            Self::NoMemory => "no memory for the device's rings",
            Self::NoReset => "the device does not come out of reset",
            Self::Unsupported => "the device lacks what the driver needs",
        })
    }
}

impl core::error::Error for NicError {}

/// A network device.
///
/// Life: [`start`](Self::start), any number of posts, commits, polls and kicks, [`quiesce`](Self::quiesce); then again.
pub trait Nic {
    /// The driver's name, at most 16 bytes.
    const NAME: &'static str;
    /// How far from the start of a frame a checksum that the device fills in may begin or be put.
    const TX_CHECKSUM_REACH: u16;
    /// Buffers in the receive ring below which the endpoint does not lend any more to the server.
    const RX_LOW_WATER: u32 = 32;

    /// Resets the device and starts it with empty rings, its interrupts on.
    ///
    /// # Errors
    /// See [`NicError`]; the device then does no DMA.
    fn start(&mut self) -> Result<(), NicError>;
    /// Stops all DMA and interrupts. When it returns the device has forgotten all tokens.
    fn quiesce(&mut self);
    /// The station address.
    fn mac(&self) -> [u8; 6];
    /// Whether the link is up.
    fn link_up(&self) -> bool;
    /// Bits of [`abi::device::offload`].
    fn offload(&self) -> u32;

    /// Buffers that [`rx_post`](Self::rx_post) takes now.
    fn rx_room(&self) -> u32;
    /// Buffers in the receive ring.
    fn rx_posted(&self) -> u32;
    /// Puts an empty cluster into the receive ring. There must be room.
    fn rx_post(&mut self, token: u32, phys: u64);
    /// Tells the device of all that was posted: one register write.
    fn rx_commit(&mut self);
    /// Takes the next buffer that has come back.
    fn rx_poll(&mut self) -> Option<RxDone>;
    /// After the last poll: asks for an interrupt for what comes from now on. `true` if something came meanwhile: poll again.
    fn rx_rearm(&mut self) -> bool;
    /// Instead of [`rx_rearm`](Self::rx_rearm), where polling ended with more to come. `true` if the device interrupts again by itself.
    fn rx_spent(&mut self) -> bool;

    /// Whether a frame of `segments` pieces finds room in the transmit ring.
    fn tx_room(&self, segments: usize) -> bool;
    /// Puts a frame into the transmit ring. There must be room, and 1 to [`SEGMENTS_MAX`] segments.
    fn tx_post(&mut self, token: u32, segments: &[Segment], checksum: Option<TxChecksum>);
    /// Tells the device of all frames that were put there: one register write.
    fn tx_kick(&mut self);
    /// Hands out the tokens of frames that have left.
    fn tx_reap(&mut self, done: impl FnMut(u32));
    /// Frames in the transmit ring.
    fn tx_in_flight(&self) -> u32;
    /// Asks for an interrupt when frames have left, or no longer. `true` if some left meanwhile: reap again.
    fn tx_interrupt(&mut self, wanted: bool) -> bool;

    /// Asks the device whether the interrupt is its own, and so acknowledges it: one register read.
    fn acknowledge_interrupt(&mut self) -> bool;
    /// Completions of what was never posted, since the last call.
    fn take_bogus(&mut self) -> u32;
}
