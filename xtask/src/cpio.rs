//! Writes boot modules: cpio archives in the "newc" format (kernel: Documentation/driver-api/early-userspace/buffer-format).
//! [`archive`] makes Oriel's, [`tree`] a Linux guest's, which has folders and links as well.

/// One archive of `(name, content)` files.
pub fn archive<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, (name, content)) in files.into_iter().enumerate() {
        entry(&mut out, index + 1, 0o100_755, name, content);
    }
    entry(&mut out, 0, 0, "TRAILER!!!", &[]);
    out
}

/// What stands under a name.
#[derive(Debug, Clone, Copy)]
pub enum Member<'a> {
    /// A folder; it comes before what is in it.
    Folder,
    /// A program, or a file like any other.
    File(&'a [u8]),
    /// A symbolic link to this.
    Link(&'a str),
}

/// One archive of these members, in this order.
pub fn tree<'a>(members: impl IntoIterator<Item = (&'a str, Member<'a>)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, (name, member)) in members.into_iter().enumerate() {
        let (mode, content) = match member {
            Member::Folder => (0o040_755, &[][..]),
            Member::File(content) => (0o100_755, content),
            Member::Link(to) => (0o120_777, to.as_bytes()),
        };
        entry(&mut out, index + 1, mode, name, content);
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

    #[test]
    fn trees_have_folders_and_links() {
        let out = tree([("bin", Member::Folder), ("bin/sh", Member::Link("busybox"))]);
        let mode = |at: usize| std::str::from_utf8(&out[at + 14..at + 22]).unwrap().to_owned();
        assert_eq!(mode(0), format!("{:08x}", 0o040_755));
        let second = (110_usize + 4).next_multiple_of(4);
        assert_eq!(mode(second), format!("{:08x}", 0o120_777));
        assert!(out.windows(7).any(|link| link == b"busybox"));
    }
}
