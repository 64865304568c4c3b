//! External storage: attached, copied by reference, sent, and back with its owner exactly once.
#![cfg(not(loom))]
#![expect(unsafe_code, reason = "makes the memory that stands for the window")]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    ptr::NonNull,
};

use mbuf::{
    Audit, ChainError, EXTERNAL_PAGE_BYTES, ExternalError, ExternalPage, Flags, Geometry, GeometryError,
    InterruptSpace, NoLedger, Places, ProtocolSpace, View,
};
use shmqueue::{DualQueue, InConsumer, InProducer, Item, PeerMisbehaviour, sync::AtomicU32};

const PAGES: usize = 6;

/// A window with external storage, whose bytes are a pattern.
struct Window {
    base: NonNull<u8>,
    geometry: Geometry,
}

impl Window {
    fn new() -> Self {
        let places = Places::packed(64, 2, 16, 8).unwrap().with_external(PAGES as u32 * EXTERNAL_PAGE_BYTES);
        let geometry = Geometry::new(places.unwrap()).unwrap();
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(Self::layout(&geometry)) }).unwrap();
        let window = Self { base, geometry };
        mbuf::init(&window.view());
        let (start, bytes) = window.view().external_ptr().unwrap();
        for at in 0..bytes {
            // SAFETY: inside, and nobody else's yet.
            unsafe { start.add(at as usize).write(Self::byte(at)) };
        }
        window
    }

    fn layout(geometry: &Geometry) -> Layout {
        Layout::from_size_align(geometry.places().window_bytes as usize, 4096).unwrap()
    }

    fn byte(at: u32) -> u8 {
        (at * 7 + at / 4096) as u8
    }

    fn view(&self) -> View<'_> {
        // SAFETY: the memory lives as long as `self` and is reached through views only.
        unsafe { View::new(self.base, self.geometry) }
    }

    /// Page `n` of the storage.
    fn page(&self, n: u32) -> u32 {
        self.geometry.places().external + n * EXTERNAL_PAGE_BYTES
    }

    fn assert_all_free(&self) {
        let all = Audit { mbufs: self.geometry.mbufs(), clusters: self.geometry.clusters() };
        assert_eq!(self.view().audit(), Ok(all), "a buffer is missing");
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.base.as_ptr(), Self::layout(&self.geometry)) };
    }
}

fn contents(space: &ProtocolSpace<'_>, item: Item) -> Vec<u8> {
    let len = space.chain_len(item).unwrap() as usize;
    let mut got = vec![0; len];
    assert_eq!(space.copy_data(item, 0, &mut got), Ok(len));
    assert_eq!(space.view().mbuf(item).unwrap().packet_len() as usize, len);
    assert!(space.view().mbuf(item).unwrap().flags().has(Flags::PACKET));
    got
}

fn pattern(from: u32, len: u32) -> Vec<u8> {
    (from..from + len).map(Window::byte).collect()
}

#[test]
fn an_area_is_referred_to_and_comes_back_once() {
    let window = Window::new();
    let mut pages = [ExternalPage::FREE; PAGES];
    let mut space = ProtocolSpace::with_external(window.view(), &mut pages);
    let whole = space.attach_external(window.page(1), 10_000).unwrap();
    assert_eq!(contents(&space, whole), pattern(4096, 10_000));
    let area = Item::new(window.page(1)).unwrap();
    assert_eq!(space.references(area), Some(1));

    let copy = space.copy_range(whole, 5000, 2000).unwrap();
    assert_eq!(space.references(area), Some(2));
    assert_eq!(contents(&space, copy), pattern(9096, 2000));
    let second = space.split(copy, 700).unwrap();
    assert_eq!(space.references(area), Some(3));
    assert_eq!((contents(&space, copy), contents(&space, second)), (pattern(9096, 700), pattern(9796, 1300)));
    space.trim_front(second, 100).unwrap();
    space.trim_back(second, 200).unwrap();
    assert_eq!(contents(&space, second), pattern(9896, 1000));

    for (left, item) in [(2, whole), (1, second)] {
        space.free_chain(item);
        assert_eq!((space.references(area), space.take_unreferenced()), (Some(left), None));
    }
    space.free_chain(copy);
    assert_eq!(space.references(area), Some(0));
    // Its owner has not yet taken it back.
    for page in [1, 3] {
        assert_eq!(space.attach_external(window.page(page), 10), Err(ExternalError::InUse));
    }
    assert_eq!(space.take_unreferenced(), Some((window.page(1), 10_000)));
    assert_eq!(space.take_unreferenced(), None);
    let again = space.attach_external(window.page(3), 10).unwrap();
    space.free_chain(again);
    assert_eq!(space.take_unreferenced(), Some((window.page(3), 10)));
    assert_eq!(space.misbehaviour(), None);
    window.assert_all_free();
}

