//! A device with buffers of the kernel's own, on both fakes: frames lent and visited, frames sent, and what happens when the device
//! stands still or the taker does.

mod fake;

use std::{collections::VecDeque, ops::Deref, rc::Rc};

use abi::{counters::Counter, device::offload};
use fake::{
    Machine, Random, bad_frames, ipv4_frame,
    rig::{Counts, Wire},
};
use netdev_driver::{
    Direct,
    demux::Family,
    direct::{BYTES, DirectAudit, DirectError, Lent, PAGES_MAX, TX_BUFFERS},
    endpoint::STUCK_NS,
    hal::Hal,
    nic::{NicError, TxChecksum},
};

for_both! {
    frames_go_both_ways_lent;
    frames_go_both_ways_visited;
    a_burst_costs_few_register_accesses;
    bad_frames_cost_counters_and_nothing_else;
    nothing_but_bad_frames_and_the_ring_goes_round;
    who_is_behind_is_left_alone;
    all_of_the_ring_can_be_lent_and_comes_back;
    a_full_ring_says_when_it_has_room;
    a_device_that_stands_still_is_reset;
    one_that_is_lent_from_is_not_reset;
    checksums_are_filled_in_where_they_fit;
    frames_that_cannot_be_sent_are_counted;
    pages_are_sent_from_where_they_are;
    it_opens_and_closes;
}

struct Rig<W: Wire> {
    machine: Rc<Machine<W>>,
    direct: Direct<W::Driver>,
}

impl<W: Wire> Deref for Rig<W> {
    type Target = Machine<W>;

    fn deref(&self) -> &Machine<W> {
        &self.machine
    }
}

impl<W: Wire> Rig<W> {
    fn new() -> Self {
        let machine = Machine::new(W::default());
        let memory = fake::FakeHal(machine.clone()).dma(BYTES).unwrap();
        machine.memory.borrow_mut().direct = Some(memory_phys(&machine));
        let mut direct = Direct::new(W::driver(machine.clone()), &memory).unwrap();
        direct.open().unwrap();
        Self { machine, direct }
    }

    fn build(&mut self, bytes: &[u8], checksum: Option<TxChecksum>) -> bool {
        let Some(room) = self.direct.tx_buffer(bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.direct.send(bytes.len(), checksum);
        true
    }

    fn count(&self, counter: Counter) -> u64 {
        self.counts().of(counter)
    }

    fn counts(&self) -> Counts {
        Counts::new(|counters| self.direct.counters(counters))
    }

    /// Every frame is delivered or in one drop counter, every buffer somewhere.
    fn assert_balanced(&self) -> DirectAudit {
        self.counts().assert_settled();
        let audit = self.direct.audit();
        assert_eq!(audit.posted + audit.lent, audit.receive, "{audit:?}");
        assert_eq!(audit.free + audit.transmitting, audit.transmit, "{audit:?}");
        audit
    }

    /// Lets everything come to rest and asserts that nothing is lost.
    fn settle(&mut self) {
        self.set(false, false);
        self.step();
        self.direct.kick();
        self.step();
        self.direct.reap();
        self.direct.tell();
        let audit = self.assert_balanced();
        assert_eq!((audit.lent, audit.transmitting), (0, 0));
        assert_eq!(self.owned(), audit.receive as usize);
    }
}

/// The region that was added last.
fn memory_phys<W: Wire>(machine: &Machine<W>) -> u64 {
    machine.memory.borrow().last_phys()
}

mod on {
    use super::*;

