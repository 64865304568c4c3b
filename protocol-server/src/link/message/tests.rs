//! The link over a port of a few lines.

use super::*;
use alloc::rc::Rc;
use core::cell::RefCell;
use std::thread_local;

thread_local! {
    /// Pages that there are: none may be lost or given back twice.
    static PAGES: RefCell<i32> = const { RefCell::new(0) };
}

/// A page that is counted.
#[derive(Debug)]
struct Page(Vec<u8>);

impl Page {
    fn new(bytes: &[u8]) -> Self {
        PAGES.with(|pages| *pages.borrow_mut() += 1);
        let mut page = vec![0xee; 4096];
        page[..bytes.len()].copy_from_slice(bytes);
        Self(page)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        PAGES.with(|pages| *pages.borrow_mut() -= 1);
    }
}

impl Pages for Page {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[derive(Default)]
struct Record {
    waiting: VecDeque<(Vec<u8>, bool, bool)>,
    receives: usize,
    sent: Vec<(Vec<u8>, Option<ChecksumRequest>, bool)>,
    /// Places in the device's ring.
    room: usize,
    made: usize,
}

/// A port whose record the test looks into.
struct Fake(Rc<RefCell<Record>>);

impl Port for Fake {
    type Page = Page;

    fn receive(&mut self, room: &mut [u8]) -> Option<Arrived<Page>> {
        let mut record = self.0.borrow_mut();
        record.receives += 1;
        let (frame, checksum_good, in_page) = record.waiting.pop_front()?;
        let length = frame.len();
        let page = in_page.then(|| Page::new(&frame));
        if page.is_none() {
            room[..length].copy_from_slice(&frame);
        }
        Some(Arrived { length, checksum_good, page })
    }

    fn write(&mut self, frame: &[u8], checksum: Option<ChecksumRequest>) -> bool {
        let mut record = self.0.borrow_mut();
        if record.room == 0 {
            return false;
        }
        record.room -= 1;
        record.sent.push((frame.to_vec(), checksum, false));
        true
    }

    fn write_page(
        &mut self,
        page: Page,
        length: usize,
        checksum: Option<ChecksumRequest>,
    ) -> Result<(), Page> {
        let mut record = self.0.borrow_mut();
        if record.room == 0 {
            return Err(page);
        }
        record.room -= 1;
        record.sent.push((page.0[..length].to_vec(), checksum, true));
        Ok(())
    }

    fn page(&mut self) -> Option<Page> {
        self.0.borrow_mut().made += 1;
        Some(Page::new(&[]))
    }
}

fn link(out_of_line: usize) -> (MessageLink<Fake>, Rc<RefCell<Record>>) {
    let record = Rc::new(RefCell::new(Record { room: 1000, ..Record::default() }));
    let info = LinkInfo { mac: [2; 6], frame_bytes_max: 1514, offload: 0 };
    (MessageLink::new(info, Fake(record.clone()), out_of_line), record)
}

fn frame(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(7).wrapping_add(seed)).collect()
}

fn send(link: &mut MessageLink<Fake>, bytes: &[u8], checksum: Option<ChecksumRequest>) {
    link.transmit(bytes.len(), |buffer| {
        buffer.copy_from_slice(bytes);
        ((), Built::Send(checksum))
    });
}

fn receive(link: &mut MessageLink<Fake>, limit: usize) -> Vec<(Vec<u8>, bool)> {
    let mut batch = Vec::new();
    link.receive(&mut batch, limit);
    let seen = batch.iter().map(|frame| (frame.bytes().to_vec(), frame.checksum_good())).collect();
    link.release(&mut batch);
    assert!(batch.is_empty());
    seen
}

#[test]
fn frames_come_in_order_in_line_and_out_of_line() {
    let (mut link, record) = link(1000);
    for round in 0..5 {
        let frames: Vec<_> = (0..40).map(|i| (frame(60 + 37 * i, i as u8), i % 2 == 0, i % 3 == 0)).collect();
        record.borrow_mut().waiting.extend(frames.iter().cloned());
        link.more = true;
        let mut got = Vec::new();
        for pass in 0..3 {
            assert!(link.has_frames(), "round {round}: there may be more");
            got.extend(receive(&mut link, 32));
            assert_eq!(got.len(), frames.len().min((pass + 1) * PASS), "requests come in between");
        }
        assert!(!link.has_frames());
        assert_eq!(got, frames.into_iter().map(|(bytes, good, _)| (bytes, good)).collect::<Vec<_>>());
    }
    assert!(PAGES.with(|pages| *pages.borrow()) <= PAGES_MAX as i32);
    drop(link);
    assert_eq!(PAGES.with(|pages| *pages.borrow()), 0);
}

