//! Sockets of the stack in the kernel ([`crate::sockets`]): on the monolithic path, and [`Error::BadCall`] on all others.

use abi::Error;
use abi::message::{BODY_BYTES, Disposition, KERNEL_IDS, MESSAGE_BYTES, Message};
use abi::port::NULL;
use abi::socket::{Endpoint, RECORD_BYTES, Record};
use core::mem::offset_of;

use super::Answer;
use crate::kernel::Kernel;
use crate::machine::{Machine, Outcome};
use crate::names::Right;
use crate::sockets::{Pieces, Sockets, TRANSFER_MAX};
use crate::user;

const PEER_AT: usize = offset_of!(Record, peer);

impl<M: Machine> Kernel<M> {
    pub(super) fn socket_request(&mut self, m: &mut M, address: u64) -> Answer {
        if !m.net().is_some_and(|net| net.is_here()) {
            return Err(Error::BadCall);
        }
        let task = self.current_task;
        let mut raw = [0; MESSAGE_BYTES];
        let tables = self.tasks[usize::from(task)].tables();
        // The reply goes to the same place: where it cannot, nothing is done.
        user::check(m, tables, address, MESSAGE_BYTES, true)?;
        user::copy_in(m, tables, address, &mut raw)?;
        let request = self.socket_message(&raw)?;
        // A reply may carry a right, which must find a name and an object.
        let names = &self.tasks[usize::from(task)].names;
        if !names.has_room(1) || !self.memory.objects.has_room() {
            return Err(Error::NoResources);
        }
        let Some(net) = m.net() else { return Err(Error::BadCall) };
        let mut reply = net.request(&request)?;
        if let Some(shared) = net.shared(reply.carried) {
            let name = reply.carried;
            let object = self.memory.objects.create_shared(shared.base, shared.pages, name)?;
            let right = Right::Memory { object, write: shared.write };
            reply.carried = match self.insert_right(task, right) {
                Ok(name) => name,
                Err(error) => {
                    self.drop_right(m, right);
                    return Err(error);
                }
            };
        }
        self.answer_at(m, address, &bytes_of(&reply))?;
        self.resume_socket_threads(m, false);
        Ok(Outcome::ok(0))
    }

    /// The request in a message as it lay in the running task's memory.
    fn socket_message(&self, raw: &[u8; MESSAGE_BYTES]) -> Result<Message, Error> {
        let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let mut message = Message::new(NULL, word(offset_of!(Message, id)));
        message.length = word(offset_of!(Message, length));
        if message.id >= KERNEL_IDS || message.length as usize > BODY_BYTES {
            return Err(Error::BadArgument);
        }
        message.body.copy_from_slice(&raw[offset_of!(Message, body)..]);
        message.sender = self.tasks[usize::from(self.current_task)].id as u32;
        let carried = word(offset_of!(Message, carried));
        message.carried = match Disposition::from_raw(word(offset_of!(Message, carried_disposition))) {
            Some(Disposition::None) if carried == NULL => NULL,
            // The right to a thread, and that stays the caller's.
            Some(Disposition::CopySend) => u32::from(self.thread_named(carried.into())?) + 1,
            _ => return Err(Error::BadArgument),
        };
        Ok(message)
    }

    #[inline]
    pub(super) fn socket_write(
        &mut self,
        m: &mut M,
        socket: u64,
        buffer: u64,
        length: u64,
        record: u64,
    ) -> Answer {
        let (task, socket, length) = self.transfer_of(socket, length, record != 0)?;
        let tables = self.tasks[usize::from(self.current_task)].tables();
        let pieces = Pieces::new(m, tables, buffer, length, false)?;
        let mut peer = None;
        if record != 0 {
            let mut bytes = [0; RECORD_BYTES];
            user::copy_in(m, tables, record, &mut bytes)?;
            peer = Some(endpoint(&bytes));
        }
        let Some(net) = m.net() else { return Err(Error::BadCall) };
        let written = net.write(task, socket, &pieces, peer.as_ref())?;
        self.resume_socket_threads(m, false);
        Ok(Outcome::ok(written as u64))
    }

    #[inline]
    pub(super) fn socket_read(
        &mut self,
        m: &mut M,
        socket: u64,
        buffer: u64,
        length: u64,
        record: u64,
    ) -> Answer {
        let (task, socket, length) = self.transfer_of(socket, length, false)?;
        let tables = self.tasks[usize::from(self.current_task)].tables();
        let pieces = Pieces::new(m, tables, buffer, length, true)?;
        let read = if record == 0 {
            let Some(net) = m.net() else { return Err(Error::BadCall) };
            net.read(task, socket, &pieces)?
        } else {
            user::check(m, tables, record, RECORD_BYTES, true)?;
            let Some(net) = m.net() else { return Err(Error::BadCall) };
            let taken = net.read_record(task, socket, &pieces)?;
            let (head, read) = taken.unwrap_or_default();
            self.answer_at(m, record, &record_bytes(&head))?;
            read
        };
        self.resume_socket_threads(m, false);
        Ok(Outcome::ok(read as u64))
    }

    /// The running task, the socket, and the length of a transfer; of a datagram, `whole`, there is no part.
    #[inline]
    fn transfer_of(&self, socket: u64, length: u64, whole: bool) -> Result<(u32, u32, usize), Error> {
        let task = self.tasks[usize::from(self.current_task)].id as u32;
        let socket = u32::try_from(socket).map_err(|_| Error::BadName)?;
        if whole && length > TRANSFER_MAX as u64 {
            return Err(Error::TooLong);
        }
        Ok((task, socket, length.min(TRANSFER_MAX as u64) as usize))
    }

    /// A thread of a task has ended, and its sockets with it.
    pub(crate) fn forget_sockets(&mut self, m: &mut M, thread: u16) {
        if let Some(net) = m.net() {
            net.thread_died(thread);
        }
        self.resume_socket_threads(m, false);
    }
}

fn bytes_of(message: &Message) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0; MESSAGE_BYTES];
    let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    put(offset_of!(Message, id), message.id);
    put(offset_of!(Message, carried), message.carried);
    put(offset_of!(Message, length), message.length);
    bytes[offset_of!(Message, body)..].copy_from_slice(&message.body);
    bytes
}

fn endpoint(record: &[u8; RECORD_BYTES]) -> Endpoint {
    let word = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
    let mut address = [0; 16];
    let from = PEER_AT + offset_of!(Endpoint, address);
    address.copy_from_slice(&record[from..from + 16]);
    let family = word(PEER_AT + offset_of!(Endpoint, family));
    Endpoint { family, address, port: word(PEER_AT + offset_of!(Endpoint, port)) }
}

fn record_bytes(record: &Record) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(offset_of!(Record, length), &record.length.to_le_bytes());
    put(PEER_AT + offset_of!(Endpoint, family), &record.peer.family.to_le_bytes());
    put(PEER_AT + offset_of!(Endpoint, address), &record.peer.address);
    put(PEER_AT + offset_of!(Endpoint, port), &record.peer.port.to_le_bytes());
    bytes
}
