//! Several windows on one device: each server has its own frames, its own troubles, and its turn.
#![expect(unsafe_code, reason = "looks through a window's memory, and writes there as a hostile server does")]

mod fake;

use abi::{
    counters::Counter,
    window::{Config, QueueKind},
};
use fake::{
    Random, checksum, ipv4_frame,
    rig::{Wire, config},
    several::{ADDRESSES, Several},
};
use netdev_driver::{
    Outcome,
    claims::{Address, ClaimError},
    endpoint::{OpenError, STUCK_NS},
};

for_all! {
    each_server_gets_its_own_frames_and_no_others;
    what_is_for_all_goes_to_each;
    windows_come_and_go_and_nothing_is_lost;
    one_alone_is_not_copied_for;
    a_server_that_lies_loses_its_own_window;
    a_server_without_buffers_costs_the_others_nothing;
    windows_take_turns_to_send;
    frames_of_a_closed_window_are_nobodys;
    a_device_that_stands_still_is_reset_for_all;
    without_private_buffers_there_is_one_window;
}

/// A frame for a server, whose payload begins with a number.
fn frame_for(at: usize, len: usize, number: u32) -> Vec<u8> {
    frame_to(ADDRESSES[at], len, number)
}

fn frame_to(address: [u8; 4], len: usize, number: u32) -> Vec<u8> {
    let mut frame = ipv4_frame(len, number);
    frame[0] = 0x52; // to one station
    frame[30..34].copy_from_slice(&address);
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Who asks for whom.
fn arp_request(target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].fill(0xff);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[28..32].copy_from_slice(&[10, 9, 0, 1]);
    frame[38..42].copy_from_slice(&target);
    frame
}

mod on {
    use super::*;

    /// Whether the bytes are anywhere in a window.
    fn holds<W: Wire>(rig: &Several<W>, at: usize, bytes: &[u8]) -> bool {
        // SAFETY: the whole window, which is leaked, and which nobody writes now.
        let memory = unsafe { std::slice::from_raw_parts(rig.bases[at].as_ptr(), rig.layout.bytes as usize) };
        memory.windows(bytes.len()).any(|window| window == bytes)
    }

    pub fn each_server_gets_its_own_frames_and_no_others<W: Wire>(queue: QueueKind) {
        let mut rig = Several::<W>::new(config(queue));
        let _ = (rig.open(0), rig.open(1));
        let mut random = Random(0x51de);
        let (mut offered, mut arrived) = ([0u32; 2], [0u32; 2]);
        for _ in 0..400 {
            for _ in 0..random.below(24) {
                let at = random.below(2) as usize;
                let mut frame = frame_for(at, 60 + random.below(1400) as usize, offered[at]);
                // A secret that tells whose it is, wherever it may lie.
                frame[40..56].fill(0xa0 + at as u8);
                offered[at] += u32::from(rig.wire(&frame));
            }
            assert_eq!(rig.interrupts().misbehaviour, None);
            for at in 0..2 {
                for (family, _, bytes) in rig.server(at).receive() {
                    assert_eq!((family, &bytes[30..34]), (1, &ADDRESSES[at][..]));
                    assert_eq!(bytes[34..38], arrived[at].to_be_bytes());
                    arrived[at] += 1;
                }
            }
        }
        assert!(offered[0] > 1000 && offered[1] > 1000);
        assert_eq!(arrived, offered);
        for at in 0..2 {
            assert!(holds(&rig, at, &[0xa0 + at as u8; 16]));
            assert!(!holds(&rig, 1 - at, &[0xa0 + at as u8; 16]), "a frame has lain in the other's window");
        }
        assert_eq!(rig.count(Counter::WindowCopies), u64::from(offered[0] + offered[1]));
        // For nobody: dropped and counted.
        assert!(rig.wire(&frame_to([10, 9, 0, 99], 60, 0)));
        let _ = rig.interrupts();
        assert_eq!(rig.count(Counter::DropUnclaimed), 1);
        rig.settle();
    }

