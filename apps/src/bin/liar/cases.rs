//! A lie for each check that the kernel makes of a window: of the OUT queue's items (`netdev-driver`'s `transmit.rs`), its lists and indices
//! (`shmqueue`), who holds a buffer (`ledger.rs`), free lists and reference counts (`mbuf`'s `interrupt.rs`).

use core::time::Duration;

use abi::{
    counters::Counter,
    window::{M_WANT_AT, Queue, QueueKind},
};
use userlib::{println, task, thread};

use crate::window::Window;

#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    /// Whether the kernel ends the task for it. What does not, costs a frame and a counter.
    pub ends: bool,
    /// It needs queues of this kind.
    pub queue: Option<QueueKind>,
    pub lie: fn(&mut Window),
}

const fn ends(name: &'static str, about: &'static str, lie: fn(&mut Window)) -> Case {
    Case { name, about, ends: true, queue: None, lie }
}

const fn lives(name: &'static str, about: &'static str, lie: fn(&mut Window)) -> Case {
    Case { ends: false, ..ends(name, about, lie) }
}

const fn on(queue: QueueKind, case: Case) -> Case {
    Case { queue: Some(queue), ..case }
}

/// Sends what is at `item`.
fn send(window: &Window, item: u32) {
    window.put(item);
    window.start();
}

/// Sends a frame that has to be refused and counted.
fn refused(window: &Window, item: u32) {
    let before = window.counter(Counter::DropOutBad);
    send(window, item);
    if window.counter(Counter::DropOutBad) == before {
        println!("liar: the frame was not refused");
        task::exit(1);
    }
}

