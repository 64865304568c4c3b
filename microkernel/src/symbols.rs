//! The kernel's own symbols, for the panic report: the member `kernel.sym` of the boot module, lines of `address name` in the
//! order of addresses, hexadecimal without a prefix.

/// The table's text.
#[derive(Clone, Copy)]
pub struct Symbols<'t>(pub &'t [u8]);

/// A function of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'t> {
    /// Where it starts.
    pub address: u64,
    /// Its name.
    pub name: &'t str,
}

impl<'t> Symbols<'t> {
    /// The function that an address lies in: the last that starts at or before it.
    #[must_use]
    pub fn find(self, address: u64) -> Option<Symbol<'t>> {
        self.0
            .split(|&byte| byte == b'\n')
            .filter_map(parse)
            .take_while(|symbol| symbol.address <= address)
            .last()
    }
}

fn parse(line: &[u8]) -> Option<Symbol<'_>> {
    let (address, name) = core::str::from_utf8(line).ok()?.split_once(' ')?;
    Some(Symbol { address: u64::from_str_radix(address, 16).ok()?, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Symbols<'static> = Symbols(
        b"ffffffff80100000 boot\nnot a line\nffffffff80100040 a::b<c, d>::e\nffffffff80100100 last\n",
    );

    #[test]
    fn an_address_is_in_the_function_that_starts_last_before_it() {
        let name = |address| TABLE.find(address).map(|symbol| symbol.name);
        assert_eq!(name(0xffff_ffff_800f_ffff), None);
        assert_eq!(name(0xffff_ffff_8010_0000), Some("boot"));
        assert_eq!(name(0xffff_ffff_8010_003f), Some("boot"));
        assert_eq!(name(0xffff_ffff_8010_0040), Some("a::b<c, d>::e"));
        assert_eq!(name(u64::MAX), Some("last"));
        assert_eq!(Symbols(b"").find(1), None);
        assert_eq!(Symbols(b"\xff\xff 1\n\n1\n").find(1), None);
    }
}
