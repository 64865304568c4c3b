//! All contestants do what the comparison takes for granted: they keep the order, say when they are empty, and pass a stream.

use queue_bench::contestants::{self, Contestant, Pop, Push, Visitor};
use queue_bench::one_thread::Pattern;
use queue_bench::two_threads::{ping_pong, stream};
use queue_bench::{BUFFERS, Cycle};
use shmqueue::Item;

struct Order(u32);

impl Visitor for Order {
    fn visit<C: Contestant>(&mut self) {
        self.0 += 1;
        let mut queue = C::new();
        let (mut producer, mut consumer) = queue.split();
        let (mut sent, mut received) = (Cycle::default(), Cycle::default());
        assert_eq!(consumer.pop(), None, "{}", C::NAME);
        // Several times round the slots, with all buffers under way at the end of each.
        for round in 0..7 {
            for _ in 0..BUFFERS {
                assert!(producer.push(sent.advance()), "{}", C::NAME);
            }
            let mut got: Vec<Item> = Vec::new();
            got.extend(consumer.pop());
            assert_eq!(consumer.drain(BUFFERS / 2, |item| got.push(item)), BUFFERS / 2, "{}", C::NAME);
            assert_eq!(consumer.drain(BUFFERS, |item| got.push(item)), BUFFERS / 2 - 1, "{}", C::NAME);
            assert_eq!(consumer.pop(), None, "{}", C::NAME);
            let expected: Vec<Item> = (0..BUFFERS).map(|_| received.advance()).collect();
            assert_eq!(got, expected, "{} in round {round}", C::NAME);
        }
    }
}

#[test]
fn each_keeps_the_order_and_says_when_it_is_empty() {
    let mut order = Order(0);
    contestants::each(&mut order);
    assert_eq!(order.0, 8);
}

struct Patterns;

impl Visitor for Patterns {
    fn visit<C: Contestant>(&mut self) {
        for pattern in Pattern::ALL {
            pattern.run::<C>(1000);
        }
        assert!(!stream::<C>(10_007).is_zero());
        assert!(!ping_pong::<C>(500).is_zero());
    }
}

/// The loops themselves panic at the first item that is not the expected one.
#[test]
fn each_runs_all_patterns() {
    contestants::each(&mut Patterns);
}

/// A ring whose consumer gives the first item for ever.
struct Broken(contestants::LamportRing);

struct Repeating<P> {
    inner: P,
    first: Option<Item>,
}

impl<P: Pop> Pop for Repeating<P> {
    fn pop(&mut self) -> Option<Item> {
        let item = self.inner.pop()?;
        Some(*self.first.get_or_insert(item))
    }
}

impl Contestant for Broken {
    const NAME: &'static str = "broken";
    type Producer<'q> = <contestants::LamportRing as Contestant>::Producer<'q>;
    type Consumer<'q> = Repeating<<contestants::LamportRing as Contestant>::Consumer<'q>>;
    fn new() -> Self {
        Self(Contestant::new())
    }
    fn split(&mut self) -> (Self::Producer<'_>, Self::Consumer<'_>) {
        let (producer, inner) = self.0.split();
        (producer, Repeating { inner, first: None })
    }
}

#[test]
#[should_panic(expected = "instead of")]
fn a_wrong_item_is_noticed_by_the_pair() {
    Pattern::Pair.run::<Broken>(2);
}

#[test]
#[should_panic(expected = "instead of")]
fn a_wrong_item_is_noticed_by_the_burst() {
    Pattern::Burst.run::<Broken>(2);
}

/// In the stream and the ping-pong a wrong item would leave the other thread waiting: there the check ends the program in
/// the profile of the benches, which does not unwind. The same function makes it.
#[test]
fn the_right_item_is_not_noticed() {
    Pattern::Pair.run::<Broken>(1);
}
