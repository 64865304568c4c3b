//! The link of the stack in the kernel over both fake devices: what the wire brings is lent as it came, what is built is what leaves, and no
//! buffer is lost whatever becomes of a frame.

#[path = "../../netdev-driver/tests/fake/mod.rs"]
mod fake;

use std::rc::Rc;

use fake::{FakeHal, Machine, Random, e1000::E1000Model, ipv4_frame, rig::Wire, virtio::VirtioModel};
use netdev_driver::{
    DirectDevice,
    device::Model,
    direct::{BYTES, RX_BUFFERS, TX_BUFFERS},
    hal::Hal,
};
use protocol_server::{
    frame::ChecksumRequest,
    link::{Built, Link, direct::DirectLink},
};

/// A machine with the link in it.
struct Rig<W: Wire> {
    machine: Rc<Machine<W>>,
    link: DirectLink<FakeHal<W>>,
}

impl<W: Wire> Rig<W> {
    fn new(model: Model) -> Self {
        let machine = Machine::new(W::default());
        let memory = FakeHal(machine.clone()).dma(BYTES).unwrap();
        let phys = machine.memory.borrow().last_phys();
        machine.memory.borrow_mut().direct = Some(phys);
        let mut device = DirectDevice::new(model, FakeHal(machine.clone()), &memory).unwrap();
        device.open().unwrap();
        Self { machine, link: DirectLink::new(device) }
    }

    fn wire(&self, frame: &[u8]) -> bool {
        self.machine.model.borrow_mut().receive(&self.machine.memory.borrow(), frame)
    }

    /// The device sends what it has been told of.
    fn sent(&self) -> Vec<Vec<u8>> {
        self.machine.model.borrow_mut().step(&self.machine.memory.borrow());
        self.machine.model.borrow_mut().take_sent()
    }

    fn send(&mut self, frame: &[u8], checksum: Option<ChecksumRequest>) {
        self.link.transmit(frame.len(), |buffer| {
            buffer.copy_from_slice(frame);
            ((), Built::Send(checksum))
        });
    }

    /// Every buffer is somewhere, and what the link says of those that are lent is so.
    fn assert_balanced(&mut self, lent: usize) {
        let audit = self.link.audit();
        assert_eq!((self.link.lent(), audit.clusters_lent as usize), ((0, lent as u32), lent));
        assert_eq!(
            (audit.pools, audit.clusters),
            (2, RX_BUFFERS.min(audit.kernel.clusters_posted + lent as u32) + TX_BUFFERS)
        );
        assert_eq!(audit.free[1].1 + audit.kernel.clusters_transmitting, TX_BUFFERS);
    }
}

#[test]
fn frames_go_both_ways() {
    go_both_ways::<E1000Model>(Model::E1000);
    go_both_ways::<VirtioModel>(Model::VirtioNet);
}

fn go_both_ways<W: Wire>(model: Model) {
    let mut rig = Rig::<W>::new(model);
    assert_eq!(rig.link.info().frame_bytes_max, 1514);
    let (mut random, mut batch) = (Random(5), Vec::new());
    let (mut offered, mut came, mut built, mut left) = (0, 0, 0, 0);
    for _ in 0..1000 {
        for _ in 0..random.below(60) {
            offered += u32::from(rig.wire(&ipv4_frame(60 + random.below(1455) as usize, offered)));
        }
        rig.link.device.acknowledge_interrupt();
        // A limit counts what is there already.
        rig.link.receive(&mut batch, 8);
        assert!(batch.len() <= 8);
        rig.link.receive(&mut batch, 32);
        assert!(batch.len() <= 32);
        rig.assert_balanced(batch.len());
        for frame in &batch {
            assert_eq!(frame.bytes(), ipv4_frame(frame.bytes().len(), came));
            came += 1;
        }
        rig.link.release(&mut batch);
        assert!(batch.is_empty());
        for _ in 0..random.below(20) {
            assert!(rig.link.ready());
            let frame = ipv4_frame(60 + random.below(1455) as usize, built);
            rig.send(&frame, None);
            built += 1;
        }
        let early = rig.sent();
        rig.link.flush();
        let sent = early.into_iter().chain(rig.sent());
        for frame in sent {
            assert_eq!(frame, ipv4_frame(frame.len(), left));
            left += 1;
        }
        assert_eq!(built, left, "with the flush everything has left");
        rig.assert_balanced(0);
    }
    assert!(offered > 10_000 && built > 5_000 && offered - came < RX_BUFFERS, "{offered} {came} {built}");
    assert_eq!(rig.link.no_buffer(), 0);
}

