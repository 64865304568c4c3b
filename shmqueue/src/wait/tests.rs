//! The word and its posters on one thread; loom has the interleavings.

use super::{AtomicU32, Poster, WaitWord};

#[test]
fn each_wait_has_an_odd_number_of_its_own() {
    let word = WaitWord::new();
    let mut seen = std::vec::Vec::new();
    for round in 0..6 {
        word.prepare();
        assert!(word.is_waiting());
        let generation = word.0.load(super::Relaxed);
        assert!(!seen.contains(&generation));
        seen.push(generation);
        // Some waits are announced anew without an end between them.
        if round % 3 != 0 {
            word.finish();
            assert!(!word.is_waiting());
            word.finish(); // twice does no harm
            assert!(!word.is_waiting());
        }
    }
}

#[test]
fn each_poster_posts_once_for_each_wait() {
    let word = WaitWord::new();
    let (mut one, mut other) = (Poster::new(), Poster::new());
    for _ in 0..3 {
        assert!(!one.should_post(&word));
        word.prepare();
        assert!(one.should_post(&word));
        assert!(!one.should_post(&word));
        assert!(other.should_post(&word));
        word.finish();
    }
}

#[test]
fn the_number_wraps_from_odd_to_even_and_on() {
    let word = WaitWord(AtomicU32::new(u32::MAX - 1));
    let mut poster = Poster::new();
    word.prepare();
    assert!(poster.should_post(&word));
    word.finish();
    assert!(!poster.should_post(&word));
    word.prepare();
    assert_eq!(word.0.load(super::Relaxed), 1);
    assert!(poster.should_post(&word));
}
