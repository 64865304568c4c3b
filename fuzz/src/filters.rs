//! Packet filters: any words as a program, any bytes as a frame, beside an evaluator that reads the language as the paper's table has it.

use abi::filter::{STACK_MAX, WORDS_MAX};
use netdev_driver::filter::{FilterTable, Program};

use crate::input::Input;

/// How an evaluation ends early.
enum End {
    /// The program is none.
    Bad,
    /// A word beyond the frame's end: the frame is not wanted.
    Short,
    /// A result.
    Result(bool),
}

/// A word of the program at a time, on a stack that grows (Mogul, Rashid and Accetta 1987, "Filter language details").
fn evaluate(words: &[u16], frame: &[u8]) -> Result<bool, End> {
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
fn is_program(words: &[u16]) -> bool {
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

/// A program, and frames for it; then several in a table.
pub fn filters(data: &[u8]) {
    let mut input = Input::new(data);
    let mut table: FilterTable<u32, 4> = FilterTable::new();
    let mut set: Vec<(u32, u8, bool, Vec<u16>)> = Vec::new();
    for owner in 0..6 {
        let (count, kind) = (usize::from(input.byte()) % (WORDS_MAX + 4), input.byte());
        let words: Vec<u16> = input
            .take(2 * count)
            .chunks(2)
            .map(|two| u16::from_le_bytes([two[0], *two.get(1).unwrap_or(&0)]))
            // Most words are none of the language: some are moved into it.
            .map(|word| if kind & 1 != 0 { (word % 0x0420) | ((word & 0x4000) >> 1) } else { word })
            .collect();
        let program = Program::validate(&words);
        assert_eq!(program.is_ok(), is_program(&words), "{words:x?}: {:?}", program.err());
        if let Ok(program) = program {
            let (priority, copy) = (kind >> 4, kind & 2 != 0);
            let room = set.len() < 4;
            assert_eq!(table.set(owner, priority, copy, &program).is_ok(), room);
            if room {
                set.push((owner, priority, copy, words));
            }
        }
    }
    while let Some(length) = input.next() {
        let frame = input.take(length.into());
        let mut wants: Vec<(u32, u8, bool)> = Vec::new();
        for (owner, priority, copy, words) in &set {
            let wanted = match evaluate(words, frame) {
                Ok(wanted) | Err(End::Result(wanted)) => wanted,
                Err(End::Short) => false,
                Err(End::Bad) => panic!("a program that was let through is none: {words:x?}"),
            };
            let program = Program::validate(words).expect("as before");
            assert_eq!(program.matches(frame), wanted, "{words:x?} on {frame:02x?}");
            if wanted {
                wants.push((*owner, *priority, *copy));
            }
        }
        // The highest priority first, and of one priority whoever came first; it ends with one that takes the frame for itself.
        wants.sort_by_key(|&(_, priority, _)| core::cmp::Reverse(priority));
        let last = wants.iter().position(|&(.., copy)| !copy).map_or(wants.len(), |at| at + 1);
        let (mut from, mut got) = (0, Vec::new());
        while let Some(found) = table.next_match(from, frame) {
            got.push(found.owner);
            assert!(found.next > from && got.len() <= set.len(), "the table goes round");
            from = found.next;
        }
        let wanted: Vec<u32> = wants[..last].iter().map(|&(owner, ..)| owner).collect();
        assert_eq!(got, wanted);
    }
}
