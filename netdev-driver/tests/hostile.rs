//! The endpoint when one of its ends fails: a server that lies, sleeps or hoards, a device that stands still, floods of bad frames.
#![expect(unsafe_code, reason = "a hostile server writes anywhere into the window")]

mod fake;

use abi::{
    counters::Counter,
    window::{Config, Layout, Queue, QueueKind, RING_ITEMS},
};
use fake::{
    Random, bad_frames,
    e1000::E1000Model,
    ipv4_frame,
    rig::{Rig, Wire, config},
    server::Server,
    virtio::VirtioModel,
};
use mbuf::Flags;
use netdev_driver::{Outcome, endpoint::STUCK_NS};
use shmqueue::{
    PeerMisbehaviour,
    queue::{Consume, Produce},
};

for_all! {
    without_buffers_frames_are_dropped_and_all_goes_on;
    a_server_that_lags_behind_leaves_frames_in_the_ring;
    floods_of_bad_frames_cost_counters;
    a_device_that_stands_still_is_reset;
    a_locked_pool_defers_frees;
    what_the_server_may_not_give_is_misbehaviour;
    data_may_end_where_the_buffer_ends;
    a_cluster_that_is_exchanged_while_it_is_sent_is_misbehaviour;
    a_kept_packet_that_changes_while_it_is_sent_is_released_as_claimed;
    a_hostile_window_is_survived;
    windows_open_and_close;
}

/// A ring has room for all mbufs, so it is full only by a lie of its consumer. Frames are then dropped and counted, and all goes on when the
/// lie ends; but where buffers cannot be given back the window is closed.
#[test]
fn a_ring_that_pretends_to_be_full_costs_frames_or_the_window() {
    in_ring_pretends::<E1000Model>();
    in_ring_pretends::<VirtioModel>();
    deferred_ring_pretends::<E1000Model>();
    deferred_ring_pretends::<VirtioModel>();
}

/// Writes a ring's second line, the consumer's index.
fn set_head<W: Wire>(rig: &Rig<W>, queue: Queue, head: u32) {
    let at = rig.layout.queue_at(queue) as usize + 64;
    // SAFETY: inside the leaked window; this is what a hostile server does.
    unsafe { rig.base.add(at).cast::<u32>().write_volatile(head) };
}

fn in_ring_pretends<W: Wire>() {
    let mut rig = Rig::<W>::new(config(QueueKind::Ring));
    // The producer looks at the index when it has gone round once.
    let mut came = 0;
    while came < RING_ITEMS as u32 - 4 {
        for _ in 0..60.min(RING_ITEMS as u32 - 4 - came) {
            assert!(rig.wire(&ipv4_frame(60, came)));
            came += 1;
        }
        assert_eq!(rig.interrupts().misbehaviour, None);
        rig.server.receive();
    }
    set_head(&rig, Queue::InIpv4, 0);
    for number in 0..10 {
        assert!(rig.wire(&ipv4_frame(60, number)));
    }
    assert_eq!(rig.interrupts().misbehaviour, None);
    assert_eq!(
        (rig.count(Counter::DropQueueFull), rig.count(Counter::DeliveredIpv4)),
        (6, u64::from(came) + 4)
    );
    assert!(rig.wire(&ipv4_frame(60, 10)));
    let _ = rig.interrupts();
    assert_eq!(rig.count(Counter::DropQueueFull), 7);
    rig.counts().assert_settled();
    // The server takes what there is, and so tells the truth again.
    assert_eq!(rig.server.receive().len(), 4);
    assert!(rig.wire(&ipv4_frame(60, 11)));
    let _ = rig.interrupts();
    assert_eq!(rig.server.receive().len(), 1);
    rig.settle();
    // An index that cannot be costs the window.
    let room = RING_ITEMS as u32;
    for _ in 0..room {
        assert!(rig.wire(&ipv4_frame(60, 12)));
        set_head(&rig, Queue::InIpv4, u32::MAX / 2);
        if let Some(misbehaviour) = rig.interrupts().misbehaviour {
            assert_eq!(misbehaviour, PeerMisbehaviour::Index(u32::MAX / 2));
            rig.endpoint.close(0);
            rig.counts().assert_settled();
            return;
        }
        rig.server.receive();
    }
    panic!("the index was never looked at");
}