/// Waits until the driver holds buffers of this window to receive into.
fn wait_for_posted(window: &Window) {
    for _ in 0..50 {
        if window.audit().mbufs_posted != 0 {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    println!("liar: no frame has come to it");
    task::exit(1);
}

/// All cases.
pub const ALL: &[Case] = &[
    ends("misaligned", "an item between two mbufs", |w| send(w, w.spare(0) + 64)),
    ends("outside", "an item behind the window", |w| send(w, w.layout.bytes + 128)),
    ends("header", "the header as an item", |w| send(w, 128)),
    ends("wild", "an item at the end of all numbers", |w| send(w, u32::MAX)),
    ends("cluster", "a cluster as an item", |w| send(w, w.cluster(3))),
    on(
        QueueKind::Dual,
        ends("twice", "a list of one frame, which leads to itself", |w| {
            let item = w.small(w.spare(0), 60);
            w.set(item + 4, item);
            send(w, item);
        }),
    ),
    on(
        QueueKind::Ring,
        ends("twice-ring", "one frame in two slots", |w| {
            let item = w.small(w.spare(0), 60);
            w.put(item);
            send(w, item);
        }),
    ),
    on(
        QueueKind::Dual,
        ends("circle", "a list of more frames than go at once, without an end", |w| {
            for n in 0..400 {
                w.small(w.spare(n), 60);
                w.set(w.spare(n) + 4, w.spare((n + 1) % 400));
            }
            send(w, w.spare(0));
        }),
    ),
    ends("chain-cycle", "a frame of two mbufs, each before the other", |w| {
        let (first, second) = (w.small(w.spare(0), 60), w.small(w.spare(1), 60));
        w.set(first, second);
        w.set(second, first);
        send(w, first);
    }),
    ends("chain-nowhere", "a frame that goes on where no mbuf is", |w| {
        let item = w.small(w.spare(0), 60);
        w.set(item, w.spare(1) + 4);
        send(w, item);
    }),
    ends("before", "data that begins before its buffer", |w| {
        let item = w.small(w.spare(0), 60);
        w.set(item + 8, item + 47);
        send(w, item);
    }),
    ends("behind", "data that ends behind its cluster", |w| {
        let item = w.large(w.spare(0), w.cluster(u32::MAX), 100);
        w.set(item + 8, w.cluster(u32::MAX) + 2048 - 99);
        send(w, item);
    }),
    ends("sum-wraps", "data whose end is before its start", |w| {
        let item = w.small(w.spare(0), u32::MAX - 5);
        send(w, item);
    }),
    ends("elsewhere", "data in another cluster than the one it names", |w| {
        let item = w.large(w.spare(0), w.cluster(u32::MAX), 100);
        w.set(item + 8, w.cluster(u32::MAX - 1));
        send(w, item);
    }),
    ends("no-cluster", "a cluster between two clusters", |w| {
        let item = w.large(w.spare(0), w.cluster(u32::MAX), 100);
        w.set(item + 24, w.cluster(u32::MAX) + 1024);
        send(w, item);
    }),
    ends("posted", "every mbuf, those of the receive ring among them", |w| {
        // The kernel takes them in bunches, and the last of one may just have been used.
        for _ in 0..20 {
            wait_for_posted(w);
            (0..w.layout.config.mbufs()).for_each(|n| send(w, w.small(w.mbuf(n), 60)));
        }
    }),
    ends("posted-cluster", "every cluster, those of the receive ring among them", |w| {
        for _ in 0..20 {
            wait_for_posted(w);
            (0..w.layout.config.clusters()).for_each(|n| send(w, w.large(w.spare(n % 8), w.cluster(n), 60)));
        }
    }),
    ends("no-references", "a cluster that nobody refers to", |w| {
        let item = w.large(w.spare(0), w.cluster(u32::MAX), 100);
        w.set(w.references(w.cluster(u32::MAX)), 0);
        send(w, item);
    }),
    ends("free-cluster", "a cluster that is free", |w| {
        let item = w.large(w.spare(0), w.cluster(u32::MAX), 100);
        w.set(w.references(w.cluster(u32::MAX)), 1 << 31);
        send(w, item);
    }),
    ends("free-list", "free lists that lead nowhere", |w| {
        (0..w.layout.config.pools).for_each(|pool| w.set(w.pool(pool) + 192, 4));
    }),
    ends("free-list-posted", "a free mbuf after which comes one of the receive ring", |w| {
        wait_for_posted(w);
        for pool in 0..w.layout.config.pools {
            let list = w.pool(pool) + 192;
            let first = w.get(list);
            w.set(first, first);
        }
    }),
    on(
        QueueKind::Dual,
        ends("filled", "IN queues that are not empty, though nothing was put there", |w| {
            for queue in Queue::IN {
                (0..2).for_each(|sub| w.set(w.layout.queue_at(queue) + 256 * sub + 192, w.spare(9)));
            }
        }),
    ),
    on(
        QueueKind::Ring,
        ends("index", "a position far behind the ring", |w| {
            w.set(w.layout.queue_at(Queue::Out), 1 << 30);
            w.start();
        }),
    ),
    on(QueueKind::Ring, ends("no-item", "a slot that holds nothing", |w| send(w, 0))),
    lives("long-chain", "a frame of more mbufs than a device takes", |w| {
        for n in 0..40 {
            w.small(w.spare(n), 30);
            w.set(w.spare(n), if n == 39 { 0 } else { w.spare(n + 1) });
        }
        refused(w, w.spare(0));
    }),
    lives("empty", "a frame of no bytes", |w| refused(w, w.small(w.spare(0), 0))),
    lives("too-long", "a frame longer than Ethernet's", |w| {
        let (first, second) = (
            w.large(w.spare(0), w.cluster(u32::MAX), 1500),
            w.large(w.spare(1), w.cluster(u32::MAX - 1), 15),
        );
        w.set(first, second);
        refused(w, first);
    }),
    lives("checksum", "a checksum to be put behind the frame", |w| {
        let item = w.small(w.spare(0), 60);
        w.set(item + 16, 0x82);
        w.set(item + 28, 50 << 16 | 14);
        refused(w, item);
    }),
    lives("locks", "every lock is held for ever", |w| {
        w.locks().for_each(|lock| w.hold(lock));
        for _ in 0..20 {
            w.start();
            thread::sleep(Duration::from_millis(50));
        }
    }),
    lives("wants", "waits for buffers and for frames at once, always", |w| {
        w.set(M_WANT_AT, 1);
        for queue in Queue::IN {
            let block = w.layout.queue_at(queue);
            w.set(block + if w.layout.config.queue == QueueKind::Dual { 512 } else { 128 }, 1);
        }
        for _ in 0..200 {
            w.start();
            thread::sleep(Duration::from_millis(5));
        }
    }),
];
