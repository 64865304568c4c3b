//! Writes the boot module: a cpio archive in the "newc" format (kernel: Documentation/driver-api/early-userspace/buffer-format).

/// One archive of `(name, content)` files.
pub fn archive<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, (name, content)) in files.into_iter().enumerate() {
        entry(&mut out, index + 1, 0o100_755, name, content);
    }
    entry(&mut out, 0, 0, "TRAILER!!!", &[]);
    out
}

fn entry(out: &mut Vec<u8>, inode: usize, mode: usize, name: &str, content: &[u8]) {
    // Magic, then inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name's length, checksum.
    let fields = [inode, mode, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_newc() {
        let out = archive([("init", &b"abcde"[..]), ("sh", &b""[..])]);
        assert_eq!(&out[..6], b"070701");
        assert_eq!(&out[6 + 6 * 8..6 + 7 * 8], b"00000005", "file size");
        assert_eq!(&out[6 + 11 * 8..6 + 12 * 8], b"00000005", "name size, with its zero");
        assert_eq!(&out[110..115], b"init\0");
        assert_eq!(&out[116..121], b"abcde");
        assert_eq!(&out[124..130], b"070701", "the next header is aligned");
        assert!(out.windows(11).any(|name| name == b"TRAILER!!!\0"));
        assert_eq!(out.len() % 4, 0);
    }
}
