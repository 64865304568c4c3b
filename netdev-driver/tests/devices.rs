//! What only one of the devices does.

mod fake;

use abi::counters::Counter;
use fake::{
    FakeHal, Machine, Random,
    e1000::E1000Model,
    ipv4_frame,
    rig::{CONFIG, Rig},
    virtio::VirtioModel,
};
use mbuf::Flags;
use netdev_driver::virtio_net::VirtioNet;

#[test]
fn e1000_frames_over_several_buffers_are_dropped_whole() {
    let mut rig = Rig::<E1000Model>::new(CONFIG);
    for number in 0..500 {
        assert!(rig.wire(&vec![3; 5000]));
        assert!(rig.wire(&ipv4_frame(80, number)));
        let _ = rig.interrupts();
        assert_eq!(rig.server.receive().len(), 1);
    }
    assert_eq!((rig.count(Counter::FramesIn), rig.count(Counter::DropOversized)), (1000, 500));
    rig.settle();
}

#[test]
fn e1000_frames_of_one_kind_share_a_context() {
    let mut rig = Rig::<E1000Model>::new(CONFIG);
    for _ in 0..50 {
        let item = rig.server.frame(&ipv4_frame(200, 0), &[]).unwrap();
        let mbuf = rig.server.view.mbuf(item).unwrap();
        mbuf.set_flags(Flags::PACKET.with(Flags::DATA_CHECKSUM_WANTED));
        mbuf.set_checksum(34, 16);
        let _ = rig.server.send(item).then(|| rig.endpoint.start(0));
    }
    assert_eq!(rig.machine.model.borrow().contexts, 1);
    rig.settle();
}

#[test]
fn virtio_completions_of_what_was_never_posted_cost_a_counter() {
    for event_index in [true, false] {
        let mut model = VirtioModel::default();
        if !event_index {
            model.offered &= !(1 << 29);
        }
        let mut rig = Rig::<VirtioModel>::with(model, CONFIG);
        let mut random = Random(5);
        for number in 0..2000u32 {
            {
                let memory = rig.machine.memory.borrow();
                let mut model = rig.machine.model.borrow_mut();
                match random.below(4) {
                    0 => model.lie(&memory, (number % 2) as usize, random.next() as u32),
                    1 => model.lie(&memory, 1, random.below(256) as u32),
                    2 => model.lie(&memory, 0, 1 + 2 * random.below(128) as u32),
                    _ => {}
                }
            }
            assert_eq!(rig.endpoint.poll().misbehaviour, None);
        }
        assert!(rig.count(Counter::BogusCompletions) > 500);
        rig.wire(&ipv4_frame(60, 0));
        assert!(rig.send(&ipv4_frame(60, 0), &[]));
        let _ = rig.endpoint.poll();
        assert_eq!(rig.server.receive().len(), 1);
        rig.settle();
        rig.machine.model.borrow_mut().leap(&rig.machine.memory.borrow(), 0);
        let before = rig.count(Counter::BogusCompletions);
        let _ = rig.endpoint.poll();
        assert!(rig.count(Counter::BogusCompletions) > before);
    }
}

#[test]
fn virtio_completions_that_come_twice_cost_a_counter() {
    let mut rig = Rig::<VirtioModel>::new(CONFIG);
    for queue in [0, 1] {
        // The first chain of a queue has the number 0.
        rig.wire(&ipv4_frame(60, 0));
        assert!(rig.send(&ipv4_frame(60, 0), &[]));
        rig.step();
        assert_eq!(rig.endpoint.poll().misbehaviour, None);
        assert!(rig.send(&ipv4_frame(60, 1), &[]), "so that the queue is looked at");
        let before = rig.count(Counter::BogusCompletions);
        let id = if queue == 0 { 0 } else { 2 };
        rig.machine.model.borrow_mut().lie(&rig.machine.memory.borrow(), queue, id);
        assert_eq!(rig.endpoint.poll().misbehaviour, None);
        assert_eq!(rig.count(Counter::BogusCompletions), before + 1);
        rig.step();
        let _ = rig.endpoint.poll();
        rig.server.receive();
    }
    for number in 0..1000 {
        assert!(rig.wire(&ipv4_frame(60, number)));
        assert!(rig.send(&ipv4_frame(60, number), &[]));
        rig.step();
        let _ = rig.endpoint.poll();
        rig.server.receive();
    }
    rig.settle();
}

#[test]
fn virtio_reports_good_checksums() {
    for flags in [1, 2] {
        let mut model = VirtioModel::default();
        model.rx_flags = flags;
        let mut rig = Rig::with(model, CONFIG);
        rig.wire(&ipv4_frame(60, 0));
        let _ = rig.interrupts();
        assert!(rig.server.receive()[0].1.has(Flags::DATA_CHECKSUM_GOOD));
        assert_ne!(rig.endpoint.info().offload & abi::device::offload::RX_CHECKSUM, 0);
    }
}

#[test]
fn virtio_refuses_capabilities_that_lead_nowhere() {
    type Case = (&'static str, fn(&mut VirtioModel));
    let cases: [Case; 8] = [
        ("no list", |m| m.config[1] = 0),
        ("a loop", |m| m.config[0x54 / 4] = m.config[0x54 / 4] & !0xff00 | 0x5400),
        ("a pointer into the header", |m| m.config[13] = 0x10),
        ("an empty list", |m| m.config[13] = 0),
        ("no such region", |m| m.config[0x58 / 4] = 2),
        ("behind the region", |m| m.config[0x5c / 4] = 0x3800),
        ("a sum that wraps", |m| m.config[0x5c / 4] = 0xffff_fffc),
        ("too short", |m| m.config[0x60 / 4] = 20),
    ];
    for (what, break_it) in cases {
        let mut model = VirtioModel::default();
        break_it(&mut model);
        assert!(VirtioNet::new(FakeHal(Machine::new(model))).is_err(), "{what}");
    }
    let mut old = VirtioModel::default();
    old.offered = 1 << 5;
    assert!(VirtioNet::new(FakeHal(Machine::new(old))).is_err(), "a legacy device");
}
