//! Messages, with the rights and the data that they carry as owned values.
//!
//! Data in line is copied to a buffer that the receiver gives ([`receive_with`]); data out of line comes as pages that are the
//! receiver's from then on ([`Incoming::take_pages`]), until they are dropped.
#![expect(unsafe_code, reason = "system calls, and the bytes of pages that came")]

use core::{borrow::Borrow, marker::PhantomData, ops::Deref, time::Duration};

use abi::{
    Error,
    message::{BODY_BYTES, DATA_MAX, Data, Disposition, Message, NOTIFY_SEND_ONCE},
    syscall::Syscall,
    vm::PAGE_BYTES,
};

use crate::{
    memory::Mapping,
    port::{ReceiveRight, Right, SendRight, Source},
    raw,
    time::limit_ns,
};

/// A message to be sent.
///
/// A right or a page that moves stays in here until the message has gone: after an error it is still ours.
#[derive(Debug)]
pub struct Outgoing<'d> {
    message: Message,
    /// What moves: the carried right, the reply right.
    moved: [Option<Right>; 2],
    /// The pages that move.
    pages: Option<Mapping>,
    data: PhantomData<&'d [u8]>,
}

impl<'d> Outgoing<'d> {
    /// An empty message.
    #[must_use]
    pub const fn new(id: u32) -> Self {
        Self { message: Message::new(0, id), moved: [None, None], pages: None, data: PhantomData }
    }

    /// A message whose body is these words.
    #[must_use]
    pub fn with_words(id: u32, words: &[u32]) -> Self {
        let mut it = Self::new(id);
        for &word in words {
            it = it.word(word);
        }
        it
    }

    /// A message whose body is the front of these bytes, as much as there is room for.
    #[must_use]
    pub fn with_bytes(id: u32, bytes: &[u8]) -> Self {
        let mut it = Self::new(id);
        let length = bytes.len().min(BODY_BYTES);
        it.message.body[..length].copy_from_slice(&bytes[..length]);
        it.message.length = length as u32;
        it
    }

    /// Appends a word to the body.
    ///
    /// # Panics
    /// If the body is full: the program's own mistake.
    #[must_use]
    pub fn word(mut self, word: u32) -> Self {
        let index = self.message.length.div_ceil(4) as usize;
        assert!(self.message.set_word(index, word), "a message's body is {BODY_BYTES} bytes");
        self
    }

    /// The receiver gets a send right like this one.
    #[must_use]
    pub fn carry_copy(mut self, name: u32) -> Self {
        self.message.carried = name;
        self.message.carried_disposition = Disposition::CopySend.raw();
        self
    }

    /// The receiver gets a send right to a port of ours.
    #[must_use]
    pub fn carry_send_to(mut self, port: &ReceiveRight) -> Self {
        self.message.carried = port.name();
        self.message.carried_disposition = Disposition::MakeSend.raw();
        self
    }

    /// The receiver gets this right, and we have it no more.
    #[must_use]
    pub fn carry_move(mut self, right: Right) -> Self {
        self.message.carried = right.name();
        self.message.carried_disposition = Disposition::Move.raw();
        self.moved[0] = Some(right);
        self
    }

    /// The receiver may answer once to a port of ours.
    #[must_use]
    pub fn reply_once_to(mut self, port: &ReceiveRight) -> Self {
        self.message.reply = port.name();
        self.message.reply_disposition = Disposition::MakeSendOnce.raw();
        self
    }

    /// As the reply right the receiver gets this one, and we have it no more.
    #[must_use]
    pub fn reply_move(mut self, right: Right) -> Self {
        self.message.reply = right.name();
        self.message.reply_disposition = Disposition::Move.raw();
        self.moved[1] = Some(right);
        self
    }

    /// As the reply right the receiver gets a copy of a send right of ours.
    #[must_use]
    pub fn reply_copy(mut self, name: u32) -> Self {
        self.message.reply = name;
        self.message.reply_disposition = Disposition::CopySend.raw();
        self
    }

    /// The data that goes along, in line; at most [`DATA_MAX`] bytes, or the send is [`Error::BadArgument`].
    #[must_use]
    pub fn data(mut self, bytes: &'d [u8]) -> Self {
        self.pages = None;
        self.message.data_address = bytes.as_ptr().expose_provenance() as u64;
        self.message.data_length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.message.data_kind = Data::Inline.raw();
        self
    }

