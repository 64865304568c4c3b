//! What Reynolds and Heller measured, as their prose has it (section "Network Performance"): their graphs' bars carry no numbers.
//!
//! Their three systems: OSF/1, with the stack in its kernel; the OSF/1 single server over Mach messages; the same server over the
//! shared window. Theirs ran on a 386 with an Ethernet board that copies by itself, ours under an emulator: what can be compared
//! is the order and the proportion, not the speed.

/// A part of the report: cells that belong together, and what the paper says about them.
#[derive(Debug)]
pub struct Part {
    /// The heading.
    pub title: &'static str,
    /// The cells' names begin so.
    cells: &'static str,
    /// The paper's result in our words, if it measured this.
    pub statement: &'static str,
}

/// The parts in their order.
pub const PARTS: &[Part] = &[
    Part {
        title: "ttcp, transmitting",
        cells: "tx",
        statement: "For all three sizes, messages reach less than a third of the kernel's own rate, and the window wins back about half of \
                    what is missing. At 10 bytes every system is slow, the integrated one still more than twice as fast as both others.",
    },
    Part {
        title: "ttcp, receiving",
        cells: "rx",
        statement: "10 bytes: messages below a fifth of the kernel's rate, the window about a tenth above it, the only place where it \
                    wins. 1 KiB: messages about a third, the window just over half. 8 KiB: messages a little under half, the window \
                    only a little better.",
    },
    Part {
        title: "ftp",
        cells: "ftp",
        statement: "Transmitting: messages about a quarter of the kernel's rate, the window about 45 percent (almost 80 percent more than \
                    messages). Receiving: messages just over 40 percent, the window just over 50. Their file system took part in it.",
    },
    Part {
        title: "X11 dots",
        cells: "dots",
        statement: "Messages about half of the kernel's rate, the window about three quarters.",
    },
    Part { title: "Requests of one byte", cells: "rr", statement: "" },
    Part { title: "UDP, transmitting", cells: "udp-tx", statement: "" },
    Part { title: "UDP, receiving", cells: "udp-rx", statement: "" },
    Part { title: "ping", cells: "ping", statement: "" },
    Part { title: "Others", cells: "", statement: "" },
];

/// The number of the part that a cell belongs to.
pub fn part_of(cell: &str) -> usize {
    PARTS.iter().position(|part| cell.starts_with(part.cells)).unwrap_or(PARTS.len() - 1)
}

/// What a cell does, in words.
pub fn describe(cell: &str) -> String {
    let size = |digits: &str| match digits.parse::<u64>() {
        Ok(bytes) if bytes >= 1024 && bytes % 1024 == 0 => format!("{} KiB", bytes / 1024),
        Ok(1) => "one byte".to_owned(),
        Ok(bytes) => format!("{bytes} bytes"),
        Err(_) => digits.to_owned(),
    };
    let forms: [(&str, &str); 4] =
        [("udp-tx", "datagrams of "), ("udp-rx", "datagrams of "), ("tx", "writes of "), ("rx", "reads of ")];
    match forms.iter().find_map(|(start, words)| Some((cell.strip_prefix(start)?, words))) {
        Some((digits, words)) => format!("{words}{}", size(digits)),
        None if cell == "rr1" => "one byte there and back".to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_a_part() {
        let title = |cell| PARTS[part_of(cell)].title;
        assert_eq!(title("tx8192"), "ttcp, transmitting");
        assert_eq!(title("udp-rx10"), "UDP, receiving");
        assert_eq!(title("ftp-get"), "ftp");
        assert_eq!(title("whatever"), "Others");
    }

    #[test]
    fn cells_in_words() {
        assert_eq!(describe("tx8192"), "writes of 8 KiB");
        assert_eq!(describe("rx10"), "reads of 10 bytes");
        assert_eq!(describe("udp-tx1"), "datagrams of one byte");
        assert_eq!(describe("dots"), "");
    }
}
