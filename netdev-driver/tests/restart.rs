//! The server dies with frames everywhere, and another gets a window of its own: nothing is left of the first, on either device.
#![expect(unsafe_code, reason = "the header of a leaked window")]

mod fake;

use abi::{
    counters::Counter,
    device::Audit,
    window::{Header, QueueKind},
};
use fake::{
    Random, ipv4_frame,
    rig::{Rig, Wire, config},
    server::Server,
};
use shmqueue::{Item, queue::Consume};

for_all! {
    frames_in_flight_in_both_rings_are_gone;
    offsets_of_the_window_before_are_refused;
    completions_that_come_late_are_nobodys;
}

/// Another server takes the place of the one that has died.
fn succeed<W: Wire>(rig: &mut Rig<W>) {
    let _ = rig.endpoint.open(0).unwrap();
    rig.server = Server::new(rig.base, rig.layout);
}

fn generation<W: Wire>(rig: &Rig<W>) -> u32 {
    // SAFETY: the header is at the start of the leaked window.
    unsafe { rig.base.cast::<Header>().read_volatile() }.generation
}

mod on {
    use super::*;

    /// At a random moment there are frames in the receive ring, in the IN queues, in the server's hands, in the OUT queue and in the transmit
    /// ring. Afterwards the device reaches for none of them, the ledger knows of none, and the next server sees and sends its own alone.
    pub fn frames_in_flight_in_both_rings_are_gone<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let (mut number, mut lost_in, mut lost_out) = (0, 0, 0);
        for life in 0..150 {
            let first = number;
            for _ in 0..random.below(6) {
                rig.set(random.below(4) == 0, random.below(2) == 0);
                rig.server.keeps = random.below(2) == 0;
                for _ in 0..random.below(40) {
                    let _ = rig.wire(&ipv4_frame(60 + random.below(1400) as usize, number));
                    number += 1;
                }
                if random.below(2) == 0 {
                    assert_eq!(rig.interrupts().misbehaviour, None);
                }
                for _ in 0..random.below(40) {
                    let frame = ipv4_frame(60 + random.below(1400) as usize, number);
                    let cuts: &[usize] = if random.below(3) == 0 { &[50] } else { &[] };
                    number += u32::from(rig.send(&frame, cuts));
                }
                match random.below(3) {
                    0 => rig.step(),
                    // In the server's hands, and never given back.
                    1 => drop(rig.server.input[1].consume()),
                    _ => {
                        for (_, _, bytes) in rig.server.receive() {
                            let number = u32::from_be_bytes(bytes[34..38].try_into().unwrap());
                            assert!(number >= first, "frame {number} was sent to a server before");
                        }
                    }
                }
            }
            let audit = rig.endpoint.audit(0);
            lost_out += audit.mbufs_transmitting;
            lost_in += rig.count(Counter::FramesIn) as u32;
            rig.sent();

            rig.endpoint.close(0);
            assert_eq!(rig.endpoint.audit(0), Audit::default(), "the kernel holds nothing");
            rig.counts().assert_settled();
            // The device goes on with what it had, if it had anything.
            rig.set(false, false);
            rig.step();
            assert!(rig.sent().is_empty(), "it sends after it was stopped");
            assert!(!rig.wire(&ipv4_frame(60, number)), "it receives after it was stopped");

            succeed(&mut rig);
            assert_eq!(generation(&rig), life + 2);
            let posted = rig.endpoint.audit(0);
            assert_eq!((posted.mbufs_transmitting, posted.clusters_transmitting), (0, 0));
            rig.server.assert_balanced(posted);
            assert!(rig.server.receive().is_empty(), "a frame of the window before");
            rig.step();
            assert!(rig.sent().is_empty() && rig.count(Counter::BogusCompletions) == 0);
        }
        assert!(lost_out > 100 && lost_in > 1000, "{lost_out} {lost_in}");
        rig.settle();
    }

    /// What a server remembers of its window says nothing in the next one: such a buffer may be the device's by now.
    pub fn offsets_of_the_window_before_are_refused<W: Wire>(queue: QueueKind) {
        for back in 0..8 {
            let mut rig = Rig::<W>::new(config(queue));
            for number in 0..8 {
                assert!(rig.wire(&ipv4_frame(60, number)));
            }
            let _ = rig.interrupts();
            let mut stale: Vec<Item> = Vec::new();
            while let Some(item) = rig.server.input[1].consume().unwrap() {
                stale.push(item);
            }
            assert_eq!(stale.len(), 8);
            rig.endpoint.close(0);
            succeed(&mut rig);
            // As the first server would, had it survived: the frame lies where it lay.
            let item = stale[back];
            let mbuf = rig.server.view.mbuf(item).unwrap();
            mbuf.set_len(60);
            mbuf.set_packet_len(60);
            let outcome = if rig.server.send(item) { rig.endpoint.start(0) } else { Default::default() };
            rig.step();
            assert!(outcome.misbehaviour.is_some(), "buffer {item:?} is the device's");
            assert!(rig.sent().is_empty());
            // And the one after that is none the worse.
            rig.endpoint.close(0);
            succeed(&mut rig);
            rig.settle();
        }
    }

    /// The device was told of frames, and says that it has sent them once there is another window.
    pub fn completions_that_come_late_are_nobodys<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        for round in 0..50 {
            rig.set(false, true);
            for number in 0..20 {
                assert!(rig.send(&ipv4_frame(400, number), &[]));
                assert!(rig.wire(&ipv4_frame(400, number)));
            }
            assert!(rig.endpoint.audit(0).mbufs_transmitting > 0, "{round}");
            rig.endpoint.close(0);
            succeed(&mut rig);
            let before = (rig.count(Counter::FramesIn), rig.count(Counter::FramesOut));
            rig.set(false, false);
            for tick in 0..4 {
                rig.step();
                let outcome = rig.interrupts();
                assert_eq!((outcome.misbehaviour, outcome.resume), (None, 0));
                let _ = rig.endpoint.poll();
                let _ = rig.endpoint.watchdog(tick);
            }
            assert_eq!((rig.count(Counter::FramesIn), rig.count(Counter::FramesOut)), before);
            assert_eq!(rig.count(Counter::DeviceResets), 0);
            rig.sent();
            rig.settle();
        }
    }
}