    /// The data that goes along, out of line: the first `length` bytes of pages of our own. The receiver gets the pages, and we have them
    /// no more; what of the mapping lies behind them is given up.
    ///
    /// # Panics
    /// If there are not so many bytes: the program's own mistake.
    #[must_use]
    pub fn pages(mut self, pages: Mapping, length: usize) -> Self {
        assert!((1..=pages.len()).contains(&length), "{length} bytes of a mapping of {}", pages.len());
        self.message.data_address = pages.address();
        self.message.data_length = u32::try_from(length).unwrap_or(u32::MAX);
        self.message.data_kind = Data::OutOfLine.raw();
        self.pages = Some(pages);
        self
    }

    /// Sends it, waiting for room in the port's queue no longer than `limit`.
    ///
    /// # Errors
    /// [`Error::Dead`], [`Error::QueueFull`], [`Error::TimedOut`], or what is wrong with a right.
    pub fn send(&mut self, to: &SendRight, limit: Option<Duration>) -> Result<(), Error> {
        self.send_to_name(to.name(), limit)
    }

    /// Answers a message by its reply right, which is used up if it is to send once; never waits for room.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    pub fn answer(&mut self, to: Right) -> Result<(), Error> {
        let sent = self.send_to_name(to.name(), Some(Duration::ZERO));
        if sent.is_ok() {
            // A send-once right is gone by now and a name must not be given up twice: the kernel may have given it out again.
            // Reply rights here are always to send once.
            let _ = to.into_name();
        }
        sent
    }

    /// The message itself, for who hands it to the kernel in another way.
    pub(crate) const fn message(&self) -> &Message {
        &self.message
    }

    fn send_to_name(&mut self, name: u32, limit: Option<Duration>) -> Result<(), Error> {
        self.message.destination = name;
        let address = (&raw const self.message) as u64;
        // SAFETY: the kernel reads one message there, which we have borrowed.
        unsafe { raw::call(Syscall::MessageSend, [address, limit_ns(limit)]) }?;
        for right in self.moved.iter_mut().filter_map(Option::take) {
            let _ = right.into_name(); // the receiver's now
        }
        if let Some(pages) = self.pages.take() {
            pages.give_away(self.message.data_length as usize);
        }
        Ok(())
    }
}

/// A message that came, or a reference to one in memory that the next one overwrites; with the rights and the data in it.
#[derive(Debug)]
pub struct Incoming<'b, M = Message> {
    message: M,
    reply: Option<Right>,
    carried: Option<Right>,
    inline: &'b [u8],
    pages: Option<Mapping>,
}

impl<'b, M: Borrow<Message>> Incoming<'b, M> {
    /// A message that the kernel has just written, with `buffer` as the room for data in line.
    #[inline]
    pub(crate) fn from_kernel(message: M, buffer: &'b [u8]) -> Result<Self, Error> {
        let it: &Message = message.borrow();
        let length = it.data_length as usize;
        let (mut inline, mut pages) = (&[][..], None);
        if it.data_kind == Data::Inline.raw() {
            inline = buffer.get(..length).ok_or(Error::PeerMisbehaviour)?;
        } else if it.data_kind == Data::OutOfLine.raw() {
            let whole = length.next_multiple_of(PAGE_BYTES as usize);
            // SAFETY: the kernel has just mapped these pages for us, and nobody else here knows of them.
            pages = Some(unsafe { Mapping::adopt(it.data_address, whole) }?);
        }
        let (reply, carried) = (Right::from_name(it.reply), Right::from_name(it.carried));
        Ok(Self { message, reply, carried, inline, pages })
    }

