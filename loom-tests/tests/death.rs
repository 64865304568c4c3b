//! Death in the middle: the server is killed at every access to a shared word. What it holds stays locked and half done
//! for ever. The driver goes on for a while and is neither blocked nor misled (death is no lie); then the kernel closes the
//! window by its own ledger, opens it anew, and the next server finds every buffer exactly once.
#![cfg(all(shmqueue_inject, not(loom)))]

#[path = "../../netdev-driver/tests/fake/mod.rs"]
mod fake;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use abi::window::{Config, QueueKind};
use fake::{
    ipv4_frame,
    rig::{Rig, Wire},
    server::Server,
};
use shmqueue::{
    queue::Consume,
    sync::injected::{Access, Action, with_hook},
};

for_all! {
    a_server_that_dies_anywhere_costs_nothing;
}

/// What unwinds the dead server's stack.
struct Death;

/// Runs `life` up to its access number `at`; `false` if it ended before that. A dead server stores nothing more: not even
/// the guards that are dropped on the way out unlock anything.
fn dies_at(at: usize, life: impl FnOnce()) -> bool {
    let (accesses, dead) = (Cell::new(0), Cell::new(false));
    let hook = |access: Access| {
        if dead.get() {
            return if access.store.is_some() { Action::Suppress } else { Action::Proceed };
        }
        if accesses.replace(accesses.get() + 1) == at {
            dead.set(true);
            resume_unwind(Box::new(Death));
        }
        Action::Proceed
    };
    match catch_unwind(AssertUnwindSafe(|| with_hook(&hook, life))) {
        Ok(()) => false,
        Err(payload) => match payload.downcast::<Death>() {
            Ok(_) => true,
            Err(payload) => resume_unwind(payload),
        },
    }
}

/// A server's life: it goes idle and comes back, receives, sends frames of one mbuf and of two, frees what was deferred,
/// and wants buffers.
fn life(server: &mut Server, start: &mut dyn FnMut()) {
    server.input.iter_mut().for_each(|queue| queue.set_idle());
    for number in 0..2 {
        server.receive();
        for cuts in [&[][..], &[60][..]] {
            if let Some(frame) = server.frame(&ipv4_frame(150, number), cuts)
                && server.send(frame)
            {
                start();
            }
        }
        server.drain_deferred();
    }
    server.space.want();
    server.drain_deferred();
    server.space.unwant();
    server.input.iter_mut().for_each(|queue| queue.clear_idle());
}

mod on {
    use super::*;

    /// Small, so that the pools run empty too.
    const fn config(queue: QueueKind) -> Config {
        Config { pools: 2, mbufs_per_pool: 32, clusters_per_pool: 16, queue }
    }

    pub fn a_server_that_dies_anywhere_costs_nothing<W: Wire>(queue: QueueKind) {
        let mut rig = Rig::<W>::new(config(queue));
        let (mut at, mut deaths) = (0, 0);
        loop {
            // Something on the IN queue, and frames on their way out, so that there is something to free.
            for number in 0..3 {
                rig.wire(&ipv4_frame(100, number));
            }
            assert_eq!(rig.interrupts().misbehaviour, None);
            rig.set(false, true);

            let mut server = Server::new(rig.base, rig.layout);
            let endpoint = &mut rig.endpoint;
            // The trap is the kernel's: it is not killed in the middle, and what it stores is stored.
            let died = dies_at(at, || {
                life(&mut server, &mut || {
                    let outcome = with_hook(&|_| Action::Proceed, || endpoint.start(0));
                    assert_eq!(outcome.misbehaviour, None);
                });
            });
            rig.set(false, false);

            // The driver lives on with the dead server's window: frames come, and what was sent leaves.
            for number in 0..24 {
                rig.wire(&ipv4_frame(100, number));
                rig.step();
                let outcome = rig.interrupts();
                assert_eq!(outcome.misbehaviour, None, "death at access {at} is no lie");
                let outcome = rig.endpoint.start(0);
                assert_eq!(outcome.misbehaviour, None, "death at access {at} is no lie");
            }
            rig.counts().assert_settled();
            let posted = rig.endpoint.audit(0);
            assert_eq!(posted.mbufs_posted, posted.clusters_posted);
            assert_eq!(posted.mbufs_posted as usize, rig.owned(), "the ledger knows what the device has");

            // Recovery: all that the device had comes back, and the window starts anew.
            rig.endpoint.close(0);
            assert_eq!(rig.endpoint.audit(0), abi::device::Audit::default());
            assert_eq!(rig.owned(), 0, "the device keeps a buffer of a closed window");
            let _ = rig.endpoint.open(0).unwrap();
            rig.sent();
            rig.server = Server::new(rig.base, rig.layout);
            rig.settle();
            assert!(rig.send(&ipv4_frame(80, 7), &[]));
            assert!(rig.wire(&ipv4_frame(80, 8)));
            rig.step();
            assert_eq!(rig.interrupts().misbehaviour, None);
            assert_eq!(rig.sent(), [ipv4_frame(80, 7)], "after a death at access {at}");
            assert_eq!(rig.server.receive().len(), 1);
            rig.settle();
            // The next round's server starts with this window new.
            rig.endpoint.close(0);
            let _ = rig.endpoint.open(0).unwrap();
            if !died {
                break;
            }
            deaths += 1;
            at += 1;
        }
        assert!(deaths > 250, "{deaths} deaths");
    }
}
