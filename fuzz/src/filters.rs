//! Packet filters: any words as a program, any bytes as a frame, beside the plain evaluator of the driver's own tests.

use abi::filter::WORDS_MAX;
use netdev_driver::filter::{FilterTable, Program};

use crate::input::Input;
use crate::language::{End, evaluate, is_program};

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
