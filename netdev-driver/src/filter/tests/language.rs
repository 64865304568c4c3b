//! The language of packet filters once more, as the paper's table has it: word by word, on a growing stack. For the tests here, and for
//! the fuzz target.

extern crate std;

use std::vec::Vec;

use abi::filter::{STACK_MAX, WORDS_MAX};

/// How an evaluation ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The program is none.
    Bad,
    /// A word beyond the frame's end: the frame is not wanted.
    Short,
    /// A result.
    Result(bool),
}

/// A word of the program at a time, on a stack that grows (Mogul, Rashid and Accetta 1987, "Filter language details").
pub fn evaluate(words: &[u16], frame: &[u8]) -> Result<bool, End> {
    let load = |n: usize| match frame.get(2 * n..2 * n + 2) {
        Some(two) => Ok(u16::from_be_bytes([two[0], two[1]])),
        None => Err(End::Short),
    };
    let mut stack = Vec::new();
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let pushed = match word % 1024 {
            0 => None,
            1 => Some(words.next().ok_or(End::Bad)?),
            constant @ 2..=6 => Some([0, 1, 0xffff, 0x00ff, 0xff00][usize::from(constant) - 2]),
            14 => {
                let n: u16 = stack.pop().ok_or(End::Bad)?;
                Some(load(n.into())?)
            }
            n @ 16.. => Some(load(usize::from(n) - 16)?),
            _ => return Err(End::Bad),
        };
        stack.extend(pushed);
        if word / 1024 == 0 {
            continue;
        }
        let (Some(t1), Some(t2)) = (stack.pop(), stack.pop()) else { return Err(End::Bad) };
        let equal = t1 == t2;
        let shift = u32::from(t1).min(31);
        stack.push(match word / 1024 {
            1 => equal.into(),
            2 => (t2 < t1).into(),
            3 => (t2 <= t1).into(),
            4 => (t2 > t1).into(),
            5 => (t2 >= t1).into(),
            6 => t2 & t1,
            7 => t2 | t1,
            8 => t2 ^ t1,
            9 if equal => return Err(End::Result(true)),
            10 if !equal => return Err(End::Result(false)),
            11 if equal => return Err(End::Result(false)),
            12 if !equal => return Err(End::Result(true)),
            9..=12 => equal.into(),
            13 => (!equal).into(),
            14 => (u64::from(t2) << shift) as u16,
            15 => (u64::from(t2) >> shift) as u16,
            16 => t2.wrapping_add(t1),
            17 => t2.wrapping_sub(t1),
            _ => return Err(End::Bad),
        });
    }
    stack.last().map(|&top| top != 0).ok_or(End::Bad)
}

/// Whether a program is one, without running it: how deep the stack is does not depend on the frame.
pub fn is_program(words: &[u16]) -> bool {
    let (mut depth, mut at) = (0usize, 0);
    if words.is_empty() || words.len() > WORDS_MAX {
        return false;
    }
    while at < words.len() {
        let (action, operator) = (words[at] % 1024, words[at] / 1024);
        at += 1;
        depth = match action {
            0 => depth,
            1 if at == words.len() => return false,
            1 => {
                at += 1;
                depth + 1
            }
            14 if depth == 0 => return false,
            14 => depth,
            2..=6 | 16.. => depth + 1,
            _ => return false,
        };
        if depth > STACK_MAX || operator > 17 || (operator != 0 && depth < 2) {
            return false;
        }
        depth -= usize::from(operator != 0);
    }
    depth != 0
}
