//! Messages: 256 bytes, copied, with up to two rights and, beside the body, up to [`DATA_MAX`] bytes of data.
//!
//! Data goes in line, copied into the kernel and out of it, or out of line: pages that leave one address space and come into another
//! (Mach 3.0). On the path by window no data goes by message; the path by message is what it is compared with.

use crate::codes::codes;

/// The size of a message, in bytes.
pub const MESSAGE_BYTES: usize = 256;
/// The bytes of its body.
pub const BODY_BYTES: usize = 208;
/// The most data that goes along with a message, in bytes.
pub const DATA_MAX: usize = 65_536;

/// Sent by the kernel when what a name denotes has died; body word 0 is the name, word 1 the exit status of a task
/// ([`crate::thread`]) or 0.
pub const NOTIFY_DEAD_NAME: u32 = 0xffff_0001;

/// Sent by the kernel to a port when a right to send once to it died unused: no answer will come.
pub const NOTIFY_SEND_ONCE: u32 = 0xffff_0002;
/// Sent by the kernel to the port of a packet filter ([`crate::syscall::Syscall::DeviceSetFilter`]): the data is a frame that matched;
/// body word 0 says what is known of it, bits of [`frame`].
pub const NET_FRAME: u32 = 0xffff_0003;
/// The ids from here on are the kernel's.
pub const KERNEL_IDS: u32 = 0xffff_0000;

codes! {
    /// What happens to a right that a message carries (Mach's dispositions).
    pub enum Disposition {
        /// No right.
        None = 0,
        /// The receiver gets a send or memory-object right like the sender's, who keeps it.
        CopySend = 1,
        /// The receiver gets a send right to a port whose receive right the sender holds.
        MakeSend = 2,
        /// The receiver gets the right to send once, to a port whose receive right the sender holds.
        MakeSendOnce = 3,
        /// The sender gives the right away: a send, send-once, receive or memory-object right.
        Move = 4,
    }
}

/// The bits of body word 0 of a [`NET_FRAME`].
pub mod frame {
    /// Device or driver vouch for the transport checksum.
    pub const CHECKSUM_GOOD: u32 = 1;
}

codes! {
    /// How a message's data travels.
    pub enum Data {
        /// There is none.
        None = 0,
        /// Copied from the sender, and copied to where the receiver said that there is room.
        Inline = 1,
        /// Whole pages of the sender's own memory are taken out of its address space, whether or not the last is full, and mapped
        /// for reading and writing in the receiver's, who gives them up with [`crate::syscall::Syscall::VmDeallocate`].
        OutOfLine = 2,
    }
}

/// A message, as it lies in the sender's and the receiver's memory.
///
/// On receive the kernel writes the receiver's names for the rights into `reply` and `carried` (0 for none).
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct Message {
    /// Where it goes: a send or send-once right (a send-once right is used up). On receive: the port it came to.
    pub destination: u32,
    /// What it asks or says; the receiver's business. The kernel's own start at `0xffff_0000`, which tasks cannot send.
    pub id: u32,
    /// A right to answer to.
    pub reply: u32,
    /// The [`Disposition`] of `reply`.
    pub reply_disposition: u32,
    /// A right that goes along.
    pub carried: u32,
    /// The [`Disposition`] of `carried`.
    pub carried_disposition: u32,
    /// Bytes of `body` in use.
    pub length: u32,
    /// The number of the sending task; the kernel writes it, so the receiver can believe it.
    pub sender: u32,
    /// Where the data is; for [`Data::OutOfLine`] the start of a page. Before a receive: where there is room for data in line.
    /// Afterwards: where the data is.
    pub data_address: u64,
    /// Bytes of data. Before a receive: how much room there is. A message whose data in line needs more stays queued, and the receive
    /// is [`crate::Error::TooLong`].
    pub data_length: u32,
    /// How the data travels, a [`Data`]. The receiver need not set it.
    pub data_kind: u32,
    /// The body. A receive leaves what lies behind `length` as it was.
    pub body: [u8; BODY_BYTES],
}

const _: () = assert!(size_of::<Message>() == MESSAGE_BYTES);

impl Message {
    /// A message with an empty body and no rights.
    #[must_use]
    pub const fn new(destination: u32, id: u32) -> Self {
        Self {
            destination,
            id,
            reply: 0,
            reply_disposition: 0,
            carried: 0,
            carried_disposition: 0,
            length: 0,
            sender: 0,
            data_address: 0,
            data_length: 0,
            data_kind: 0,
            body: [0; BODY_BYTES],
        }
    }

    /// The 32-bit word at index `i` of the body; `None` past [`Message::length`].
    #[must_use]
    pub fn word(&self, i: usize) -> Option<u32> {
        let start = i.checked_mul(4)?;
        let bytes = self.bytes().get(start..start.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Sets the 32-bit word at index `i` of the body, which grows to hold it; false past the end.
    #[must_use]
    pub fn set_word(&mut self, i: usize, value: u32) -> bool {
        let Some(target) = i.checked_mul(4).and_then(|at| self.body.get_mut(at..)?.get_mut(..4)) else {
            return false;
        };
        target.copy_from_slice(&value.to_le_bytes());
        self.length = self.length.max(4 * i as u32 + 4);
        true
    }

    /// The body in use; empty where `length` says more than there can be.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.body.get(..self.length as usize).unwrap_or(&[])
    }
}
