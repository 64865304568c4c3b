//! What the server answers, and how messages get there and back.
#![expect(unsafe_code, reason = "it plays the kernel, which reads and writes where a message says")]

use super::*;

/// # Safety
/// So many bytes can be read there, for as long as they are used.
pub(super) unsafe fn slice<'a>(address: u64, length: u64) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe {
        core::slice::from_raw_parts(core::ptr::with_exposed_provenance(address as usize), length as usize)
    }
}

pub(super) fn send(state: &mut Books, address: u64) -> Result<(), Error> {
    assert_ne!(state.path, Path::Monolithic);
    assert!(state.reply.is_none(), "one call after the other");
    // SAFETY: the wrapper passes a message that it has borrowed, which says where its data is.
    let (message, data) = unsafe {
        let message = core::ptr::with_exposed_provenance::<Message>(address as usize).read();
        (message, slice(message.data_address, message.data_length.into()))
    };
    assert!(data.len() <= DATA_MAX);
    if message.id == LOOK_UP {
        state.dead = false; // the name service answers when another has registered
    }
    if state.dead {
        return Err(Error::Dead);
    }
    if Data::from_raw(message.data_kind) == Some(Data::OutOfLine) {
        assert!(message.data_address.is_multiple_of(4096));
        state.pages += 1;
    }
    let mut reply = serve(state, &message, data);
    if let Some(forge) = &mut state.forge {
        forge(&mut reply.message);
    }
    state.reply = Some(reply);
    Ok(())
}

pub(super) fn receive(state: &mut Books, address: u64) -> Result<(), Error> {
    if let Some(error) = state.receive_fails.take() {
        return Err(error);
    }
    let Reply { mut message, data } = state.reply.take().unwrap();
    // SAFETY: the wrapper passes a message that it has borrowed, which says where there is room, and for how much.
    unsafe {
        let to = core::ptr::with_exposed_provenance_mut::<Message>(address as usize);
        if data.len() >= OUT_OF_LINE {
            let pages = Shared::new(data.len()).0;
            pages.copy_from_nonoverlapping(data.as_ptr(), data.len());
            (message.data_kind, message.data_address) =
                (Data::OutOfLine.raw(), pages.expose_provenance() as u64);
            state.pages += 1;
        } else if !data.is_empty() {
            let (room, length) = ((*to).data_address, (*to).data_length);
            if (length as usize) < data.len() {
                return Err(Error::TooLong);
            }
            let room = core::ptr::with_exposed_provenance_mut::<u8>(room as usize);
            room.copy_from_nonoverlapping(data.as_ptr(), data.len());
            message.data_kind = Data::Inline.raw();
        }
        to.write(message);
    }
    Ok(())
}

/// The kernel tells once of the server's death.
pub(super) fn told(state: &mut Books, address: u64) -> Result<(), Error> {
    if !core::mem::take(&mut state.untold) {
        return Err(Error::WouldBlock);
    }
    let mut message = Message::new(50, NOTIFY_DEAD_NAME);
    assert!(message.set_word(0, 100) && message.set_word(1, 0));
    // SAFETY: the wrapper passes a message that it has borrowed.
    unsafe { core::ptr::with_exposed_provenance_mut::<Message>(address as usize).write(message) };
    Ok(())
}

pub(super) fn serve(state: &mut Books, message: &Message, data: &[u8]) -> Reply {
    let mut answer = Reply { message: Message::new(50, REPLY), data: Vec::new() };
    let reply = &mut answer.message;
    assert!(reply.set_word(0, 0));
    if message.id == LOOK_UP {
        assert_eq!(message.bytes(), NETWORK);
        reply.carried = 100;
        return answer;
    }
    state.requests.push(*message);
    let word = |i: usize| message.word(i).unwrap();
    match Request::from_raw(message.id).unwrap() {
        Request::Hello => (reply.reply, reply.carried) = (101, STATUS_NAME as u32),
        Request::Open | Request::Accept => {
            let number = state.peers.len() as u32;
            let stream = message.id == Request::Accept.raw() || message.word(0) == Some(Kind::Tcp.raw());
            let mut peer = new_peer(state.head.take(), stream);
            if state.path == Path::Window {
                peer.ends = Rc::default();
            }
            state.peers.push(peer);
            let here = if stream { 0 } else { RX_BYTES };
            assert!(reply.set_word(1, number));
            assert!(reply.set_word(2, At::bytes(here as usize, TX_BYTES as usize) as u32));
            assert!(reply.set_word(3, RX_BYTES - here));
            reply.carried = FIRST_OBJECT as u32 + number;
            if stream {
                reply.reply = FIRST_RING as u32 + number;
            }
        }
        Request::Connect => state.peers[word(0) as usize].state(State::Established),
        Request::Write => {
            let peer = (message.length > 4).then(|| from_words(core::array::from_fn(|i| word(1 + i))));
            let taken = state.peers[word(0) as usize].write(data, peer.as_ref());
            assert!(reply.set_word(1, taken as u32));
        }
        Request::Read => {
            let (bytes, head) = state.peers[word(0) as usize].read(word(1) as usize);
            assert!(reply.set_word(1, bytes.len() as u32));
            if let Some(head) = head {
                for (i, word) in core::iter::once(head.length).chain(to_words(&head.peer)).enumerate() {
                    assert!(reply.set_word(2 + i, word));
                }
            }
            reply.data_length = bytes.len() as u32;
            answer.data = bytes;
        }
        _ => {}
    }
    answer
}

/// A message of the kernel's: who was to answer has died.
pub fn died(reply: &mut Message) {
    *reply = Message::new(50, NOTIFY_SEND_ONCE);
}