#[test]
fn external_data_is_not_written() {
    let window = Window::new();
    let mut pages = [ExternalPage::FREE; PAGES];
    let mut space = ProtocolSpace::with_external(window.view(), &mut pages);
    let item = space.attach_external(window.page(0), 3000).unwrap();
    space.trim_front(item, 100).unwrap();
    // There is room before the data, but it is not the packet's to write.
    let whole = space.prepend(item, 20).unwrap();
    assert_ne!(whole, item);
    assert!(!space.view().mbuf(whole).unwrap().flags().has(Flags::EXTERNAL));
    assert_eq!(contents(&space, whole)[20..], pattern(100, 2900));
    // What is pulled up is a copy.
    let whole = space.pull_up(whole, 1000).unwrap();
    assert_eq!(contents(&space, whole)[20..], pattern(100, 2900));
    assert_eq!(space.view().mbuf(whole).unwrap().len(), 1000);
    space.free_chain(whole);
    assert_eq!(space.take_unreferenced(), Some((window.page(0), 3000)));
    let (start, bytes) = window.view().external_ptr().unwrap();
    // SAFETY: inside of the storage.
    assert!((0..bytes).all(|at| unsafe { start.add(at as usize).read() } == Window::byte(at)));
    window.assert_all_free();
}

#[test]
fn what_is_no_area_is_refused_and_nothing_has_changed() {
    let window = Window::new();
    let mut pages = [ExternalPage::FREE; PAGES - 1];
    let mut space = ProtocolSpace::with_external(window.view(), &mut pages);
    let outside = [
        (0, 10),
        (window.page(0) + 64, 10),
        (window.page(0) - EXTERNAL_PAGE_BYTES, 10),
        (window.page(PAGES as u32), 10),
        (window.page(0), 0),
        (window.page(2), 4 * EXTERNAL_PAGE_BYTES + 1),
        (window.page(0), u32::MAX),
        (window.page(5), 10), // in the storage, but without a record
        (window.page(2), 4 * EXTERNAL_PAGE_BYTES),
    ];
    for (start, bytes) in outside {
        assert_eq!(space.attach_external(start, bytes), Err(ExternalError::Outside), "{start:#x} {bytes}");
    }
    let item = space.attach_external(window.page(2), 2 * EXTERNAL_PAGE_BYTES).unwrap();
    for (start, bytes) in [(window.page(1), 4097), (window.page(2), 1), (window.page(3), 1)] {
        assert_eq!(space.attach_external(start, bytes), Err(ExternalError::InUse));
    }
    // More records than there are pages make no more storage.
    let mut many = [ExternalPage::FREE; PAGES + 4];
    let mut other = ProtocolSpace::with_external(window.view(), &mut many);
    let start = window.page(PAGES as u32 - 1);
    assert_eq!(other.attach_external(start, EXTERNAL_PAGE_BYTES + 1), Err(ExternalError::Outside));
    assert_eq!(other.attach_external(window.page(PAGES as u32), 1), Err(ExternalError::Outside));

    let mut hoard = Vec::new();
    while let Some(item) = space.alloc() {
        hoard.push(item);
    }
    assert_eq!(space.attach_external(window.page(0), 1), Err(ExternalError::NoBuffer));
    assert_eq!(space.copy_range(item, 0, 10), Err(ChainError::NoBuffer));
    assert_eq!(space.references(Item::new(window.page(2)).unwrap()), Some(1));
    // A copy that fails at its second mbuf keeps nothing of its first.
    let last = hoard.pop().unwrap();
    space.concatenate(item, last).unwrap();
    let mbuf = space.view().mbuf(last).unwrap();
    mbuf.set_len(4);
    let room = hoard.pop().unwrap();
    space.free_chain(room);
    assert_eq!(space.copy_range(item, 0, u32::MAX), Err(ChainError::NoBuffer));
    assert_eq!(space.references(Item::new(window.page(2)).unwrap()), Some(1));
    space.free_batch(&hoard);
    space.free_chain(item);
    assert_eq!(space.take_unreferenced(), Some((window.page(2), 2 * EXTERNAL_PAGE_BYTES)));
    window.assert_all_free();
}

