//! Criterion's half of the comparison: a group for each pattern, a line in it for each queue.
//!
//! `cargo bench -p queue-bench`, or `cargo xtask queue-bench` for the table.

use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use queue_bench::contestants::{self, Contestant, LoopAlone, Visitor};
use queue_bench::one_thread::{BURST, Pattern};
use queue_bench::two_threads::{ping_pong, stream};

/// Items, or round trips, in one repetition: enough that the start of a thread does not count.
const STREAM: u32 = 4096;
const ROUND_TRIPS: u32 = 64;

struct OneThread<'c> {
    criterion: &'c mut Criterion,
    pattern: Pattern,
}

impl Visitor for OneThread<'_> {
    fn visit<C: Contestant>(&mut self) {
        let Self { criterion, pattern } = self;
        let unit = if *pattern == Pattern::Burst { BURST } else { 1 };
        let mut group = criterion.benchmark_group(pattern.name());
        group.throughput(Throughput::Elements(unit));
        group.bench_function(C::NAME, |bencher| {
            pattern.prepare::<C, _>(|repeat| {
                bencher.iter_custom(|times| {
                    let start = Instant::now();
                    repeat(times * unit);
                    start.elapsed()
                });
            });
        });
        group.finish();
    }
}

struct TwoThreads<'c> {
    criterion: &'c mut Criterion,
}

impl Visitor for TwoThreads<'_> {
    fn visit<C: Contestant>(&mut self) {
        let mut group = self.criterion.benchmark_group("stream");
        group.throughput(Throughput::Elements(STREAM.into()));
        group.bench_function(C::NAME, |bencher| {
            bencher.iter_custom(|times| stream::<C>(whole(times, STREAM)));
        });
        group.finish();

        let mut group = self.criterion.benchmark_group("ping-pong");
        group.throughput(Throughput::Elements(ROUND_TRIPS.into()));
        group.bench_function(C::NAME, |bencher| {
            bencher.iter_custom(|times| ping_pong::<C>(whole(times, ROUND_TRIPS)));
        });
        group.finish();
    }
}

/// `times` repetitions of `unit`; Criterion asks for no more than fit into seconds.
fn whole(times: u64, unit: u32) -> u32 {
    u32::try_from(times * u64::from(unit))
        .expect("some seconds of items are fewer than four thousand million")
}

fn queues(criterion: &mut Criterion) {
    for pattern in Pattern::ALL {
        let mut visitor = OneThread { criterion, pattern };
        if pattern != Pattern::Empty {
            visitor.visit::<LoopAlone>();
        }
        contestants::each(&mut visitor);
    }
    contestants::each(&mut TwoThreads { criterion });
}

criterion_group!(benches, queues);
criterion_main!(benches);