#[test]
fn a_burst_is_told_once_and_what_is_kept_is_not_sent() {
    told_once::<E1000Model>(Model::E1000);
    told_once::<VirtioModel>(Model::VirtioNet);
}

fn told_once<W: Wire>(model: Model) {
    let mut rig = Rig::<W>::new(model);
    let doorbells = rig.machine.model.borrow().doorbells();
    for number in 0..20 {
        rig.send(&ipv4_frame(60, number), None);
        rig.link.transmit(900, |buffer| (buffer.fill(0xff), Built::Keep));
    }
    assert_eq!(rig.machine.model.borrow().doorbells(), doorbells, "not before the flush");
    rig.link.flush();
    assert_eq!(rig.machine.model.borrow().doorbells(), doorbells + 1);
    rig.link.flush();
    assert_eq!(rig.machine.model.borrow().doorbells(), doorbells + 1, "there is nothing new to tell");
    assert_eq!(rig.sent(), (0..20).map(|number| ipv4_frame(60, number)).collect::<Vec<_>>());
    rig.assert_balanced(0);
}

#[test]
fn checksums_are_left_to_the_device() {
    checksums::<E1000Model>(Model::E1000);
    checksums::<VirtioModel>(Model::VirtioNet);
}

fn checksums<W: Wire>(model: Model) {
    let mut rig = Rig::<W>::new(model);
    let mut frame = ipv4_frame(200, 3);
    frame[40..42].fill(0);
    rig.send(&frame, Some(ChecksumRequest { start: 34, offset: 6 }));
    rig.link.flush();
    let sent = rig.sent().pop().unwrap();
    assert_ne!(sent[40..42], frame[40..42]);
    assert_eq!((&sent[..40], &sent[42..]), (&frame[..40], &frame[42..]));
    // With it the data sums up to nothing (RFC 1071).
    let sum = |bytes: &[u8]| {
        let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum: u32 = words.sum();
        ((sum & 0xffff) + (sum >> 16)) as u16
    };
    assert_eq!(sum(&sent[34..]), 0xffff);
}

#[test]
fn without_a_buffer_a_frame_is_built_and_counted() {
    without_buffers::<E1000Model>(Model::E1000);
    without_buffers::<VirtioModel>(Model::VirtioNet);
}

fn without_buffers<W: Wire>(model: Model) {
    let mut rig = Rig::<W>::new(model);
    rig.machine.model.borrow_mut().set(true, true);
    let mut built = 0;
    while rig.link.ready() {
        rig.send(&ipv4_frame(60, built), None);
        built += 1;
        assert!(built <= TX_BUFFERS);
    }
    assert_eq!(rig.link.no_buffer(), 0, "who asks whether there is room loses nothing");
    for n in 1..=3 {
        let length = 60 + 700 * n as usize;
        let seen = rig.link.transmit(length, |buffer| {
            buffer.fill(0xee);
            (buffer.len(), Built::Send(None))
        });
        assert_eq!((seen, rig.link.no_buffer()), (length, n));
    }
    rig.link.flush();
    rig.machine.model.borrow_mut().set(false, false);
    assert_eq!(rig.sent(), (0..built).map(|number| ipv4_frame(60, number)).collect::<Vec<_>>());
    rig.assert_balanced(0);
    assert!(rig.link.ready(), "and all goes on");
}