#[test]
fn areas_come_back_in_the_order_in_which_they_were_given_up() {
    let window = Window::new();
    let mut pages = [ExternalPage::FREE; PAGES];
    let mut space = ProtocolSpace::with_external(window.view(), &mut pages);
    let items = [4, 0, 2].map(|n| space.attach_external(window.page(n), 4000 + n).unwrap());
    space.free_batch(&items);
    assert_eq!(space.take_unreferenced(), Some((window.page(4), 4004)));
    let last = space.attach_external(window.page(5), 1).unwrap();
    space.free_chain(last);
    for (n, bytes) in [(0, 4000), (2, 4002), (5, 1)] {
        assert_eq!(space.take_unreferenced(), Some((window.page(n), bytes)));
    }
    assert_eq!(space.take_unreferenced(), None);
}

#[test]
fn the_driver_leaves_external_storage_to_the_server() {
    let window = Window::new();
    let mut pages = [ExternalPage::FREE; PAGES];
    let mut space = ProtocolSpace::with_external(window.view(), &mut pages);
    let queue = DualQueue::new();
    let (mut deferred, mut drained) =
        (InProducer::new(&queue, window.view()), InConsumer::new(&queue, window.view()));
    let mut driver = InterruptSpace::new(window.view());
    let item = space.attach_external(window.page(0), 1400).unwrap();
    let simple = space.alloc().unwrap();
    let freed = driver.try_free(&[item, simple], &mut NoLedger, |item| deferred.append(item).unwrap());
    assert_eq!((freed, driver.stats().deferred), (Ok(1), 1));
    assert_eq!(space.take_unreferenced(), None);
    assert_eq!(space.drain_deferred(&mut drained, 10), Ok(1));
    assert_eq!(space.take_unreferenced(), Some((window.page(0), 1400)));
    window.assert_all_free();
}

/// The word in an mbuf's header that says where its data is.
fn storage_word(window: &Window, item: Item) -> &AtomicU32 {
    // SAFETY: a word of an mbuf's header, inside of the window and atomic.
    unsafe { window.base.add(item.get() as usize + 24).cast().as_ref() }
}

#[test]
fn offsets_that_lie_are_no_storage() {
    let window = Window::new();
    let mut pages = [ExternalPage::FREE; PAGES];
    let mut space = ProtocolSpace::with_external(window.view(), &mut pages);
    let mut driver = InterruptSpace::new(window.view());
    let item = space.attach_external(window.page(1), 5000).unwrap();
    let word = storage_word(&window, item);
    for lie in [window.page(1) + 4, window.page(PAGES as u32), 5, u32::MAX] {
        word.store(lie, shmqueue::sync::Ordering::Relaxed);
        assert_eq!(space.view().extent(item), None, "{lie:#x}");
        let outcome = driver.try_free(&[item], &mut NoLedger, |_| panic!("deferred"));
        assert_eq!(outcome, Err(PeerMisbehaviour::NotAnItem(lie)));
        assert_eq!(space.copy_range(item, 0, 10), Err(ChainError::Corrupt));
    }
    // An area that is not there: the driver cannot know, the server does.
    for lie in [window.page(0), window.page(2)] {
        word.store(lie, shmqueue::sync::Ordering::Relaxed);
        assert_eq!(driver.try_free(&[item], &mut NoLedger, |_| ()), Ok(0));
        assert_eq!(space.copy_range(item, 0, 10), Err(ChainError::Corrupt));
        assert!(!space.share(Item::new(lie).unwrap()));
        space.free_chain(item);
        assert!(matches!(space.misbehaviour(), Some(PeerMisbehaviour::Refused(_))));
    }
    word.store(window.page(1), shmqueue::sync::Ordering::Relaxed);
    // Data outside of the storage.
    let mbuf = space.view().mbuf(item).unwrap();
    for (data, len) in [(window.page(0) - 1, 5), (window.page(PAGES as u32) - 4, 5), (4, 4)] {
        mbuf.set_data(data);
        mbuf.set_len(len);
        assert_eq!(space.view().extent(item), None);
    }
    // A space that knows of no storage frees none.
    let mut other = ProtocolSpace::new(window.view());
    other.free_chain(item);
    assert_eq!(other.misbehaviour(), Some(PeerMisbehaviour::NotAnItem(window.page(1))));
}

