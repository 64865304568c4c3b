//! External storage: its owner writes it again only when the device has read it, however the reference comes back.
#![cfg(loom)]
#![expect(unsafe_code, reason = "promises of exclusion that loom's cells check")]

use loom::{cell::UnsafeCell, sync::Arc, thread};
use loom_tests::{Event, check_within};
use mbuf::{
    Audit, EXTERNAL_PAGE_BYTES, ExternalPage, Geometry, InterruptSpace, LoomMemory, NoLedger, Places,
    ProtocolSpace, View,
};
use shmqueue::{DualQueue, InConsumer, InProducer, Item};

struct Model {
    memory: LoomMemory,
    geometry: Geometry,
    /// The bytes of the area.
    area: UnsafeCell<u32>,
    deferred: DualQueue,
    event: Event,
}

// SAFETY: loom's cell panics where the area is written while somebody reads it.
unsafe impl Sync for Model {}
// SAFETY: as above.
unsafe impl Send for Model {}

impl Model {
    fn new() -> Arc<Self> {
        let places = Places::packed(64, 1, 2, 1).unwrap().with_external(EXTERNAL_PAGE_BYTES).unwrap();
        let geometry = Geometry::new(places).unwrap();
        let model = Arc::new(Self {
            memory: LoomMemory::new(&geometry),
            geometry,
            area: UnsafeCell::new(0),
            deferred: DualQueue::new(),
            event: Event::new(),
        });
        mbuf::init(&model.view());
        model
    }

    fn view(&self) -> View<'_> {
        View::new(&self.memory, self.geometry)
    }
}

/// Two packets refer to one area. The device reads the one, the server is done with the other.
#[test]
fn an_area_is_written_when_all_have_read_it() {
    check_within(2, || {
        let m = Model::new();
        let mut pages = [ExternalPage::FREE];
        let mut space = ProtocolSpace::with_external(m.view(), &mut pages);
        let start = m.geometry.places().external;
        let first = space.attach_external(start, 1000).unwrap();
        let second = space.alloc().unwrap();
        let area = Item::new(start).unwrap();
        assert!(space.share(area));
        m.memory.refer(m.geometry.mbuf_index(second).unwrap(), area);
        let driver = thread::spawn({
            let m = Arc::clone(&m);
            move || {
                m.area.with(|_| ());
                let mut space = InterruptSpace::new(m.view());
                let mut deferred = InProducer::new(&m.deferred, m.view());
                let freed = space.try_free(&[second], &mut NoLedger, |item| deferred.append(item).unwrap());
                assert_eq!(freed, Ok(0), "only the server knows who refers to an area");
                if space.wanted() {
                    m.event.post();
                }
            }
        });
        space.free_chain(first);
        let mut deferred = InConsumer::new(&m.deferred, m.view());
        let taken = loop {
            if let Some(taken) = space.take_unreferenced() {
                break taken;
            }
            space.want();
            if space.drain_deferred(&mut deferred, 8).unwrap() == 0 {
                m.event.wait();
            }
            space.unwant();
        };
        assert_eq!(taken, (start, 1000));
        m.area.with_mut(|_| ());
        driver.join().unwrap();
        assert_eq!((space.take_unreferenced(), space.misbehaviour()), (None, None));
        assert_eq!(m.view().audit(), Ok(Audit { mbufs: 2, clusters: 1 }));
    });
}
