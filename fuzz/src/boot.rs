//! What the kernel boots from: programs, the archive that they come in, the command line, the table of its symbols.

use abi::vm::{PAGE_BYTES, PROGRAM_END, USER_MIN};
use fuzz_kernel::elf::Program;
use fuzz_kernel::symbols::Symbols;
use fuzz_kernel::{cmdline, module};

use crate::input::Input;

/// A header of ELF-64 and of its segments that is right but for what the bytes say.
fn forged(input: &mut Input<'_>) -> Vec<u8> {
    let count = usize::from(input.byte() % 20);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    let entry = 0x40_0000 + u64::from(input.byte()) * 16;
    for word in [entry, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0; 4]);
    for half in [64u16, 56, count as u16, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for _ in 0..count {
        let (kind, choice) = (input.byte(), input.byte());
        file.extend(u32::from(if kind & 0x80 == 0 { 1 } else { kind & 7 }).to_le_bytes());
        file.extend(u32::from(kind >> 4 & 7).to_le_bytes());
        let address = match choice & 3 {
            0 => u64::from(input.word()) << 12,
            1 => (PROGRAM_END - 0x2000).wrapping_add(u64::from(input.byte()) << 6),
            _ => 0x40_0000 + (u64::from(input.byte()) << 9),
        };
        let (offset, length) = (u64::from(input.byte()), u64::from(input.byte()));
        let memory = match choice >> 2 & 3 {
            0 => u64::MAX - u64::from(input.byte()),
            1 => u64::from(input.word()),
            _ => length + u64::from(input.byte()),
        };
        for word in [offset, address, address, length, memory, PAGE_BYTES] {
            file.extend(word.to_le_bytes());
        }
    }
    file
}

/// A program: what is let through can be mapped as it says.
pub fn program(data: &[u8]) {
    let mut input = Input::new(data);
    let mut file = if input.byte() & 3 == 0 { Vec::new() } else { forged(&mut input) };
    let flips = if file.is_empty() { 0 } else { input.byte() & 3 };
    for _ in 0..flips {
        let at = usize::from(input.byte()) % file.len();
        file[at] = input.byte();
    }
    file.extend(input.rest());
    let Ok(program) = Program::parse(&file) else { return };
    let (mut pages, mut segments) = (0, Vec::new());
    for segment in program.segments() {
        assert!(!(segment.prot.write && segment.prot.execute), "writable and executable");
        assert!(segment.address >= USER_MIN && segment.end() <= PROGRAM_END.next_multiple_of(PAGE_BYTES));
        assert!(segment.first_page.is_multiple_of(PAGE_BYTES) && segment.first_page <= segment.address);
        assert!(segment.address + segment.contents.len() as u64 <= segment.end(), "more than its pages hold");
        let (file, part) = (file.as_ptr_range(), segment.contents.as_ptr_range());
        assert!(file.start <= part.start && part.end <= file.end);
        for (first, end) in &segments {
            assert!(segment.end() <= *first || *end <= segment.first_page, "two segments share a page");
        }
        segments.push((segment.first_page, segment.end()));
        pages += segment.pages;
    }
    assert_eq!(program.pages(), pages);
    assert!(program.segments().any(|s| s.prot.execute && (s.first_page..s.end()).contains(&program.entry)));
}

/// An archive of members, and one that was damaged.
pub fn archive(data: &[u8]) {
    let mut input = Input::new(data);
    let mut bytes = Vec::new();
    let count = input.byte() & 7;
    for number in 0..count {
        let name = [&b"init"[..], b"./sh", b"ttcp", b"", b"TRAILER!!!"][usize::from(input.byte()) % 5];
        let length = usize::from(input.byte());
        let contents = input.take(length);
        bytes.extend(b"070701");
        for field in 0..13 {
            let value = match field {
                6 => contents.len() as u32,
                11 => name.len() as u32 + 1,
                _ => u32::from(number),
            };
            // Sizes that lie, sometimes.
            let value = if input.byte() == 0xff { input.word() } else { value };
            bytes.extend(format!("{value:08x}").into_bytes());
        }
        bytes.extend(name);
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(contents);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let flips = input.byte() & 3;
    for _ in 0..flips {
        if !bytes.is_empty() {
            let at = input.word() as usize % bytes.len();
            bytes[at] = input.byte();
        }
    }
    bytes.extend(input.rest());
    for name in [&b"init"[..], b"sh", b"ttcp", b"", b"none"] {
        if let Ok(contents) = module::find(&bytes, name) {
            let (all, part) = (bytes.as_ptr_range(), contents.as_ptr_range());
            assert!(all.start <= part.start && part.end <= all.end);
        }
    }
}

/// The command line beside a plainer reader of it, what the server makes of it, and the symbols.
pub fn command_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for key in ["path", "ip", "queue", ""] {
        let plain = data.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(|word| {
            let mut parts = word.splitn(2, |&byte| byte == b'=');
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
        });
        let last = plain.rev().find(|(found, _)| *found == key.as_bytes()).map(|(_, value)| value);
        assert_eq!(cmdline::get(data, key), last);
        let number = last.and_then(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok());
        assert_eq!(cmdline::number(data, key), number);
    }
    // The symbols are in the order of addresses, or the search ends early; it never invents one.
    for address in [0, 0x10_0000, u64::MAX] {
        if let Some(symbol) = Symbols(data).find(address) {
            assert!(symbol.address <= address && text.contains(symbol.name));
        }
    }
    crate::stack::configure(data);
}