    pub fn frames_go_both_ways_lent<W: Wire>() {
        let mut rig = Rig::<W>::new();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut offered, mut arrived, mut queued, mut left) = (0u32, 0u32, 0u32, 0u32);
        let mut held: VecDeque<Lent> = VecDeque::new();
        for round in 0..3000 {
            for _ in 0..random.below(24) {
                if rig.wire(&ipv4_frame(38 + random.below(1476) as usize, offered)) {
                    offered += 1;
                }
            }
            if rig.interrupt() {
                assert!(rig.direct.acknowledge_interrupt());
                while let Some(frame) = rig.direct.lend() {
                    assert!(!frame.checksum_good());
                    assert_eq!(frame.bytes(), ipv4_frame(frame.bytes().len(), arrived));
                    arrived += 1;
                    held.push_back(frame);
                }
            }
            // They come back late, and not in order of the ring.
            let give = random.below(held.len() as u64 + 1) as usize;
            rig.direct.give_back(held.drain(..give).rev());
            rig.set(false, random.below(2) == 0);
            for _ in 0..random.below(24) {
                let frame = ipv4_frame(38 + random.below(1476) as usize, queued);
                queued += u32::from(rig.build(&frame, None));
            }
            rig.direct.kick();
            rig.step();
            for frame in rig.sent() {
                assert_eq!(frame, ipv4_frame(frame.len(), left));
                left += 1;
            }
            if round % 50 == 0 {
                rig.direct.watchdog(round);
            }
            rig.assert_balanced();
        }
        assert!(
            held.iter().all(|frame| frame.bytes()
                == ipv4_frame(
                    frame.bytes().len(),
                    u32::from_be_bytes(frame.bytes()[34..38].try_into().unwrap())
                )),
            "nobody writes what is lent"
        );
        rig.direct.give_back(held);
        while let Some(frame) = rig.direct.lend() {
            arrived += 1;
            rig.direct.give_back([frame]);
        }
        rig.settle();
        left += rig.sent().len() as u32;
        assert!(offered > 20_000 && queued > 20_000, "{offered} {queued}");
        assert_eq!((arrived, left), (offered, queued));
        assert_eq!(rig.count(Counter::FramesOut), u64::from(queued));
        assert_eq!(rig.count(Counter::DeliveredIpv4), u64::from(offered));
    }

    pub fn frames_go_both_ways_visited<W: Wire>() {
        let mut rig = Rig::<W>::new();
        let mut random = Random(7);
        let (mut offered, mut arrived, mut refused) = (0u32, 0u32, 0u64);
        for _ in 0..2000 {
            for _ in 0..random.below(64) {
                offered += u32::from(rig.wire(&ipv4_frame(60 + random.below(1400) as usize, offered)));
            }
            if rig.interrupt() {
                assert!(rig.direct.acknowledge_interrupt());
            }
            rig.direct.receive(u32::MAX, |frame| {
                assert_eq!((frame.family, frame.checksum_good), (Family::Ipv4, false));
                assert_eq!(frame.bytes, ipv4_frame(frame.bytes.len(), arrived));
                arrived += 1;
                if arrived.is_multiple_of(5) {
                    refused += 1;
                    return Err(Counter::DropNoBuffer);
                }
                Ok(())
            });
            assert!(!rig.direct.take_again());
            rig.assert_balanced();
        }
        assert!(offered > 50_000);
        assert_eq!((arrived, rig.count(Counter::DropNoBuffer)), (offered, refused));
        rig.settle();
    }

    pub fn nothing_but_bad_frames_and_the_ring_goes_round<W: Wire>() {
        // Found by `cargo xtask chaos livelock`: the device was told of buffers behind good frames alone.
        for lent in [false, true] {
            let mut rig = Rig::<W>::new();
            let mut wrong = ipv4_frame(60, 1);
            wrong[24] ^= 0x5a;
            for _ in 0..100 {
                for _ in 0..31 {
                    assert!(rig.wire(&wrong), "the ring has buffers");
                }
                if lent {
                    assert!(rig.direct.lend().is_none());
                } else {
                    assert!(rig.direct.receive(u32::MAX, |_| panic!("a bad frame")));
                }
            }
            assert_eq!(rig.count(Counter::DropBadChecksum), 3100);
            assert!(rig.wire(&ipv4_frame(60, 2)));
            assert!(rig.direct.lend().map(|frame| rig.direct.give_back([frame])).is_some());
            rig.settle();
        }
    }

