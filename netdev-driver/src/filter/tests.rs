//! Programs of the paper and of ours, and random ones beside the plain evaluator.

extern crate std;

mod language;

use std::{vec, vec::Vec};

use abi::filter::{Builder, instruction, programs};

use super::*;
use language::{End, evaluate, is_program};

/// xorshift64: the same programs in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    /// A word that is more often right than not. Values are small, so that comparisons go both ways.
    fn word(&mut self) -> u16 {
        let action = match self.below(20) {
            0..4 => 0,
            4..8 => 1,
            8..12 => 2 + self.below(5) as u16,
            12 => 14,
            13..19 => 16 + self.below(12) as u16,
            _ => self.next() as u16 & 0x3ff,
        };
        let operator = match self.below(20) {
            0..8 => 0,
            8..19 => 1 + self.below(17) as u16,
            _ => self.below(64) as u16,
        };
        action | operator << 10
    }

    fn program(&mut self) -> Vec<u16> {
        let length = 1 + self.below(24);
        (0..length).map(|_| if self.below(8) == 0 { self.below(4) as u16 } else { self.word() }).collect()
    }

    fn frame(&mut self) -> Vec<u8> {
        (0..self.below(30)).map(|i| if i % 2 == 0 { 0 } else { self.below(3) as u8 }).collect()
    }
}

#[test]
fn agrees_with_the_plain_evaluator_on_random_programs_and_frames() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut valid, mut wanted, mut cut) = (0, 0, 0);
    for _ in 0..100_000 {
        let words = random.program();
        let program = Program::validate(&words);
        assert_eq!(program.is_ok(), is_program(&words), "{words:x?}: {program:?}");
        let Ok(program) = program else { continue };
        for _ in 0..4 {
            let frame = random.frame();
            let expected = evaluate(&words, &frame);
            assert_ne!(expected, Err(End::Bad), "{words:x?} was let through");
            assert_eq!(program.matches(&frame), is_wanted(expected), "{words:x?} on {frame:x?}");
            valid += 1;
            wanted += usize::from(is_wanted(expected));
            cut += usize::from(expected == Err(End::Short));
        }
    }
    assert!(valid > 30_000 && wanted > 6_000 && cut > 6_000, "{valid} {wanted} {cut}");
}

fn is_wanted(result: Result<bool, End>) -> bool {
    matches!(result, Ok(true) | Err(End::Result(true)))
}

#[test]
fn no_words_at_all_can_do_harm() {
    let mut random = Random(7);
    for _ in 0..100_000 {
        let words: Vec<u16> = (0..random.below(12)).map(|_| random.next() as u16).collect();
        if let Ok(program) = Program::validate(&words) {
            let frame = random.frame();
            assert_eq!(program.matches(&frame), is_wanted(evaluate(&words, &frame)));
        }
    }
}

const PUSH_WORD: u16 = action::PUSH_WORD;

fn op(action: u16, operator: Operator) -> u16 {
    instruction(action, operator)
}

fn validated(words: &[u16]) -> Program {
    Program::validate(words).unwrap()
}

/// On the experimental Ethernet: a header of two words, then Pup.
fn pup(ether_type: u16, pup_type: u8, socket: u32) -> Vec<u8> {
    let mut words = [0u16; 12];
    (words[1], words[3]) = (ether_type, 0xab00 | u16::from(pup_type));
    (words[7], words[8]) = ((socket >> 16) as u16, socket as u16);
    words.into_iter().flat_map(u16::to_be_bytes).collect()
}