    /// The data that came along; empty if there was none, or no room for it was given.
    #[inline]
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match &self.pages {
            // SAFETY: the pages are ours alone since they were taken out of the sender's address space, they are mapped as long
            // as `self` has the mapping, and nobody writes to them meanwhile; the kernel put so many bytes there.
            Some(pages) => unsafe {
                core::slice::from_raw_parts(pages.base().as_ptr(), self.data_length as usize)
            },
            None => self.inline,
        }
    }

    /// Takes the pages in which data came out of line; [`Message::data_length`] bytes of them are the data.
    pub const fn take_pages(&mut self) -> Option<Mapping> {
        self.pages.take()
    }

    /// Takes the right to answer.
    pub const fn take_reply(&mut self) -> Option<Right> {
        self.reply.take()
    }

    /// Takes the right that came along.
    pub const fn take_carried(&mut self) -> Option<Right> {
        self.carried.take()
    }

    /// The status in body word 0 of a server's reply.
    ///
    /// # Errors
    /// The error that it says; [`Error::PeerMisbehaviour`] where it says nothing known.
    pub fn status(&self) -> Result<(), Error> {
        match self.word(0) {
            Some(0) => Ok(()),
            Some(raw) => Err(Error::from_raw(raw).unwrap_or(Error::PeerMisbehaviour)),
            None => Err(Error::PeerMisbehaviour),
        }
    }
}

impl<M: Borrow<Message>> Deref for Incoming<'_, M> {
    type Target = Message;

    #[inline]
    fn deref(&self) -> &Message {
        self.message.borrow()
    }
}

/// Receives a message for whose data no room is needed: what comes in line with it is lost.
///
/// # Errors
/// [`Error::TimedOut`]; [`Error::WouldBlock`] with a limit of zero and nothing there.
pub fn receive(from: &impl Source, limit: Option<Duration>) -> Result<Incoming<'static>, Error> {
    match receive_with(from, &mut [], limit) {
        Err(Error::TooLong) => receive_without_data(from),
        received => received,
    }
}

/// Receives a message, and its data if it came in line into `buffer`.
///
/// # Errors
/// As for [`receive`]; [`Error::TooLong`]: the data needs more room, and the message is still there.
#[inline]
pub fn receive_with<'b>(
    from: &impl Source,
    buffer: &'b mut [u8],
    limit: Option<Duration>,
) -> Result<Incoming<'b>, Error> {
    let mut message = Message::new(0, 0);
    message.data_address = buffer.as_mut_ptr().expose_provenance() as u64;
    message.data_length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    let address = (&raw mut message).expose_provenance() as u64;
    // SAFETY: the kernel writes one message there, and any bytes are a message; data it writes to the buffer, which we have borrowed.
    unsafe { raw::call(Syscall::MessageReceive, [from.source_name().into(), address, limit_ns(limit)]) }?;
    Incoming::from_kernel(message, buffer)
}

/// Somebody sent data that nobody here expects: takes the message, so that it does not stay in the way, and drops the data.
#[cold]
fn receive_without_data(from: &impl Source) -> Result<Incoming<'static>, Error> {
    let room = Mapping::allocate(DATA_MAX)?;
    // SAFETY: `room` is mapped for reading and writing, zeroed, and has no other reference.
    let buffer = unsafe { core::slice::from_raw_parts_mut(room.base().as_ptr(), room.len()) };
    let Incoming { mut message, reply, carried, pages, .. } =
        receive_with(from, buffer, Some(Duration::ZERO))?;
    if pages.is_none() {
        (message.data_address, message.data_length, message.data_kind) = (0, 0, Data::None.raw());
    }
    Ok(Incoming { message, reply, carried, inline: &[], pages })
}

/// Sends a request and receives the reply, on a port made for it: a reply that comes too late dies with the port.
///
/// # Errors
/// As for [`Outgoing::send`] and [`receive`]; [`Error::Dead`] where no reply will come.
pub fn ask(
    to: &SendRight,
    request: Outgoing<'_>,
    limit: Option<Duration>,
) -> Result<Incoming<'static>, Error> {
    ask_with(to, request, &mut [], limit)
}

/// As [`ask`], with room for data in line that comes with the reply.
///
/// # Errors
/// As for [`Outgoing::send`] and [`receive_with`].
pub fn ask_with<'b>(
    to: &SendRight,
    request: Outgoing<'_>,
    buffer: &'b mut [u8],
    limit: Option<Duration>,
) -> Result<Incoming<'b>, Error> {
    let port = ReceiveRight::allocate()?;
    let mut request = request.reply_once_to(&port);
    request.send(to, limit)?;
    let reply = receive_with(&port, buffer, limit)?;
    // The right to answer died unused, with who had it as a rule.
    if reply.id == NOTIFY_SEND_ONCE { Err(Error::Dead) } else { Ok(reply) }
}