fn deferred_ring_pretends<W: Wire>() {
    let mut rig = Rig::<W>::new(config(QueueKind::Ring));
    let frame = ipv4_frame(100, 0);
    for number in 0..=RING_ITEMS as u32 {
        // The consumer's index as it was before the first buffer came back.
        if number == RING_ITEMS as u32 {
            set_head(&rig, Queue::DeferredFree, 0);
        }
        // A chain is never freed by the driver itself.
        let item = rig.server.frame(&frame, &[50]).unwrap();
        let outcome = if rig.server.send(item) { rig.endpoint.start(0) } else { Outcome::default() };
        rig.step();
        let polled = rig.endpoint.poll();
        let misbehaviour = outcome.misbehaviour.or(polled.misbehaviour);
        if number == RING_ITEMS as u32 {
            assert_eq!(misbehaviour, Some(PeerMisbehaviour::Refused(item.get())));
        } else {
            assert_eq!(misbehaviour, None, "{number}");
            rig.server.drain_deferred();
            rig.sent();
        }
    }
}

mod on {
    use super::*;

    /// The server keeps all it gets: the ring stays filled, frames are dropped, and when buffers come back all goes on.
    pub fn without_buffers_frames_are_dropped_and_all_goes_on<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        let mut hoard = Vec::new();
        while let Some(item) = rig.server.space.alloc_cluster() {
            hoard.push(item);
        }
        for number in 0..2000 {
            assert!(rig.wire(&ipv4_frame(200, number)), "the ring ran dry");
            assert_eq!(rig.interrupts().misbehaviour, None);
        }
        assert!(rig.count(Counter::DropNoBuffer) > 1500);
        assert!(rig.count(Counter::PoolsUnavailable) > 0);
        assert!(rig.owned() > 0);
        for item in hoard {
            rig.server.space.free_chain(item);
        }
        rig.server.receive();
        let dropped = rig.count(Counter::DropNoBuffer);
        for number in 0..2000 {
            rig.wire(&ipv4_frame(200, number));
            let _ = rig.interrupts();
            rig.server.receive();
        }
        assert!(rig.count(Counter::DropNoBuffer) - dropped < 64);
        rig.settle();
    }

    /// More frames than the server has buffers for: a few are dropped, the rest wait in the ring, at no cost, and are delivered when
    /// buffers come back.
    pub fn a_server_that_lags_behind_leaves_frames_in_the_ring<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        let mut hoard = Vec::new();
        while let Some(item) = rig.server.space.alloc_cluster() {
            hoard.push(item);
        }
        let mut came = 0;
        while rig.wire(&ipv4_frame(200, came)) {
            came += 1;
        }
        let outcome = rig.endpoint.interrupt();
        let lent = rig.count(Counter::DeliveredIpv4);
        assert!(outcome.again, "who lags behind is looked at again");
        assert_eq!(rig.count(Counter::DropNoBuffer), 4);
        for look in 2..8 {
            assert!(rig.endpoint.poll().again);
            assert_eq!(
                (rig.count(Counter::DropNoBuffer), rig.count(Counter::DeliveredIpv4)),
                (4 * look, lent)
            );
        }
        assert_eq!(rig.server.receive().len() as u64, lent);
        for item in hoard {
            rig.server.space.free_chain(item);
        }
        // With buffers again no frame is dropped before they are in the ring.
        while rig.endpoint.poll().again {
            rig.server.receive();
        }
        rig.server.receive();
        assert_eq!(rig.count(Counter::DropNoBuffer), 28);
        assert_eq!(rig.count(Counter::DeliveredIpv4) + 28, u64::from(came));
        rig.settle();
    }

    pub fn floods_of_bad_frames_cost_counters<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        let mut random = Random(77);
        for frame in bad_frames() {
            rig.wire(&frame);
            if random.below(5) == 0 {
                let _ = rig.interrupts();
                rig.server.receive();
            }
        }
        let _ = rig.interrupts();
        rig.server.receive();
        rig.counts().assert_bad_frames();
        rig.settle();
    }

    pub fn a_device_that_stands_still_is_reset<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        rig.set(true, true);
        rig.server.keeps = true;
        for number in 0..10 {
            assert!(rig.send(&ipv4_frame(300, number), &[]));
        }
        let kept = rig.server.kept.len();
        for number in 0..5 {
            rig.wire(&ipv4_frame(60, number));
        }
        assert_eq!(rig.endpoint.audit(0).mbufs_transmitting, 10);
        let _ = rig.endpoint.watchdog(1_000);
        let _ = rig.endpoint.watchdog(STUCK_NS - 1);
        assert_eq!(rig.count(Counter::DeviceResets), 0);
        let _ = rig.endpoint.watchdog(STUCK_NS + 1_000);
        assert_eq!(rig.count(Counter::DeviceResets), 1);
        assert_eq!(rig.endpoint.audit(0).mbufs_transmitting, 0);
        assert_eq!(rig.server.receive().len(), 5, "what had come is not lost");
        assert!(kept > 0 && rig.server.kept.len() == kept);
        rig.server.drain_deferred();
        assert!(rig.server.kept.is_empty(), "what is kept was marked");
        rig.set(false, false);
        assert!(rig.wire(&ipv4_frame(60, 99)));
        assert!(rig.send(&ipv4_frame(300, 42), &[]));
        rig.step();
        assert_eq!(rig.sent(), [ipv4_frame(300, 42)]);
        let _ = rig.interrupts();
        assert_eq!(rig.server.receive().len(), 1);
        rig.settle();
        // One that has nothing to do is not stuck.
        let _ = rig.endpoint.watchdog(10 * STUCK_NS);
        let _ = rig.endpoint.watchdog(20 * STUCK_NS);
        assert_eq!(rig.count(Counter::DeviceResets), 1);
    }

    pub fn a_locked_pool_defers_frees<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        rig.set(false, true);
        for number in 0..20 {
            assert!(rig.send(&ipv4_frame(300, number), &[]));
        }
        rig.step();
        let view = rig.server.view;
        let guards = [0, 1].map(|pool| view.pool_control(pool).unwrap().mutex().lock_protocol());
        rig.server.space.want();
        let outcome = rig.endpoint.poll();
        assert_eq!(outcome.resume, 1, "the server wants buffers");
        assert_eq!(rig.endpoint.audit(0).mbufs_transmitting, 0);
        assert_eq!(rig.count(Counter::DeferredFrees), 20);
        assert!(rig.count(Counter::LockFailures) > 0);
        drop(guards);
        rig.server.space.unwant();
        rig.settle();
    }

    pub fn what_the_server_may_not_give_is_misbehaviour<W: Wire>(queue: QueueKind) {
        type Lie<W> = (&'static str, fn(&mut Rig<W>) -> shmqueue::Item);
        let lies: [Lie<W>; 8] = [
            ("twice", |rig| {
                let item = rig.server.frame(&[7; 100], &[]).unwrap();
                rig.server.out.produce(item).unwrap();
                assert_eq!(rig.endpoint.start(0).misbehaviour, None);
                item
            }),
            ("a cycle", |rig| {
                let item = rig.server.frame(&[7; 100], &[50]).unwrap();
                let second = rig.server.view.mbuf(item).unwrap().next().unwrap();
                rig.server.view.mbuf(second).unwrap().set_next(Some(item));
                item
            }),
            ("an mbuf of the receive ring", |rig| {
                let free: Vec<_> = std::iter::from_fn(|| rig.server.space.alloc()).collect();
                let all = (0..rig.layout.config.mbufs()).map(|i| rig.layout.mbufs_at + 128 * i);
                let posted = all.filter_map(shmqueue::Item::new).find(|item| !free.contains(item)).unwrap();
                rig.server.view.mbuf(posted).unwrap().set_next(None);
                posted
            }),
            ("data before the buffer", |rig| {
                let item = rig.server.frame(&[7; 100], &[]).unwrap();
                let mbuf = rig.server.view.mbuf(item).unwrap();
                mbuf.set_data(mbuf.data() - 1);
                item
            }),
            ("data behind the buffer", |rig| {
                let item = rig.server.frame(&[7; 100], &[]).unwrap();
                let mbuf = rig.server.view.mbuf(item).unwrap();
                mbuf.set_data(mbuf.data() + 2048 - 100 + 1);
                item
            }),
            ("data behind an mbuf's own room", |rig| {
                let item = rig.server.frame(&[7; 60], &[]).unwrap();
                let mbuf = rig.server.view.mbuf(item).unwrap();
                mbuf.set_data(mbuf.data() + 80 - 60 + 1);
                item
            }),
            ("a sum that wraps", |rig| {
                let item = rig.server.frame(&[7; 100], &[]).unwrap();
                let mbuf = rig.server.view.mbuf(item).unwrap();
                mbuf.set_data(mbuf.data() + 10);
                mbuf.set_len(u32::MAX - 5);
                item
            }),
            ("a link to nowhere", |rig| {
                let item = rig.server.frame(&[7; 100], &[]).unwrap();
                rig.server.view.mbuf(item).unwrap().set_next(shmqueue::Item::new(rig.layout.mbufs_at + 64));
                item
            }),
        ];
        for (what, lie) in lies {
            let mut rig = Rig::<W>::new(config(queue));
            rig.set(true, true);
            let item = lie(&mut rig);
            rig.server.out.produce(item).unwrap();
            let outcome = rig.endpoint.start(0);
            assert!(outcome.misbehaviour.is_some(), "{what}");
            rig.endpoint.close(0);
            assert_eq!(rig.endpoint.audit(0), abi::device::Audit::default());
            assert_eq!(rig.owned(), 0);
            rig.counts().assert_settled();
        }
        // A free list that leads into the receive ring.
        let mut rig = Rig::<W>::new(config(queue));
        assert!(rig.wire(&ipv4_frame(60, 0)));
        let _ = rig.interrupts();
        let item = rig.server.input[1].consume().unwrap().unwrap();
        let posted = (0..rig.layout.config.mbufs())
            .filter_map(|i| shmqueue::Item::new(rig.layout.mbufs_at + 128 * i))
            .rfind(|&posted| posted != item && rig.server.view.mbuf(posted).unwrap().cluster().is_some())
            .unwrap();
        rig.server.space.free_chain(item);
        rig.server.view.mbuf(item).unwrap().set_next(Some(posted));
        let mut misbehaviour = None;
        for number in 0..200 {
            rig.wire(&ipv4_frame(60, number));
            misbehaviour = misbehaviour.or(rig.interrupts().misbehaviour);
        }
        assert!(matches!(misbehaviour, Some(PeerMisbehaviour::Refused(_))), "{misbehaviour:?}");
    }

    pub fn data_may_end_where_the_buffer_ends<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        for (bytes, room) in [(100, 2048), (60, 80)] {
            let item = rig.server.frame(&vec![7; bytes as usize], &[]).unwrap();
            let mbuf = rig.server.view.mbuf(item).unwrap();
            mbuf.set_data(mbuf.data() + room - bytes);
            if rig.server.send(item) {
                assert_eq!(rig.endpoint.start(0).misbehaviour, None);
            }
            rig.step();
            assert_eq!(rig.sent().len(), 1);
        }
        rig.settle();
    }

    /// What is freed is what was claimed: the ledger's word counts, not what the mbuf says when the frame has left.
    pub fn a_cluster_that_is_exchanged_while_it_is_sent_is_misbehaviour<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        rig.set(false, true);
        // The first may be the last of its pool; the other two are of one pool.
        let [_, sent, kept] = [0, 1, 2].map(|n| rig.server.frame(&ipv4_frame(300, n), &[]).unwrap());
        let other = rig.server.view.mbuf(kept).unwrap().cluster().unwrap();
        assert!(rig.server.send(sent));
        assert_eq!(rig.endpoint.start(0).misbehaviour, None);
        // SAFETY: the word of the mbuf that names its cluster, inside the leaked window; this is what a hostile server does.
        unsafe { rig.base.add(sent.get() as usize + 24).cast::<u32>().write_volatile(other.get()) };
        rig.step();
        assert_eq!(rig.endpoint.poll().misbehaviour, Some(PeerMisbehaviour::Refused(sent.get())));
    }

    /// The kernel has noted what it claimed, and that the server keeps it; what the mbuf says when the frame has left is all the same.
    pub fn a_kept_packet_that_changes_while_it_is_sent_is_released_as_claimed<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        rig.set(false, true);
        let [kept, other, freed] = [0, 1, 2].map(|n| rig.server.frame(&ipv4_frame(300, n), &[]).unwrap());
        rig.server.keep(kept);
        for item in [kept, freed] {
            if rig.server.send(item) {
                assert_eq!(rig.endpoint.start(0).misbehaviour, None);
            }
        }
        let words = |item: shmqueue::Item| {
            // SAFETY: the words of an mbuf, inside the leaked window; this is what a hostile server writes.
            unsafe { rig.base.add(item.get() as usize).cast::<[u32; 8]>() }
        };
        // SAFETY: as above.
        let before = unsafe { words(kept).read_volatile() };
        let mut lies = before;
        (lies[0], lies[4], lies[6]) = (other.get(), 0, other.get());
        // SAFETY: as above.
        unsafe { words(kept).write_volatile(lies) };
        // To say afterwards that one is kept which was not is nothing either: it goes to its pool.
        rig.server.view.mbuf(freed).unwrap().set_flags(Flags::PACKET.with(Flags::KEEP));
        rig.step();
        assert_eq!(rig.endpoint.poll().misbehaviour, None);
        assert_eq!(rig.endpoint.audit(0).clusters_transmitting, 0);
        assert!(!rig.server.view.mbuf(freed).unwrap().is_sent());
        assert!(rig.server.view.mbuf(kept).unwrap().is_sent());
        // SAFETY: as above.
        unsafe {
            words(kept).write_volatile([
                before[0],
                before[1],
                before[2],
                before[3],
                Flags::SENT.0,
                0,
                before[6],
                0,
            ]);
        };
        rig.server.space.free_chain(other);
        rig.sent();
        // Twice at a time is once too often.
        rig.server.kept.clear();
        rig.server.keep(kept);
        rig.set(true, true);
        assert!(rig.server.send(kept) && rig.endpoint.start(0).misbehaviour.is_none());
        let outcome = if rig.server.send(kept) { rig.endpoint.start(0) } else { rig.endpoint.poll() };
        assert_eq!(outcome.misbehaviour, Some(PeerMisbehaviour::Refused(kept.get())));
    }

    /// Random words all over the control part of the window, while traffic goes on: nothing panics, hangs or touches what it must not.
    pub fn a_hostile_window_is_survived<W: Wire>(queue: QueueKind) {
        let mut random = Random(0xbad);
        let (mut closed, mut opened) = (0, 0);
        let mut rig = Rig::<W>::new(Config { pools: 2, mbufs_per_pool: 128, clusters_per_pool: 64, queue });
        for round in 0..6000u32 {
            rig.set(false, random.below(2) == 0);
            for _ in 0..random.below(6) {
                rig.wire(&ipv4_frame(60 + random.below(1400) as usize, round));
            }
            for _ in 0..1 + random.below(4) {
                // The words in front of each queue's block are its own; a ring's items come after them.
                let queue = 4096 + random.below(6) as u32 * queue.block_bytes();
                let area = match random.below(5) {
                    0 => queue..queue + 256,
                    4 => 4096..rig.layout.pools_at,
                    1 => rig.layout.pools_at..rig.layout.mbufs_at,
                    _ => rig.layout.mbufs_at..rig.layout.clusters_at,
                };
                let at = area.start + 4 * random.below(u64::from((area.end - area.start) / 4)) as u32;
                let word = match random.below(4) {
                    0 => random.next() as u32,
                    1 => random.below(3) as u32,
                    2 => {
                        rig.layout.mbufs_at + 128 * random.below(u64::from(rig.layout.config.mbufs())) as u32
                    }
                    _ => {
                        rig.layout.clusters_at
                            + 2048 * random.below(u64::from(rig.layout.config.clusters())) as u32
                    }
                };
                // SAFETY: inside the leaked window; this is what a hostile server does.
                unsafe { rig.base.add(at as usize).cast::<u32>().write_volatile(word) };
            }
            let mut outcomes = vec![rig.interrupts(), rig.endpoint.start(0)];
            rig.step();
            outcomes.push(rig.endpoint.watchdog(u64::from(round) * 1_000_000));
            rig.sent();
            rig.counts().assert_settled();
            if outcomes.iter().any(|outcome| outcome.misbehaviour.is_some()) || random.below(50) == 0 {
                rig.endpoint.close(0);
                rig.counts().assert_settled();
                closed += 1;
                let _ = rig.endpoint.open(0).unwrap();
                opened += 1;
            }
        }
        assert!(closed > 100 && opened == closed);
        // And after all that an honest server does well.
        rig.endpoint.close(0);
        let _ = rig.endpoint.open(0).unwrap();
        rig.server = Server::new(rig.base, rig.layout);
        rig.sent();
        assert!(rig.wire(&ipv4_frame(60, 1)) && rig.send(&ipv4_frame(60, 2), &[]));
        let _ = rig.interrupts();
        assert_eq!(rig.server.receive().len(), 1);
        rig.settle();
        assert_eq!(rig.sent(), [ipv4_frame(60, 2)]);
    }

    pub fn windows_open_and_close<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        for round in 0..20u32 {
            assert!(rig.endpoint.open(0).is_err(), "it is open");
            assert!(rig.wire(&ipv4_frame(60, round)));
            rig.set(true, true);
            assert!(rig.send(&ipv4_frame(60, round), &[]));
            rig.endpoint.close(0);
            rig.endpoint.close(0);
            assert!(!rig.wire(&ipv4_frame(60, round)), "a closed device receives nothing");
            assert_eq!(rig.endpoint.interrupt(), Outcome::default());
            assert_eq!(rig.endpoint.start(0), Outcome::default());
            assert_eq!(rig.count(Counter::DropNoWindow), u64::from(round) + 1);
            rig.set(false, false);
            let _ = rig.endpoint.open(0).unwrap();
            // SAFETY: the header is at the start of the leaked window.
            let header = unsafe { rig.base.cast::<abi::window::Header>().read_volatile() };
            assert_eq!((header.generation, Layout::from_header(&header)), (round + 2, Some(rig.layout)));
            rig.server = Server::new(rig.base, rig.layout);
            rig.settle();
        }
    }
}