    pub fn who_is_behind_is_left_alone<W: Wire>() {
        let mut rig = Rig::<W>::new();
        for number in 0..20 {
            assert!(rig.wire(&ipv4_frame(60, number)));
        }
        let mut seen = 0;
        let whole = rig.direct.receive(4, |_| {
            seen += 1;
            if seen % 2 == 0 { Err(Counter::DropPortFull) } else { Ok(()) }
        });
        assert!(!whole);
        assert_eq!((seen, rig.count(Counter::DropPortFull)), (8, 4));
        assert!(rig.direct.receive(4, |_| Ok(())), "and the rest is still there");
        assert_eq!((rig.count(Counter::FramesIn), rig.count(Counter::DropPortFull)), (20, 4));
        let audit = rig.direct.audit();
        assert_eq!((audit.posted, audit.lent), (audit.receive, 0));
    }

    pub fn a_burst_costs_few_register_accesses<W: Wire>() {
        let mut rig = Rig::<W>::new();
        rig.set(false, true);
        let before = *rig.machine.accesses.borrow();
        for number in 0..64 {
            assert!(rig.wire(&ipv4_frame(1514, number)));
        }
        assert!(rig.direct.acknowledge_interrupt());
        let frames: Vec<_> = std::iter::from_fn(|| rig.direct.lend()).collect();
        assert_eq!(frames.len(), 64);
        rig.direct.give_back(frames);
        assert!(*rig.machine.accesses.borrow() - before <= 2, "a read of the cause, a write of the tail");
        let (before, doorbells) = (*rig.machine.accesses.borrow(), rig.machine.model.borrow().doorbells());
        for number in 0..64 {
            assert!(rig.build(&ipv4_frame(1514, number), None));
        }
        rig.direct.kick();
        assert_eq!(rig.machine.model.borrow().doorbells() - doorbells, 1);
        assert!(*rig.machine.accesses.borrow() - before <= 1, "one kick, and no interrupt asked for");
        rig.step();
        assert_eq!(rig.sent().len(), 64);
        rig.settle();
    }

    pub fn bad_frames_cost_counters_and_nothing_else<W: Wire>() {
        let mut rig = Rig::<W>::new();
        let mut random = Random(77);
        let mut lent = 0;
        for frame in bad_frames() {
            assert!(rig.wire(&frame));
            if random.below(5) == 0 {
                while let Some(frame) = rig.direct.lend() {
                    lent += 1;
                    rig.direct.give_back([frame]);
                }
            }
        }
        while let Some(frame) = rig.direct.lend() {
            lent += 1;
            rig.direct.give_back([frame]);
        }
        assert_eq!(lent, 500);
        rig.counts().assert_bad_frames();
        rig.settle();
    }

    pub fn all_of_the_ring_can_be_lent_and_comes_back<W: Wire>() {
        let mut rig = Rig::<W>::new();
        for _ in 0..5 {
            let mut frames = Vec::new();
            let mut number = 0;
            while rig.wire(&ipv4_frame(60, number)) {
                number += 1;
                frames.extend(rig.direct.lend());
            }
            assert_eq!(frames.len() as u32, rig.direct.audit().receive);
            assert!(rig.direct.lend().is_none());
            for (number, frame) in frames.iter().enumerate() {
                assert_eq!(frame.bytes(), ipv4_frame(60, number as u32));
            }
            rig.direct.give_back(frames);
            rig.direct.tell();
            assert!(rig.wire(&ipv4_frame(60, 1)));
            let frame = rig.direct.lend();
            rig.direct.give_back(frame);
            rig.settle();
        }
    }