    pub fn what_is_for_all_goes_to_each<W: Wire>(queue: QueueKind) {
        let mut rig = Several::<W>::new(config(queue));
        let _ = (rig.open(0), rig.open(1), rig.open(2));
        assert_eq!(rig.endpoint.claim(1, Address::Ipv4(ADDRESSES[0])), Err(ClaimError::Taken));
        assert!(rig.wire(&arp_request(ADDRESSES[1])));
        assert!(rig.wire(&frame_to([255; 4], 100, 7)));
        assert!(rig.wire(&frame_for(2, 100, 8)));
        let _ = rig.interrupts();
        let got = [0, 1, 2].map(|at| rig.server(at).receive().len());
        assert_eq!(got, [1, 2, 2]);
        assert_eq!((rig.count(Counter::FramesIn), rig.count(Counter::DeliveredAgain)), (3, 2));
        // Who has claimed nothing gets what nobody claims.
        rig.endpoint.disclaim(1);
        assert!(rig.wire(&frame_for(1, 100, 9)));
        assert!(rig.wire(&frame_to([10, 9, 0, 99], 100, 10)));
        let _ = rig.interrupts();
        assert_eq!([0, 1, 2].map(|at| rig.server(at).receive().len()), [0, 2, 0]);
        rig.close(0);
        assert_eq!(rig.endpoint.claim(0, Address::Ipv4(ADDRESSES[1])), Err(ClaimError::Closed));
        assert_eq!(rig.endpoint.claim(1, Address::Ipv4(ADDRESSES[0])), Ok(()), "it is free now");
        rig.settle();
    }

    /// Random openings and closings under traffic both ways; what is open keeps its books, what is closed holds nothing.
    pub fn windows_come_and_go_and_nothing_is_lost<W: Wire>(queue: QueueKind) {
        let mut rig = Several::<W>::new(config(queue));
        let mut random = Random(0xc0ffee);
        let (mut most, mut reopened) = (0, 0);
        for round in 0..600u32 {
            if random.below(6) == 0 {
                let at = random.below(3) as usize;
                if rig.servers[at].is_some() {
                    rig.close(at);
                } else if rig.endpoint.open(at).is_ok_and(|outcome| outcome.misbehaviour.is_none()) {
                    rig.servers[at] = Some(fake::server::Server::new(rig.bases[at], rig.layout));
                    rig.endpoint.claim(at, Address::Ipv4(ADDRESSES[at])).unwrap();
                    reopened += 1;
                }
            }
            rig.set(false, random.below(2) == 0);
            let open = rig.servers.iter().flatten().count();
            most = most.max(open);
            for _ in 0..random.below(40) {
                rig.wire(&frame_for(random.below(3) as usize, 60 + random.below(1400) as usize, round));
            }
            for at in 0..3 {
                if rig.servers[at].is_none() {
                    continue;
                }
                for _ in 0..random.below(12) {
                    let outcome = rig.send(at, &frame_for(at, 60 + random.below(1400) as usize, round));
                    assert_eq!(outcome.and_then(|outcome| outcome.misbehaviour), None);
                }
            }
            rig.step();
            assert_eq!(rig.interrupts().misbehaviour, None);
            rig.sent();
            let alone = open == 1;
            for (at, server) in rig.servers.iter_mut().enumerate() {
                let Some(server) = server else { continue };
                for (_, _, bytes) in server.receive() {
                    assert!(alone || bytes[30..34] == ADDRESSES[at] || bytes[34..38] != round.to_be_bytes());
                }
                server.drain_deferred();
            }
            rig.counts().assert_settled();
            if round % 50 == 49 {
                rig.settle();
            }
        }
        assert!(most == 3 && reopened > 40, "{most} {reopened}");
        rig.settle();
        (0..3).for_each(|at| rig.close(at));
        assert_eq!(rig.owned(), 0);
        assert!(!rig.wire(&frame_for(0, 60, 0)), "a closed device receives nothing");
        rig.settle();
    }