/// The paper's first example: all Pup packets with types 1 to 100.
#[test]
fn the_papers_range_of_pup_types() {
    use Operator::{And, Eq, Gt, Le, Nop};
    let program = validated(&[
        op(PUSH_WORD + 1, Nop),
        op(action::PUSH_LITERAL, Eq),
        2,
        op(PUSH_WORD + 3, Nop),
        op(action::PUSH_00FF, And),
        op(action::PUSH_ZERO, Gt),
        op(PUSH_WORD + 3, Nop),
        op(action::PUSH_00FF, And),
        op(action::PUSH_LITERAL, Le),
        100,
        op(action::NO_PUSH, And),
        op(action::NO_PUSH, And),
    ]);
    for pup_type in 0..=255 {
        assert_eq!(program.matches(&pup(2, pup_type, 0)), (1..=100).contains(&pup_type), "{pup_type}");
    }
    assert!(!program.matches(&pup(8, 50, 0)));
}

/// The paper's second example: Pup packets to socket 35, by short-circuit operators, the likeliest difference first.
#[test]
fn the_papers_pup_socket() {
    use Operator::{Cand, Eq, Nop};
    let program = validated(&[
        op(PUSH_WORD + 8, Nop),
        op(action::PUSH_LITERAL, Cand),
        35,
        op(PUSH_WORD + 7, Nop),
        op(action::PUSH_ZERO, Cand),
        op(PUSH_WORD + 1, Nop),
        op(action::PUSH_LITERAL, Eq),
        2,
    ]);
    assert_eq!(program.length, 3, "each comparison with a constant is one step");
    assert!(program.matches(&pup(2, 1, 35)));
    for other in [pup(2, 1, 36), pup(2, 1, 35 + 65_536), pup(3, 1, 35)] {
        assert!(!program.matches(&other));
    }
}

#[test]
fn the_short_circuits_end_and_go_on_as_in_the_papers_table() {
    use Operator::{Cand, Cnand, Cnor, Cor, Nop};
    // 5, n, operator; then something that would turn the result round if the program went on.
    let run = |operator, n, then: u16| {
        let lit = action::PUSH_LITERAL;
        validated(&[op(lit, Nop), 5, op(lit, operator), n, op(then, Nop)]).matches(&[])
    };
    let (zero, one) = (action::PUSH_ZERO, action::PUSH_ONE);
    assert!(run(Cor, 5, zero) && run(Cor, 6, one) && !run(Cor, 6, zero));
    assert!(!run(Cand, 6, one) && run(Cand, 5, one) && !run(Cand, 5, zero));
    assert!(!run(Cnor, 5, one) && run(Cnor, 6, one) && !run(Cnor, 6, zero));
    assert!(run(Cnand, 6, zero) && run(Cnand, 5, one) && !run(Cnand, 5, zero));
    // What they push where they go on.
    let pushed = |operator, n| {
        validated(&[op(action::PUSH_LITERAL, Nop), 5, op(action::PUSH_LITERAL, operator), n]).matches(&[])
    };
    assert!(!pushed(Cor, 6) && pushed(Cand, 5) && !pushed(Cnor, 6) && pushed(Cnand, 5));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    use FilterError::*;
    use Operator::{And, Eq, Nop};
    let refused = |words: &[u16]| Program::validate(words).map(|_| ()).unwrap_err();
    let one = op(action::PUSH_ONE, Nop);
    assert_eq!(refused(&[]), Empty);
    assert_eq!(refused(&[one; WORDS_MAX + 1]), TooLong);
    assert_eq!(refused(&[op(action::NO_PUSH, Nop)]), NoResult);
    assert_eq!(refused(&[one, op(action::PUSH_LITERAL, Nop)]), MissingLiteral(1));
    for unknown in [7, 13, 15] {
        assert_eq!(refused(&[one, unknown]), UnknownAction(1));
    }
    assert_eq!(refused(&[one, one, 18 << OPERATOR_SHIFT]), UnknownOperator(2));
    assert_eq!(refused(&[0xffff]), UnknownOperator(0));
    assert_eq!(refused(&[one, op(action::NO_PUSH, And)]), Underflow(1));
    assert_eq!(refused(&[op(action::PUSH_ONE, Eq)]), Underflow(0));
    assert_eq!(refused(&[op(action::PUSH_INDIRECT, Nop)]), Underflow(0));
    assert_eq!(refused(&[one, op(action::PUSH_INDIRECT, Eq)]), Underflow(1));
    assert_eq!(refused(&[one; STACK_MAX + 1]), Overflow(STACK_MAX));
    // Pushed and taken in one word is too deep all the same.
    let mut words = vec![one; STACK_MAX];
    words.push(op(action::PUSH_ONE, And));
    assert_eq!(refused(&words), Overflow(STACK_MAX));
    assert!(validated(&[one; STACK_MAX]).matches(&[]));
    // A literal is no instruction, whatever it looks like.
    assert!(validated(&[op(action::PUSH_LITERAL, Nop), 0xffff]).matches(&[]));
    // The longest one runs.
    let mut words = vec![one];
    words.resize(WORDS_MAX, op(action::PUSH_ONE, And));
    assert!(validated(&words).matches(&[]));
}

