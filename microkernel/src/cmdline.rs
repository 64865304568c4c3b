//! The kernel's command line: words separated by spaces, each `key=value` or a `key` alone.

/// The value of the last `key=value` on the line (a later word overrides an earlier one, so that one can append);
/// empty for a `key` alone.
#[must_use]
pub fn get<'l>(line: &'l [u8], key: &str) -> Option<&'l [u8]> {
    words(line).filter(|(k, _)| *k == key.as_bytes()).last().map(|(_, value)| value)
}

/// The value of a key as a decimal number; `None` if it is not there or no number.
#[must_use]
pub fn number(line: &[u8], key: &str) -> Option<u64> {
    core::str::from_utf8(get(line, key)?).ok()?.parse().ok()
}

/// The words of the line, each as key and value.
pub fn words(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(|word| {
        match word.iter().position(|&byte| byte == b'=') {
            Some(at) => (&word[..at], &word[at + 1..]),
            None => (word, &[][..]),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_and_the_last_wins() {
        let line = b"  path=window pools=2\tquiet ip=10.9.0.2/24 pools=3 x==1 =y";
        assert_eq!(get(line, "path"), Some(&b"window"[..]));
        assert_eq!(number(line, "pools"), Some(3));
        assert_eq!(get(line, "quiet"), Some(&b""[..]));
        assert_eq!(get(line, "x"), Some(&b"=1"[..]));
        assert_eq!(get(line, ""), Some(&b"y"[..]));
        assert_eq!(get(line, "pool"), None);
        assert_eq!(number(line, "ip"), None);
        assert_eq!(number(b"n=99999999999999999999", "n"), None);
        assert_eq!(words(b"").count(), 0);
    }
}
