//! The system around the server: system calls.
#![expect(unsafe_code, reason = "the promise about mapped memory objects")]

use core::ptr::NonNull;

use abi::{
    Error,
    message::{Disposition, Message},
    port::NULL,
};
use protocol_server::system::{Exclusive, SharedMemory, System};
use userlib::{
    memory,
    message::Outgoing,
    port::{ReceiveRight, Right, SendRight, WellKnown},
    thread::ThreadRef,
};

/// A memory object, mapped, and the right to it that an application is to have.
pub struct Mapped {
    mapping: memory::Mapping,
    right: Option<Right>,
}

// SAFETY: 1. a `Mapping` stays where it is, page aligned, until it is dropped. 2. It is private: only its address is given out.
unsafe impl SharedMemory for Mapped {
    fn address(&self) -> NonNull<u8> {
        self.mapping.base()
    }

    fn length(&self) -> usize {
        self.mapping.len()
    }

    fn take_right(&mut self) -> u32 {
        self.right.take().map_or(NULL, Right::into_name)
    }
}

/// The system around the server.
pub struct Guest {
    /// Where it is asked.
    pub port: ReceiveRight,
}

/// Runs `call` with a right that stays the caller's.
fn borrowed<T>(name: u32, own: fn(Right) -> T, call: impl FnOnce(&T), disown: fn(T) -> Right) {
    if let Some(right) = Right::from_name(name) {
        let owned = own(right);
        call(&owned);
        let _ = disown(owned).into_name();
    }
}

impl System for Guest {
    type Memory = Mapped;

    fn shared_memory(&mut self, length: usize) -> Result<Mapped, Error> {
        let object = memory::MemoryObject::create(length)?;
        let mapping = object.map_shared(length)?;
        Ok(Mapped { mapping, right: Some(object.into_right()) })
    }

    fn exclusive_memory(&mut self, length: usize) -> Result<Exclusive<Mapped>, Error> {
        let object = memory::MemoryObject::create(length)?;
        let mapping = object.map_shared(length)?;
        let right = object.read_only()?.into_right();
        drop(object);
        // SAFETY: the kernel maps by the right that is left for reading only, and whoever copies it gets one like it. The one that
        // could write was this task's alone and is gone; the mapping made by it is in the value.
        Ok(unsafe { Exclusive::new(Mapped { mapping, right: Some(right) }) })
    }

    fn read_only(&mut self, name: u32) -> Result<u32, Error> {
        let mut outcome = Err(Error::BadName);
        let make = |object: &memory::MemoryObject| {
            outcome = object.read_only().map(|new| new.into_right().into_name());
        };
        borrowed(name, memory::MemoryObject::new, make, memory::MemoryObject::into_right);
        outcome
    }

    #[inline]
    fn resume(&mut self, thread: u32) {
        let resume = |thread: &ThreadRef| {
            let _ = thread.resume(); // it may have died
        };
        borrowed(thread, ThreadRef::new, resume, ThreadRef::into_right);
    }

    fn watch(&mut self, thread: u32) -> bool {
        let mut watched = false;
        let watch = |right: &SendRight| watched = right.notify_dead(&self.port).is_ok();
        borrowed(thread, SendRight::new, watch, SendRight::into_right);
        watched
    }

    fn release(&mut self, name: u32) {
        drop(Right::from_name(name));
    }
}

/// Sends a reply; rights that move with it are given up where it cannot be sent.
pub fn send(reply: &Message, to: Option<Right>) {
    let mut outgoing = Outgoing::with_bytes(reply.id, reply.bytes());
    if let Some(carried) = Right::from_name(reply.carried) {
        outgoing = outgoing.carry_move(carried);
    }
    if reply.reply_disposition == Disposition::Move.raw() {
        if let Some(moved) = Right::from_name(reply.reply) {
            outgoing = outgoing.reply_move(moved);
        }
    } else if reply.reply != NULL {
        outgoing = outgoing.reply_copy(WellKnown::Thread as u32);
    }
    if let Some(to) = to {
        let _ = outgoing.answer(to); // who asked may have died
    }
}