#[test]
fn the_deepest_stack_keeps_every_word() {
    let mut words = Vec::new();
    for n in 0..STACK_MAX as u16 {
        words.extend([op(action::PUSH_LITERAL, Operator::Nop), 1000 + n]);
    }
    words.extend(vec![op(action::NO_PUSH, Operator::Add); STACK_MAX - 1]);
    let sum = (0..STACK_MAX as u16).map(|n| 1000 + n).fold(0, u16::wrapping_add);
    let mut equal = words.clone();
    equal.extend([op(action::PUSH_LITERAL, Operator::Eq), sum]);
    assert!(equal.len() <= WORDS_MAX && validated(&equal).matches(&[]));
    *equal.last_mut().unwrap() ^= 1;
    assert!(!validated(&equal).matches(&[]));
}

#[test]
fn a_word_beyond_the_end_rejects_unless_the_answer_came_before() {
    let word_3 = |frame: &[u8]| validated(&[op(PUSH_WORD + 3, Operator::Nop)]).matches(frame);
    assert!(word_3(&[0, 0, 0, 0, 0, 0, 0, 1]));
    assert!(!word_3(&[1; 7]) && !word_3(&[]));
    let highest = validated(&[op(ACTION_MASK, Operator::Nop)]);
    assert!(!highest.matches(&[1; 2015]) && highest.matches(&[1; 2016]));
    let far = [op(action::PUSH_FFFF, Operator::Nop), op(action::PUSH_INDIRECT, Operator::Nop)];
    assert!(!validated(&far).matches(&[1; 1514]));
    assert!(validated(&far).matches(&[1; 0x2_0000]));
    let early = [op(action::PUSH_ONE, Operator::Nop), op(action::PUSH_ONE, Operator::Cor), far[0], far[1]];
    assert!(validated(&early).matches(&[]));
}

// ---------------------------------------------------------------------------------------------- what servers set

const ME: [u8; 4] = [10, 9, 0, 2];
const PEER: [u8; 4] = [10, 9, 0, 1];
const OTHER: [u8; 4] = [10, 9, 0, 3];

fn program(builder: &Builder) -> Program {
    validated(builder.words().unwrap())
}

fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[0x52; 12][..], &kind.to_be_bytes(), payload].concat()
}

/// IPv4 with so many bytes of options.
fn ipv4(protocol: u8, from: [u8; 4], to: [u8; 4], options: usize, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 20 + options];
    header[0] = 0x40 | ((20 + options) / 4) as u8;
    header[1] = 0x1c;
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&from);
    header[16..20].copy_from_slice(&to);
    ethernet(0x0800, &[&header, payload].concat())
}

fn tcp(from: ([u8; 4], u16), to: ([u8; 4], u16), options: usize) -> Vec<u8> {
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    ipv4(6, from.0, to.0, options, 0x4000, &[&ports[..], &[0; 16]].concat())
}

fn arp(sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let rest = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[2; 6], &sender, &[0; 6], &target].concat();
    ethernet(0x0806, &rest)
}

