//! Messages, with the rights that they carry as owned values.
#![expect(unsafe_code, reason = "system calls")]

use core::{ops::Deref, time::Duration};

use abi::{
    Error,
    message::{BODY_BYTES, Disposition, Message},
    syscall::Syscall,
};

use crate::{
    port::{ReceiveRight, Right, SendRight, Source},
    raw,
    time::limit_ns,
};

/// A message to be sent.
///
/// A right that moves stays in here until the message has gone: after an error it is still ours.
#[derive(Debug)]
pub struct Outgoing {
    message: Message,
    /// What moves: the carried right, the reply right.
    moved: [Option<Right>; 2],
}

impl Outgoing {
    /// An empty message.
    #[must_use]
    pub const fn new(id: u32) -> Self {
        Self { message: Message::new(0, id), moved: [None, None] }
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
        Ok(())
    }
}

/// A message that came, with the rights in it.
#[derive(Debug)]
pub struct Incoming {
    message: Message,
    reply: Option<Right>,
    carried: Option<Right>,
}

impl Incoming {
    /// A message that the kernel has written, whose rights are this task's.
    pub(crate) fn new(message: Message) -> Self {
        let (reply, carried) = (Right::from_name(message.reply), Right::from_name(message.carried));
        Self { message, reply, carried }
    }

    /// Takes the right to answer.
    pub fn take_reply(&mut self) -> Option<Right> {
        self.reply.take()
    }

    /// Takes the right that came along.
    pub fn take_carried(&mut self) -> Option<Right> {
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

impl Deref for Incoming {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// Receives a message.
///
/// # Errors
/// [`Error::TimedOut`]; [`Error::WouldBlock`] with a limit of zero and nothing there.
pub fn receive(from: &impl Source, limit: Option<Duration>) -> Result<Incoming, Error> {
    let mut message = Message::new(0, 0);
    let address = (&raw mut message) as u64;
    // SAFETY: the kernel writes one message there, and any bytes are a message.
    unsafe { raw::call(Syscall::MessageReceive, [from.source_name().into(), address, limit_ns(limit)]) }?;
    Ok(Incoming::new(message))
}

/// Sends a request and receives the reply, on a port made for it: a reply that comes too late dies with the port.
///
/// # Errors
/// As for [`Outgoing::send`] and [`receive`].
pub fn ask(to: &SendRight, request: Outgoing, limit: Option<Duration>) -> Result<Incoming, Error> {
    let port = ReceiveRight::allocate()?;
    let mut request = request.reply_once_to(&port);
    request.send(to, limit)?;
    receive(&port, limit)
}