#[test]
fn an_empty_port_is_asked_once() {
    let (mut link, record) = link(usize::MAX);
    assert!(receive(&mut link, 32).is_empty());
    assert_eq!(record.borrow().receives, 1);
    assert!(receive(&mut link, 32).is_empty());
    assert_eq!(record.borrow().receives, 1, "only a frame that is handed over says that there may be more");
    record.borrow_mut().waiting.push_back((frame(64, 2), false, false));
    let mut room = link.take_room();
    assert!(room.len() >= DATA_MAX);
    room[..60].copy_from_slice(&frame(60, 1));
    link.hand(room, Arrived { length: 60, checksum_good: true, page: None });
    assert!(link.has_frames());
    assert_eq!(receive(&mut link, 32), [(frame(60, 1), true), (frame(64, 2), false)]);
    assert!(link.room.is_some(), "the room comes back with the frame");
    let room = link.take_room();
    link.hand(room, Arrived { length: 70, checksum_good: false, page: Some(Page::new(&frame(70, 3))) });
    assert!(link.room.is_some(), "or at once");
    assert_eq!(receive(&mut link, 1), [(frame(70, 3), false)]);
}

#[test]
fn a_frame_goes_as_it_was_built() {
    let (mut link, record) = link(1000);
    let request = Some(ChecksumRequest { start: 34, offset: 16 });
    for length in [42, 60, 999, 1000, 1514] {
        send(&mut link, &frame(length, 9), request);
        let (bytes, checksum, paged) = record.borrow_mut().sent.pop().unwrap();
        assert_eq!((bytes, checksum, paged), (frame(length, 9), request, length >= 1000));
    }
    link.transmit(1200, |_| ((), Built::Keep));
    link.transmit(100, |_| ((), Built::Keep));
    assert!(record.borrow().sent.is_empty());
    send(&mut link, &frame(1500, 1), None);
    assert_eq!(record.borrow().made, 3, "the page that was not sent is used again");
}

#[test]
fn pages_that_came_are_sent() {
    let (mut link, record) = link(1000);
    record.borrow_mut().waiting.extend((0..10).map(|i| (frame(1200, i), true, true)));
    assert_eq!(receive(&mut link, 32).len(), 10);
    for i in 0..12 {
        send(&mut link, &frame(1300, i), None);
    }
    assert_eq!(record.borrow().made, 2);
    drop(link);
    assert_eq!(PAGES.with(|pages| *pages.borrow()), 0);
}

#[test]
fn what_the_device_has_no_room_for_waits_in_order_and_is_not_more_than_some() {
    let (mut link, record) = link(1000);
    record.borrow_mut().room = 3;
    let lengths = |i: usize| if i.is_multiple_of(2) { 100 } else { 1400 };
    for i in 0..3 + KEPT_MAX + 5 {
        send(&mut link, &frame(lengths(i), i as u8), None);
    }
    assert_eq!((record.borrow().sent.len(), link.no_buffer(), link.has_kept()), (3, 5, true));
    assert!(!link.ready());
    record.borrow_mut().room = 10;
    link.flush();
    assert_eq!(record.borrow().sent.len(), 13);
    record.borrow_mut().room = 1000;
    // What is sent now goes behind them.
    send(&mut link, &frame(77, 77), None);
    assert!(link.ready() && !link.has_kept());
    let sent = core::mem::take(&mut record.borrow_mut().sent);
    assert_eq!(sent.len(), 3 + KEPT_MAX + 1);
    for (i, (bytes, _, paged)) in sent[..3 + KEPT_MAX].iter().enumerate() {
        assert_eq!((bytes, *paged), (&frame(lengths(i), i as u8), !i.is_multiple_of(2)));
    }
    assert_eq!(sent[3 + KEPT_MAX].0, frame(77, 77));
    drop(link);
    assert_eq!(PAGES.with(|pages| *pages.borrow()), 0);
}