    pub fn one_alone_is_not_copied_for<W: Wire>(queue: QueueKind) {
        let mut rig = Several::<W>::new(config(queue));
        let carry = |rig: &mut Several<W>, at: usize, frames: u32| {
            let before = rig.count(Counter::WindowCopies);
            let mut got = 0;
            for number in 0..frames {
                assert!(rig.wire(&frame_for(at, 200, number)), "the ring ran dry");
                if number % 16 == 15 {
                    assert_eq!(rig.interrupts().misbehaviour, None);
                    got += rig.server(at).receive().len();
                }
            }
            assert_eq!(got, frames as usize);
            rig.count(Counter::WindowCopies) - before
        };
        let _ = rig.open(1);
        assert_eq!(carry(&mut rig, 1, 320), 0, "alone from the start");
        let _ = rig.open(2);
        assert_eq!(carry(&mut rig, 1, 320), 320);
        assert_eq!(carry(&mut rig, 2, 320), 320);
        rig.close(1);
        let copies = carry(&mut rig, 2, 512);
        assert!((1..=256).contains(&copies), "{copies}: no more than there were buffers of the kernel's own");
        assert_eq!(carry(&mut rig, 2, 320), 0, "alone again");
        rig.settle();
        // And a second time, from the window with another number.
        let _ = rig.open(0);
        assert_eq!(carry(&mut rig, 0, 320), 320);
        rig.close(2);
        carry(&mut rig, 0, 512);
        assert_eq!(carry(&mut rig, 0, 320), 0);
        rig.settle();
    }

    /// Random words all over the control part of one window: the other server's traffic goes on, all of it, in order.
    pub fn a_server_that_lies_loses_its_own_window<W: Wire>(queue: QueueKind) {
        let mut rig = Several::<W>::new(Config {
            pools: 2,
            mbufs_per_pool: 256,
            clusters_per_pool: 128,
            ..config(queue)
        });
        let _ = (rig.open(0), rig.open(1));
        let mut random = Random(0xbad);
        let (mut offered, mut arrived, mut queued, mut left, mut closed) = (0u32, 0u32, 0u32, 0u32, 0);
        for round in 0..2000u32 {
            for _ in 0..random.below(6) {
                offered += u32::from(rig.wire(&frame_for(0, 60 + random.below(1400) as usize, offered)));
                rig.wire(&frame_for(1, 60 + random.below(1400) as usize, round));
            }
            for _ in 0..1 + random.below(4) {
                // The words in front of each queue are its own; a ring's items come after them.
                let block = 4096 + random.below(6) as u32 * queue.block_bytes();
                let area = match random.below(4) {
                    0 => block..block + 256,
                    1 => rig.layout.pools_at..rig.layout.mbufs_at,
                    _ => rig.layout.mbufs_at..rig.layout.clusters_at,
                };
                let at = area.start + 4 * random.below(u64::from((area.end - area.start) / 4)) as u32;
                let word = match random.below(3) {
                    0 => random.next() as u32,
                    1 => random.below(3) as u32,
                    _ => {
                        rig.layout.mbufs_at + 128 * random.below(u64::from(rig.layout.config.mbufs())) as u32
                    }
                };
                // SAFETY: inside the leaked window; this is what a hostile server does.
                unsafe { rig.bases[1].add(at as usize).cast::<u32>().write_volatile(word) };
            }
            let mut outcomes = vec![rig.interrupts(), rig.endpoint.start(1)];
            for (family, _, bytes) in rig.server(0).receive() {
                assert_eq!((family, &bytes[34..38]), (1, &arrived.to_be_bytes()[..]));
                arrived += 1;
            }
            for _ in 0..random.below(6) {
                let frame = frame_for(0, 60 + random.below(1400) as usize, queued);
                let outcome = rig.send(0, &frame).expect("its own buffers are not touched");
                outcomes.push(outcome);
                queued += 1;
            }
            rig.step();
            outcomes.extend([rig.interrupts(), rig.endpoint.watchdog(u64::from(round) * 1_000_000)]);
            rig.server(0).drain_deferred();
            // The liar sends to its own address, or nonsense.
            for frame in rig.sent() {
                if frame.len() >= 38 && frame[30..34] == ADDRESSES[0] && frame[34..38] == left.to_be_bytes() {
                    left += 1;
                }
            }
            rig.counts().assert_settled();
            let lied = outcomes.iter().find(|outcome| outcome.misbehaviour.is_some());
            assert!(lied.is_none_or(|outcome| outcome.culprit == 1), "{lied:?}");
            if lied.is_some() || random.below(50) == 0 {
                rig.close(1);
                closed += 1;
                // Not at once: for a while the honest one is alone.
                let mut outcome = Outcome::default();
                if random.below(2) == 0 {
                    for _ in 0..random.below(20) {
                        offered += u32::from(rig.wire(&frame_for(0, 100, offered)));
                    }
                    outcome = rig.interrupts();
                }
                assert_eq!(outcome.misbehaviour, None);
                rig.step();
                let _ = rig.interrupts();
                assert_eq!(rig.open(1).misbehaviour, None);
            }
        }
        assert!(closed > 50, "{closed}");
        arrived += rig.server(0).receive().len() as u32;
        assert_eq!((arrived, left), (offered, queued), "the honest one has lost frames");
        assert!(offered > 2500 && queued > 2500);
        rig.close(1);
        rig.settle();
        let _ = rig.open(1);
        rig.settle();
    }