    pub fn a_full_ring_says_when_it_has_room<W: Wire>() {
        let mut rig = Rig::<W>::new();
        rig.set(false, true);
        let mut queued = 0;
        while rig.build(&ipv4_frame(60, queued), None) {
            queued += 1;
        }
        assert!(queued > 100 && queued <= TX_BUFFERS);
        assert!(!rig.direct.tx_ready() && !rig.interrupt());
        rig.step();
        assert!(rig.interrupt(), "a full ring says when it has room");
        assert!(rig.direct.acknowledge_interrupt());
        assert!(rig.direct.reap(), "it was full");
        assert!(!rig.direct.reap() && rig.direct.tx_ready());
        // From now on none comes.
        assert!(rig.build(&ipv4_frame(60, queued), None));
        rig.direct.kick();
        rig.step();
        assert!(!rig.interrupt());
        let frames = rig.sent();
        assert_eq!(frames.len() as u32, queued + 1);
        assert!(frames.iter().enumerate().all(|(i, frame)| *frame == ipv4_frame(60, i as u32)));
        rig.settle();
    }

    pub fn a_device_that_stands_still_is_reset<W: Wire>() {
        let mut rig = Rig::<W>::new();
        rig.set(true, true);
        for number in 0..10 {
            assert!(rig.build(&ipv4_frame(300, number), None));
        }
        let page = send_page(&mut rig, &ipv4_frame(70, 1)).unwrap();
        rig.direct.kick();
        assert_eq!(rig.assert_balanced().transmitting, 10);
        rig.direct.watchdog(1_000);
        rig.direct.watchdog(STUCK_NS - 1);
        assert_eq!((rig.count(Counter::DeviceResets), rig.direct.take_left()), (0, 0));
        rig.direct.watchdog(STUCK_NS + 1_000);
        assert_eq!((rig.count(Counter::DeviceResets), rig.direct.take_left()), (1, 1 << page));
        assert_eq!(rig.assert_balanced().transmitting, 0);
        rig.set(false, false);
        assert!(rig.wire(&ipv4_frame(60, 99)));
        let frame = rig.direct.lend().unwrap();
        rig.direct.give_back([frame]);
        assert!(rig.build(&ipv4_frame(300, 42), None));
        rig.direct.kick();
        rig.step();
        assert_eq!(rig.sent(), [ipv4_frame(300, 42)]);
        rig.settle();
        // One that has nothing to do is not stuck.
        rig.direct.watchdog(10 * STUCK_NS);
        rig.direct.watchdog(20 * STUCK_NS);
        assert_eq!(rig.count(Counter::DeviceResets), 1);
    }

    /// What is lent is borrowed from the ring's memory: nothing may post it again.
    pub fn one_that_is_lent_from_is_not_reset<W: Wire>() {
        let mut rig = Rig::<W>::new();
        assert!(rig.wire(&ipv4_frame(60, 7)));
        let frame = rig.direct.lend().unwrap();
        rig.set(true, true);
        assert!(rig.build(&ipv4_frame(300, 1), None));
        rig.direct.kick();
        rig.direct.watchdog(0);
        rig.direct.watchdog(2 * STUCK_NS);
        assert_eq!(rig.count(Counter::DeviceResets), 0);
        rig.direct.close();
        assert_eq!(rig.direct.open(), Err(DirectError::Busy));
        assert_eq!(frame.bytes(), ipv4_frame(60, 7));
        rig.direct.give_back([frame]);
        rig.direct.open().unwrap();
        rig.settle();
    }

    pub fn checksums_are_filled_in_where_they_fit<W: Wire>() {
        let mut rig = Rig::<W>::new();
        assert_ne!(rig.direct.info().offload & offload::TX_CHECKSUM, 0);
        for number in 0..200 {
            let mut frame = ipv4_frame(400, number);
            let (start, offset): (u16, u16) = if number % 7 == 0 { (54, 6) } else { (34, 16) };
            let field = (start + offset) as usize;
            frame[field..field + 2].fill(0);
            assert!(rig.build(&frame, Some(TxChecksum { start, offset })));
            rig.direct.kick();
            rig.step();
            let sum = fake::checksum(&frame[start as usize..]);
            frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(rig.sent(), [frame]);
        }
        rig.settle();
    }