#[test]
fn a_server_gets_what_is_its_own() {
    let mine = program(&programs::arp(ME));
    assert!(mine.matches(&arp(PEER, ME)));
    assert!(!mine.matches(&arp(ME, PEER)) && !mine.matches(&arp(PEER, OTHER)));
    assert!(!mine.matches(&tcp((PEER, 1), (ME, 2), 0)));

    let mine = program(&programs::ipv4_to(ME));
    for to in [ME, [255; 4], [224, 0, 0, 1], [239, 255, 255, 250]] {
        assert!(mine.matches(&ipv4(17, PEER, to, 0, 0, &[])), "{to:?}");
    }
    for to in [OTHER, PEER, [10, 8, 0, 2], [223, 255, 255, 255]] {
        assert!(!mine.matches(&ipv4(17, PEER, to, 0, 0, &[])), "{to:?}");
    }
    assert!(!mine.matches(&arp(PEER, ME)));
    assert!(program(&programs::ipv4()).matches(&ipv4(1, OTHER, PEER, 0, 0, &[])));

    let address = [0xfd, 0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let mine = program(&programs::ipv6_to(address));
    let to = |address: [u8; 16]| ethernet(0x86dd, &[&[0x60; 24][..], &address].concat());
    assert!(mine.matches(&to(address)));
    for byte in 1..16 {
        let mut other = address;
        other[byte] ^= 0x10;
        assert!(!mine.matches(&to(other)), "byte {byte}");
    }
    let mut group = address;
    group[0] = 0xff;
    assert!(mine.matches(&to(group)));

    assert!(program(&programs::all()).matches(&[]));
}

#[test]
fn ports_are_found_behind_options_and_not_in_later_fragments() {
    let wants = program(&programs::ipv4_tcp_port(80));
    for options in [0, 4, 12, 40] {
        assert!(wants.matches(&tcp((PEER, 80), (ME, 1024), options)));
        assert!(wants.matches(&tcp((PEER, 1024), (ME, 80), options)));
        assert!(!wants.matches(&tcp((PEER, 81), (ME, 8080), options)));
    }
    let ports = [0, 80, 0, 80];
    assert!(wants.matches(&ipv4(6, PEER, ME, 0, 0x2000, &ports)), "the first fragment");
    assert!(!wants.matches(&ipv4(6, PEER, ME, 0, 0x2001, &ports)), "a later one");
    assert!(!wants.matches(&ipv4(17, PEER, ME, 0, 0, &ports)), "UDP");
    assert!(!wants.matches(&ipv4(6, PEER, ME, 0, 0, &[0])), "cut short");
}

#[test]
fn hosts_are_found_in_ipv4_and_arp() {
    let wants = program(&Builder::new().host(PEER));
    assert!(wants.matches(&arp(PEER, ME)) && wants.matches(&arp(ME, PEER)));
    assert!(!wants.matches(&arp(ME, OTHER)));
    // 34 bytes: shorter than ARP, whose addresses would stand behind the end.
    assert!(wants.matches(&ipv4(1, PEER, ME, 0, 0, &[])) && wants.matches(&ipv4(1, ME, PEER, 0, 0, &[])));
    assert!(!wants.matches(&ipv4(1, OTHER, ME, 0, 0, &[])));
    assert!(!wants.matches(&ethernet(0x1234, &[10; 40])));
    let both = program(&Builder::new().host(PEER).ipv4_protocol(1));
    assert!(both.matches(&ipv4(1, PEER, ME, 0, 0, &[])) && !both.matches(&ipv4(17, PEER, ME, 0, 0, &[])));
    assert!(!both.matches(&arp(PEER, ME)));
}

#[test]
fn one_connection_can_be_left_out() {
    let wants = program(&Builder::new().host(PEER).unless_tcp(PEER, 5000, 1234));
    assert!(!wants.matches(&tcp((PEER, 5000), (ME, 1234), 0)));
    assert!(!wants.matches(&tcp((PEER, 5000), (ME, 1234), 8)));
    for other in [
        tcp((PEER, 5001), (ME, 1234), 0),
        tcp((PEER, 5000), (ME, 1235), 0),
        arp(PEER, ME),
        ipv4(17, PEER, ME, 0, 0, &[0; 8]),
        ipv4(6, PEER, ME, 0, 5, &[0x13, 0x88, 0x04, 0xd2]),
    ] {
        assert!(wants.matches(&other), "{other:x?}");
    }
    assert!(!wants.matches(&tcp((OTHER, 5000), (ME, 1234), 0)), "of another host");
}

#[test]
fn what_is_too_long_to_write_is_no_program() {
    let mut it = Builder::new();
    for n in 0..42 {
        it = it.require(n, 0);
    }
    assert_eq!(it.words().unwrap().len(), 126);
    assert!(it.require(0, 0).words().is_none());
    // A builder is a constant where one is wanted.
    const ARP: Builder = programs::arp(ME);
    assert!(program(&ARP).matches(&arp(PEER, ME)));
}

// ---------------------------------------------------------------------------------------------- the table

fn owners(table: &FilterTable<u32, 4>, frame: &[u8]) -> Vec<u32> {
    let (mut from, mut owners) = (0, Vec::new());
    while let Some(found) = table.next_match(from, frame) {
        owners.push(found.owner);
        from = found.next;
    }
    owners
}

#[test]
fn frames_go_by_priority_and_behind_a_filter_that_shares() {
    let (all, word_1) = (program(&programs::all()), validated(&[op(PUSH_WORD, Operator::Nop)]));
    let mut table = FilterTable::<u32, 4>::new();
    assert!(table.is_empty() && owners(&table, &[0, 1]).is_empty());
    table.set(1, 10, false, &word_1).unwrap();
    table.set(2, 5, false, &all).unwrap();
    table.set(3, 20, true, &all).unwrap();
    table.set(4, 10, false, &all).unwrap();
    assert_eq!(table.set(5, 0, false, &all), Err(Full));
    assert_eq!(owners(&table, &[0, 1]), [3, 1], "3 shares, 1 keeps it, though 4 is its equal");
    assert_eq!(owners(&table, &[0, 0]), [3, 4]);
    assert!(table.remove(4) && !table.remove(4) && !table.remove(5));
    assert_eq!(owners(&table, &[0, 0]), [3, 2]);
    // A new program, another priority: it is behind 1 now.
    table.set(3, 7, true, &word_1).unwrap();
    assert_eq!((owners(&table, &[0, 1]), owners(&table, &[0, 0])), (vec![1], vec![2]));
    table.set(1, 10, true, &word_1).unwrap();
    assert_eq!(owners(&table, &[0, 1]), [1, 3, 2]);
    for owner in [1, 2, 3] {
        assert!(table.remove(owner));
    }
    assert_eq!(table.len(), 0);
}

#[test]
fn the_table_keeps_its_order_whatever_comes_and_goes() {
    let all = program(&programs::all());
    let mut random = Random(99);
    let mut table = FilterTable::<u32, 4>::new();
    // Owner and priority, by age.
    let mut model: Vec<(u32, u8)> = Vec::new();
    for _ in 0..20_000 {
        let (owner, priority) = (random.below(6) as u32, random.below(3) as u8);
        let had = model.iter().position(|&(o, _)| o == owner);
        if random.below(3) == 0 {
            assert_eq!(table.remove(owner), had.is_some());
            model.retain(|&(o, _)| o != owner);
        } else {
            if had.is_none() && model.len() == 4 {
                assert_eq!(table.set(owner, priority, true, &all), Err(Full));
                continue;
            }
            table.set(owner, priority, true, &all).unwrap();
            model.retain(|&(o, _)| o != owner);
            model.push((owner, priority));
        }
        let mut expected = model.clone();
        expected.sort_by_key(|&(_, priority)| core::cmp::Reverse(priority));
        assert_eq!(owners(&table, &[]), expected.iter().map(|&(o, _)| o).collect::<Vec<_>>());
    }
}
