//! Every operation of `shmqueue` and `mbuf` once, as a function of its own, to be looked at as machine code: the test
//! `no_read_modify_write` reads what the compiler makes of this file.
#![no_std]
#![cfg(not(loom))]

use core::ops::ControlFlow;

use mbuf::{ChainError, ExternalError, InterruptSpace, NoLedger, ProtocolSpace, View};
use shmqueue::{
    AsymmetricMutex, Drained, EnqueueError, InConsumer, InProducer, Item, OutConsumer, OutProducer,
    PeerMisbehaviour, Poster, WaitWord, bytes,
    mutex::{InterruptGuard, ProtocolGuard},
    ring::{PushError, RingConsumer, RingProducer},
};

type Outcome<T> = Result<T, PeerMisbehaviour>;

macro_rules! operations {
    ($($name:ident($($arg:ident: $type:ty),*) -> $ret:ty = $body:expr;)*) => {$(
        #[doc = "One operation."]
        #[inline(never)]
        pub fn $name($($arg: $type),*) -> $ret { $body }
    )*};
}

operations! {
    try_lock_interrupt(m: &AsymmetricMutex) -> Option<InterruptGuard<'_>> = m.try_lock_interrupt();
    try_lock_protocol(m: &AsymmetricMutex) -> Option<ProtocolGuard<'_>> = m.try_lock_protocol();
    lock_protocol(m: &AsymmetricMutex) -> ProtocolGuard<'_> = m.lock_protocol();
    unlock_interrupt(g: InterruptGuard<'_>) -> () = drop(g);
    unlock_protocol(g: ProtocolGuard<'_>) -> () = drop(g);
    in_append(q: &mut InProducer<'_, View<'_>>, item: Item) -> Result<(), EnqueueError> = q.append(item);
    in_append_batch(q: &mut InProducer<'_, View<'_>>, items: &[Item]) -> Result<(), EnqueueError> = q.append_batch(items);
    in_consumer_idle(q: &InProducer<'_, View<'_>>) -> bool = q.consumer_idle();
    in_dequeue(q: &mut InConsumer<'_, View<'_>>) -> Outcome<Option<Item>> = q.dequeue();
    in_set_idle(q: &mut InConsumer<'_, View<'_>>) -> () = q.set_idle();
    in_clear_idle(q: &mut InConsumer<'_, View<'_>>) -> () = q.clear_idle();
    in_flush(q: &mut InConsumer<'_, View<'_>>) -> Outcome<usize> = q.flush(8, |_| ());
    out_append(q: &mut OutProducer<'_, View<'_>>, item: Item) -> Result<(), EnqueueError> = q.append(item);
    out_consumer_idle(q: &OutProducer<'_, View<'_>>) -> bool = q.consumer_idle();
    out_drain(q: &mut OutConsumer<'_, View<'_>>) -> Outcome<Drained> = q.drain(8, |_| ControlFlow::Continue(()));
    ring_push(q: &mut RingProducer<'_, 8>, item: Item) -> Result<(), PushError> = q.push(item);
    ring_push_batch(q: &mut RingProducer<'_, 8>, items: &[Item]) -> Result<usize, PushError> = q.push_batch(items);
    ring_consumer_idle(q: &RingProducer<'_, 8>) -> bool = q.consumer_idle();
    ring_pop(q: &mut RingConsumer<'_, 8>) -> Outcome<Option<Item>> = q.pop();
    ring_drain(q: &mut RingConsumer<'_, 8>) -> Outcome<Drained> = q.drain(8, |_| ControlFlow::Continue(()));
    ring_set_idle(q: &mut RingConsumer<'_, 8>) -> () = q.set_idle();
    wait_prepare(w: &WaitWord) -> () = w.prepare();
    wait_finish(w: &WaitWord) -> () = w.finish();
    wait_should_post(p: &mut Poster, w: &WaitWord) -> bool = p.should_post(w);
    bytes_write(p: &mut bytes::Producer<'_>, from: &[u8]) -> Outcome<usize> = p.write(from);
    bytes_read(c: &mut bytes::Consumer<'_>, to: &mut [u8]) -> Outcome<usize> = c.read(to);
    pool_init(v: &View<'_>) -> () = mbuf::init(v);
    driver_take(s: &mut InterruptSpace<'_>) -> Outcome<u32> = s.try_alloc_cluster_batch(8, &mut NoLedger, |_, _| ());
    driver_free(s: &mut InterruptSpace<'_>, items: &[Item]) -> Outcome<u32> = s.try_free(items, &mut NoLedger, |_| ());
    driver_wanted(s: &InterruptSpace<'_>) -> bool = s.wanted();
    server_alloc(s: &mut ProtocolSpace<'_>) -> Option<Item> = s.alloc();
    server_alloc_cluster(s: &mut ProtocolSpace<'_>) -> Option<Item> = s.alloc_cluster();
    server_free(s: &mut ProtocolSpace<'_>, items: &[Item]) -> () = s.free_batch(items);
    server_drain(s: &mut ProtocolSpace<'_>, q: &mut InConsumer<'_, View<'_>>) -> Outcome<usize> = s.drain_deferred(q, 8);
    server_want(s: &mut ProtocolSpace<'_>) -> () = s.want();
    server_unwant(s: &mut ProtocolSpace<'_>) -> () = s.unwant();
    server_share(s: &mut ProtocolSpace<'_>, cluster: Item) -> bool = s.share(cluster);
    server_attach(s: &mut ProtocolSpace<'_>) -> Result<Item, ExternalError> = s.attach_external(4096, 4096);
    server_copy(s: &mut ProtocolSpace<'_>, item: Item) -> Result<Item, ChainError> = s.copy_range(item, 0, 100);
}