#[test]
fn copies_of_chains_hold_what_they_were_made_of() {
    let window = Window::new();
    let mut pages = [ExternalPage::FREE; PAGES];
    let mut space = ProtocolSpace::with_external(window.view(), &mut pages);
    // An mbuf's own bytes, a cluster, and external storage.
    let whole = space.packet_from(&[1; 60]).unwrap();
    for item in [space.packet_from(&[2; 1500]).unwrap(), space.attach_external(window.page(0), 900).unwrap()]
    {
        space.concatenate(whole, item).unwrap();
    }
    let mbuf = space.view().mbuf(whole).unwrap();
    mbuf.set_flags(mbuf.flags().with(Flags::DATA_CHECKSUM_WANTED));
    mbuf.set_checksum(34, 16);
    let bytes = contents(&space, whole);
    for (from, len) in
        [(0, 2460), (0, 60), (30, 40), (59, 1), (60, 1500), (100, 2000), (1560, 900), (2460, 0), (0, 0)]
    {
        let copy = space.copy_range(whole, from as u32, len as u32).unwrap();
        assert_eq!(contents(&space, copy), bytes[from..from + len], "{from} {len}");
        let head = space.view().mbuf(copy).unwrap();
        assert_eq!(head.flags().has(Flags::DATA_CHECKSUM_WANTED), from == 0);
        assert_eq!(head.checksum(), if from == 0 { (34, 16) } else { (0, 0) });
        space.free_chain(copy);
    }
    let all = space.copy_range(whole, 7, u32::MAX).unwrap();
    assert_eq!(contents(&space, all), bytes[7..]);
    assert_eq!(space.copy_range(whole, 2461, 0), Err(ChainError::TooShort));
    assert_eq!(space.copy_range(whole, 2000, 461), Err(ChainError::TooShort));
    // The copy outlives what it was made of.
    space.free_chain(whole);
    assert_eq!(contents(&space, all), bytes[7..]);
    space.free_chain(all);
    assert_eq!(space.take_unreferenced(), Some((window.page(0), 900)));
    window.assert_all_free();
}

#[test]
fn places_of_external_storage_are_checked() {
    let good = Places::packed(64, 1, 8, 4).unwrap().with_external(8192).unwrap();
    assert!(Geometry::new(good).is_ok());
    assert_eq!(Places::packed(64, 1, 8, 4).unwrap().with_external(100), None);
    assert_eq!(Places::packed(64, 1, 8, 4).unwrap().with_external(0x7fff_f000), None);
    for (places, error) in [
        (Places { external: good.external + 2048, ..good }, GeometryError::Misaligned),
        (Places { external_bytes: 4000, ..good }, GeometryError::Misaligned),
        (Places { external_bytes: 12288, ..good }, GeometryError::Outside),
        (Places { external: 0, ..good }, GeometryError::Outside),
        (Places { external: good.clusters.next_multiple_of(4096), ..good }, GeometryError::Overlap),
    ] {
        assert_eq!(Geometry::new(places), Err(error), "{places:?}");
    }
    // Without bytes there is no storage, wherever it may be said to begin.
    let none = Geometry::new(Places { external: 7, external_bytes: 0, ..good }).unwrap();
    assert_eq!(none.external_index(Item::new(good.external).unwrap()), None);
}