    pub fn frames_that_cannot_be_sent_are_counted<W: Wire>() {
        let mut rig = Rig::<W>::new();
        let long = [1; 1515];
        let bad = [
            (13, None),
            (0, None),
            (1515, None),
            (1500, Some((0, 16))),
            (1500, Some((13, 0))),
            (1500, Some((1490, 9))),
            (60, Some((50, 9))),
            (1500, Some((u16::MAX, u16::MAX))),
        ];
        for (length, checksum) in bad {
            let checksum = checksum.map(|(start, offset)| TxChecksum { start, offset });
            assert!(!rig.direct.sendable(length, checksum));
            assert!(rig.build(&long[..length], checksum));
            assert_eq!(rig.direct.send_page(1 << 40, length, checksum), None);
        }
        assert!(rig.direct.tx_buffer(2049).is_none());
        rig.direct.kick();
        rig.step();
        assert_eq!(rig.count(Counter::DropOutBad), 2 * bad.len() as u64);
        assert_eq!((rig.count(Counter::FramesOut), rig.sent().len()), (0, 0));
        rig.settle();
    }

    pub fn pages_are_sent_from_where_they_are<W: Wire>() {
        let mut rig = Rig::<W>::new();
        rig.set(false, true);
        let mut pages = 0u64;
        for number in 0..PAGES_MAX {
            let page = send_page(&mut rig, &ipv4_frame(900, number)).expect("room for all");
            assert_eq!(pages & 1 << page, 0, "one in use");
            pages |= 1 << page;
        }
        assert_eq!(pages, u64::MAX);
        assert_eq!(send_page(&mut rig, &ipv4_frame(900, 0)), None);
        assert!(rig.build(&ipv4_frame(80, 100), None), "buffers are another matter");
        rig.assert_balanced();
        rig.direct.kick();
        assert_eq!(rig.direct.take_left(), 0, "none has left");
        rig.step();
        rig.direct.reap();
        assert_eq!(rig.direct.take_left(), u64::MAX);
        let sent = rig.sent();
        assert_eq!(sent.len(), 65);
        assert!(sent[..64].iter().enumerate().all(|(n, frame)| *frame == ipv4_frame(900, n as u32)));
        assert!(send_page(&mut rig, &ipv4_frame(900, 0)).is_some());
        rig.direct.close();
        assert_ne!(rig.direct.take_left(), 0, "a device that is closed has none");
        rig.direct.open().unwrap();
        rig.settle();
    }

    pub fn it_opens_and_closes<W: Wire>() {
        let mut rig = Rig::<W>::new();
        for round in 0..20u32 {
            assert_eq!(rig.direct.open(), Err(DirectError::Busy));
            assert!(rig.wire(&ipv4_frame(60, round)));
            rig.set(true, true);
            assert!(rig.build(&ipv4_frame(60, round), None));
            rig.direct.kick();
            rig.direct.close();
            rig.direct.close();
            assert!(!rig.wire(&ipv4_frame(60, round)), "a closed device receives nothing");
            assert!(rig.direct.lend().is_none() && !rig.direct.tx_ready());
            assert!(rig.direct.tx_buffer(60).is_none());
            assert_eq!(rig.direct.send_page(1 << 40, 60, None), None);
            rig.direct.receive(u32::MAX, |_| panic!("a closed device has no frames"));
            assert_eq!(rig.count(Counter::DropNoWindow), u64::from(round) + 1);
            assert_eq!(rig.direct.audit(), DirectAudit::default());
            rig.set(false, false);
            rig.direct.open().unwrap();
            rig.settle();
        }
        let machine = Machine::new(W::default());
        let memory = fake::FakeHal(machine.clone()).dma(BYTES - 4096).unwrap();
        assert_eq!(Direct::new(W::driver(machine), &memory).err(), Some(NicError::NoMemory));
    }
}

fn send_page<W: Wire>(rig: &mut Rig<W>, frame: &[u8]) -> Option<u32> {
    let (_, phys) = rig.machine.memory.borrow_mut().add(4096);
    rig.machine.memory.borrow_mut().pages.push(phys);
    rig.machine.memory.borrow().write(phys, frame);
    rig.direct.send_page(phys, frame.len(), None)
}