    pub fn a_server_without_buffers_costs_the_others_nothing<W: Wire>(queue: QueueKind) {
        let mut rig = Several::<W>::new(config(queue));
        let _ = (rig.open(0), rig.open(1));
        let mut hoard = Vec::new();
        while let Some(item) = rig.server(1).space.alloc_cluster() {
            hoard.push(item);
        }
        let mut got = 0;
        for number in 0..1000 {
            assert!(rig.wire(&frame_for(1, 200, number)), "the ring ran dry");
            assert!(rig.wire(&frame_for(0, 200, number)), "the ring ran dry");
            assert_eq!(rig.interrupts().misbehaviour, None);
            got += rig.server(0).receive().len();
        }
        assert_eq!(got, 1000);
        assert!(rig.count(Counter::DropNoBuffer) > 900);
        assert!(rig.wire(&frame_to([255; 4], 100, 0)));
        let _ = rig.interrupts();
        assert_eq!((rig.server(0).receive().len(), rig.count(Counter::MissedCopies)), (1, 1));
        for item in hoard {
            rig.server(1).space.free_chain(item);
        }
        rig.server(1).receive();
        assert!(rig.wire(&frame_for(1, 200, 7)));
        let _ = rig.interrupts();
        assert_eq!(rig.server(1).receive().len(), 1);
        rig.settle();
    }

    /// One has hundreds of frames to send, the other a few: these do not wait for all of those.
    pub fn windows_take_turns_to_send<W: Wire>(queue: QueueKind) {
        let mut rig = Several::<W>::new(Config {
            pools: 2,
            mbufs_per_pool: 1024,
            clusters_per_pool: 512,
            ..config(queue)
        });
        let _ = (rig.open(0), rig.open(1));
        for lazy in [false, true] {
            rig.set(false, lazy);
            for number in 0..400 {
                let item = rig.server(0).frame(&frame_for(0, 60, number), &[]).unwrap();
                let _ = rig.server(0).send(item);
            }
            for number in 0..60 {
                let item = rig.server(1).frame(&frame_for(1, 60, number), &[]).unwrap();
                let _ = rig.server(1).send(item);
            }
            let mut order = Vec::new();
            let mut outcome = rig.endpoint.start(0);
            for _ in 0..40 {
                assert_eq!(outcome.misbehaviour, None);
                rig.step();
                order.extend(rig.sent().iter().map(|frame| usize::from(frame[33]) - 2));
                outcome = rig.interrupts();
            }
            assert_eq!(order.len(), 460, "all of them, by interrupts alone");
            let last = order.iter().rposition(|&at| at == 1).unwrap();
            assert!(last < 200, "the last of the few was frame {last}");
            rig.settle();
        }
    }

    pub fn frames_of_a_closed_window_are_nobodys<W: Wire>(queue: QueueKind) {
        let mut rig = Several::<W>::new(config(queue));
        let _ = (rig.open(0), rig.open(1));
        rig.set(true, true);
        for number in 0..10 {
            assert_eq!(rig.send(1, &frame_for(1, 300, number)).unwrap().misbehaviour, None);
            assert_eq!(rig.send(0, &frame_for(0, 300, number)).unwrap().misbehaviour, None);
        }
        rig.close(1);
        assert_eq!(rig.endpoint.open(1), Err(OpenError::Busy), "its frames are still in the ring");
        assert_eq!(rig.endpoint.audit(0).mbufs_transmitting, 10);
        rig.set(false, true);
        rig.step();
        let _ = (rig.interrupts(), rig.endpoint.poll());
        assert_eq!(rig.sent().len(), 20);
        assert_eq!(rig.endpoint.audit(0).mbufs_transmitting, 0);
        let _ = rig.open(1);
        assert!(rig.wire(&frame_for(1, 60, 0)));
        let _ = rig.interrupts();
        assert_eq!(rig.server(1).receive().len(), 1);
        rig.settle();
    }

