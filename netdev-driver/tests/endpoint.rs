//! The endpoint between both devices and the real protocol side: tens of thousands of frames, and what they cost.

mod fake;

use abi::{
    counters::Counter,
    window::{Config, QueueKind},
};
use fake::{
    Random, ipv4_frame,
    rig::{Rig, Wire, config},
};
use mbuf::Flags;
use shmqueue::queue::{Consume, Produce};

for_all! {
    frames_go_both_ways;
    a_burst_costs_few_register_accesses;
    a_server_that_sleeps_is_resumed_once_and_one_that_does_not_is_not;
    chains_are_sent_and_come_back;
    what_the_server_keeps_is_marked_and_not_freed;
    frames_that_cannot_be_sent_are_counted_and_freed;
    a_full_ring_goes_on_by_interrupt;
    checksums_are_filled_in;
}

mod on {
    use super::*;

    /// Random bursts each way, with a lazy or a prompt device; every frame arrives once and in order.
    pub fn frames_go_both_ways<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut offered, mut arrived, mut queued, mut left) = (0u32, 0u32, 0u32, 0u32);
        for round in 0..3000 {
            for _ in 0..random.below(24) {
                if rig.wire(&ipv4_frame(38 + random.below(1476) as usize, offered)) {
                    offered += 1;
                }
            }
            assert_eq!(rig.interrupts().misbehaviour, None);
            if random.below(3) > 0 {
                for (family, flags, bytes) in rig.server.receive() {
                    assert_eq!(family, 1);
                    assert!(flags.has(Flags::IP_CHECKSUM_GOOD) && !flags.has(Flags::DATA_CHECKSUM_GOOD));
                    assert_eq!(bytes, ipv4_frame(bytes.len(), arrived));
                    arrived += 1;
                }
            }
            rig.set(false, random.below(2) == 0);
            rig.server.keeps = random.below(2) == 0;
            for _ in 0..random.below(24) {
                let len = 38 + random.below(1476) as usize;
                let cut = 1 + random.below(len as u64 - 1) as usize;
                let cuts: &[usize] = if random.below(4) == 0 { &[cut] } else { &[] };
                queued += u32::from(rig.send(&ipv4_frame(len, queued), cuts));
            }
            rig.step();
            let _ = rig.interrupts();
            rig.server.drain_deferred();
            if round % 50 == 0 {
                let _ = rig.endpoint.watchdog(round);
            }
            for frame in rig.sent() {
                assert_eq!(frame, ipv4_frame(frame.len(), left));
                left += 1;
            }
            rig.counts().assert_settled();
        }
        let rest = rig.server.receive().len() as u32;
        rig.settle();
        left += rig.sent().len() as u32;
        assert!(offered > 20_000 && queued > 20_000, "{offered} {queued}");
        assert_eq!((arrived + rest, left), (offered, queued));
        assert_eq!(rig.count(Counter::FramesOut), u64::from(queued));
        assert_eq!(rig.count(Counter::FramesIn), u64::from(offered));
    }

    pub fn a_burst_costs_few_register_accesses<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        rig.set(false, true);
        let before = *rig.machine.accesses.borrow();
        for number in 0..64 {
            assert!(rig.wire(&ipv4_frame(1514, number)));
        }
        assert!(rig.interrupt());
        let _ = rig.endpoint.interrupt();
        assert!(*rig.machine.accesses.borrow() - before <= 2, "a read of the cause, a write of the tail");
        assert_eq!(rig.server.receive().len(), 64);
        let items: Vec<_> =
            (0..64).map(|number| rig.server.frame(&ipv4_frame(1514, number), &[]).unwrap()).collect();
        rig.server.out.produce_batch(&items).unwrap();
        let (before, doorbells) = (*rig.machine.accesses.borrow(), rig.machine.model.borrow().doorbells());
        let _ = rig.endpoint.start(0);
        assert_eq!(rig.machine.model.borrow().doorbells() - doorbells, 1);
        assert!(*rig.machine.accesses.borrow() - before <= 2, "one kick, and one interrupt asked for");
        rig.step();
        assert_eq!(rig.sent().len(), 64);
        rig.settle();
    }

    pub fn a_server_that_sleeps_is_resumed_once_and_one_that_does_not_is_not<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        rig.wire(&ipv4_frame(60, 0));
        assert_eq!(rig.interrupts().resume, 0);
        rig.server.receive();
        for input in &mut rig.server.input {
            input.set_idle();
        }
        assert!(rig.server.receive().is_empty());
        rig.wire(&ipv4_frame(60, 1));
        rig.wire(&ipv4_frame(60, 2));
        assert_eq!(rig.interrupts().resume, 1);
        assert_eq!((rig.count(Counter::ResumesSent), rig.count(Counter::ResumesSpared)), (1, 1));
        // Bad frames wake nobody.
        rig.wire(&[0; 10]);
        assert_eq!(rig.interrupts().resume, 0);
        assert_eq!(rig.server.receive().len(), 2);
        rig.settle();
    }

    pub fn chains_are_sent_and_come_back<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        let frame: Vec<u8> = (0..1500u32).map(|i| i as u8).collect();
        for pieces in 1..=16usize {
            for lazy in [false, true] {
                rig.set(false, lazy);
                let cuts: Vec<usize> = (1..pieces).map(|i| i * 1500 / pieces).collect();
                assert!(rig.send(&frame, &cuts));
                rig.step();
                let _ = rig.endpoint.watchdog(0);
                assert_eq!(rig.sent(), std::slice::from_ref(&frame));
                rig.server.drain_deferred();
            }
        }
        // Pieces without data are skipped.
        assert!(rig.send(&frame, &[0, 0, 700, 700, 1500]));
        rig.step();
        assert_eq!(rig.sent(), [frame]);
        rig.settle();
        // All but the two of a single piece.
        assert_eq!(rig.count(Counter::DeferredFrees), 31);
    }

    pub fn what_the_server_keeps_is_marked_and_not_freed<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        let frame: Vec<u8> = (0..1500u32).map(|i| i as u8).collect();
        // In a cluster, in an mbuf, in a chain; too short to be sent, and too many pieces.
        let many: Vec<usize> = (1..17).map(|i| i * 80).collect();
        let kinds: [(&[u8], &[usize]); 5] =
            [(&frame, &[]), (&frame[..60], &[]), (&frame, &[50, 700]), (&frame[..13], &[]), (&frame, &many)];
        let packets = kinds.map(|(bytes, cuts)| rig.server.frame(bytes, cuts).unwrap());
        let sent = |rig: &Rig<W>| packets.map(|packet| rig.server.view.mbuf(packet).unwrap().is_sent());
        let free = rig.server.view.audit().unwrap();
        for again in 1..=3 {
            rig.set(true, true);
            for packet in packets {
                rig.server.keep(packet);
                assert!(!rig.server.view.mbuf(packet).unwrap().is_sent());
                if rig.server.send(packet) {
                    assert_eq!(rig.endpoint.start(0).misbehaviour, None);
                }
            }
            assert_eq!(sent(&rig), [false, false, false, true, true]);
            rig.set(false, false);
            rig.step();
            assert_eq!(rig.sent(), [&frame[..], &frame[..60], &frame]);
            rig.server.space.want();
            assert_eq!(rig.endpoint.poll().resume, 1, "the server wants buffers");
            rig.server.space.unwant();
            assert_eq!(sent(&rig), [true; 5]);
            let audit = rig.endpoint.audit(0);
            assert_eq!((audit.mbufs_transmitting, audit.clusters_transmitting), (0, 0));
            assert_eq!(rig.count(Counter::DropOutBad), 2 * again);
            assert_eq!(rig.server.view.audit().unwrap(), free, "nothing was freed");
            assert_eq!((rig.server.deferred.consume(), rig.count(Counter::DeferredFrees)), (Ok(None), 0));
            rig.server.kept.truncate(5);
        }
        rig.settle();
    }

    pub fn frames_that_cannot_be_sent_are_counted_and_freed<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        let frame = vec![1; 1500];
        assert!(rig.send(&frame[..13], &[]));
        assert!(rig.send(&[], &[]));
        let long = vec![1; 1515];
        assert!(rig.send(&long, &[]));
        let cuts: Vec<usize> = (1..17).map(|i| i * 80).collect();
        assert!(rig.send(&frame, &cuts), "17 pieces");
        for (start, offset) in [(0, 16), (13, 0), (1490, 9), (60, 1440), (u16::MAX, u16::MAX)] {
            let item = rig.server.frame(&frame, &[]).unwrap();
            let mbuf = rig.server.view.mbuf(item).unwrap();
            mbuf.set_flags(Flags::PACKET.with(Flags::DATA_CHECKSUM_WANTED));
            mbuf.set_checksum(start, offset);
            if rig.server.send(item) {
                assert_eq!(rig.endpoint.start(0).misbehaviour, None);
            }
        }
        assert_eq!(rig.count(Counter::DropOutBad), 9);
        assert_eq!(rig.count(Counter::FramesOut), 0);
        assert!(rig.sent().is_empty());
        assert!(rig.send(&frame, &[]));
        rig.settle();
        assert_eq!(rig.sent(), [frame]);
    }

    pub fn a_full_ring_goes_on_by_interrupt<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(Config { pools: 2, mbufs_per_pool: 1024, clusters_per_pool: 512, queue });
        rig.set(false, true);
        let mut queued = 0;
        while queued < 500 && rig.send(&ipv4_frame(60, queued), &[]) {
            queued += 1;
        }
        assert_eq!(queued, 500);
        let starts = rig.count(Counter::DeviceStarts);
        assert!(rig.count(Counter::FramesOut) < 256, "more than the ring holds");
        let mut rounds = 0;
        while rig.count(Counter::FramesOut) < 500 {
            rig.step();
            assert!(rig.interrupt(), "a busy device says when it has room");
            let _ = rig.interrupts();
            rounds += 1;
            assert!(rounds < 20);
        }
        assert_eq!(rig.count(Counter::DeviceStarts), starts, "no trap while the device is busy");
        rig.settle();
        let numbers: Vec<_> = rig.sent();
        assert!(numbers.iter().enumerate().all(|(i, frame)| *frame == ipv4_frame(60, i as u32)));
        assert_eq!(numbers.len(), 500);
    }

    pub fn checksums_are_filled_in<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        assert_ne!(rig.endpoint.info().offload & abi::device::offload::TX_CHECKSUM, 0);
        for number in 0..200 {
            let mut frame = ipv4_frame(400, number);
            let (start, offset): (u16, u16) = if number % 7 == 0 { (54, 6) } else { (34, 16) };
            let field = (start + offset) as usize;
            frame[field..field + 2].fill(0);
            let item = rig.server.frame(&frame, &[]).unwrap();
            let mbuf = rig.server.view.mbuf(item).unwrap();
            mbuf.set_flags(Flags::PACKET.with(Flags::DATA_CHECKSUM_WANTED));
            mbuf.set_checksum(start, offset);
            if rig.server.send(item) {
                assert_eq!(rig.endpoint.start(0).misbehaviour, None);
            }
            rig.step();
            let sum = fake::checksum(&frame[start as usize..]);
            frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(rig.sent(), [frame]);
            rig.server.drain_deferred();
        }
        rig.settle();
    }
}