    pub fn a_device_that_stands_still_is_reset_for_all<W: Wire>(queue: QueueKind) {
        let mut rig = Several::<W>::new(config(queue));
        let _ = (rig.open(0), rig.open(1), rig.open(2));
        rig.set(true, true);
        for number in 0..10 {
            for at in 0..3 {
                assert_eq!(rig.send(at, &frame_for(at, 300, number)).unwrap().misbehaviour, None);
            }
        }
        rig.close(2);
        let _ = rig.endpoint.watchdog(1_000);
        let _ = rig.endpoint.watchdog(STUCK_NS + 1_000);
        assert_eq!(rig.count(Counter::DeviceResets), 1);
        for at in 0..2 {
            assert_eq!(rig.endpoint.audit(at).mbufs_transmitting, 0);
            rig.server(at).drain_deferred();
        }
        rig.set(false, false);
        let _ = rig.open(2);
        for at in 0..3 {
            assert!(rig.wire(&frame_for(at, 60, 1)));
            assert_eq!(rig.send(at, &frame_for(at, 60, 2)).unwrap().misbehaviour, None);
        }
        rig.step();
        let _ = rig.interrupts();
        assert_eq!([0, 1, 2].map(|at| rig.server(at).receive().len()), [1; 3]);
        assert_eq!(rig.sent().len(), 3);
        rig.settle();
    }

    pub fn without_private_buffers_there_is_one_window<W: Wire>(queue: QueueKind) {
        let mut rig = fake::rig::Rig::<W>::new(config(queue));
        let (window, _) = rig.machine.another_window(rig.layout);
        let ledger = Box::leak(Box::new(netdev_driver::Ledger::new()));
        assert_eq!(rig.endpoint.add_window(window, ledger), Ok(1));
        assert_eq!(rig.endpoint.open(1), Err(OpenError::Busy));
        assert_eq!(rig.endpoint.open(2), Err(OpenError::None));
        assert_eq!(rig.endpoint.claim(7, Address::Ipv4(ADDRESSES[0])), Err(ClaimError::Closed));
        rig.settle();
        rig.endpoint.close(0);
        let _ = rig.endpoint.open(1).unwrap();
        assert!(rig.wire(&ipv4_frame(60, 0)));
        assert_eq!(rig.interrupts().misbehaviour, None);
        assert_eq!((rig.count(Counter::DeliveredIpv4), rig.count(Counter::WindowCopies)), (1, 0));
        rig.endpoint.close(1);
        assert_eq!(rig.endpoint.poll(), Outcome::default());
        rig.counts().assert_settled();
    }
}

/// A device that is stopped and started takes no frames for a while, so who opens and closes a window over and over must not make it so.
#[test]
fn windows_that_open_again_and_again_do_not_stop_the_device() {
    use fake::e1000::E1000Model;
    let mut rig = Several::<E1000Model>::new(config(QueueKind::Dual));
    let _ = rig.open(0);
    let resets = |rig: &Several<E1000Model>| rig.machine.model.borrow().resets;
    let before = resets(&rig);
    let mut number = 0;
    for round in 0..40 {
        assert_eq!(rig.open(1).misbehaviour, None);
        let stopped = resets(&rig);
        // Alone for so long that its clusters would fill the ring.
        for window in [1, 0] {
            for _ in 0..300 {
                for at in 0..=window {
                    number += 1;
                    assert!(rig.wire(&frame_for(at, 100, number)), "the ring ran dry");
                    assert_eq!(rig.send(at, &frame_for(at, 100, number)).unwrap().misbehaviour, None);
                }
                assert_eq!(rig.interrupts().misbehaviour, None);
                for at in 0..=window {
                    assert_eq!(rig.server(at).receive().len(), 1, "round {round}");
                    rig.server(at).drain_deferred();
                }
            }
            assert_eq!(resets(&rig), stopped);
            if window == 1 {
                rig.close(1);
            }
        }
        assert_eq!(rig.endpoint.watchdog(0).misbehaviour, None);
    }
    // Each stop is two resets: one to stop, one to start.
    assert!(resets(&rig) - before <= 8, "{}", resets(&rig) - before);
    rig.settle();
}
