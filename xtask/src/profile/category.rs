//! What a file of the sources is about: the one table by which instructions are divided.

use crate::error::{Error, Result};

/// A part of the way of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// The device's registers and rings, the ledger, early demultiplexing.
    Driver,
    /// Shared queues, mbufs and pools, and the server's end of the window, which works with them.
    Queue,
    /// Traps, interrupts and system calls: entry, dispatch, exit.
    Entry,
    /// Who runs next, the change to it, and the clock.
    Scheduling,
    /// Ports, messages, packet filters.
    Messages,
    /// Moving bytes.
    Copying,
    /// Address spaces, tables of pages, frames: what messages need to reach a task's memory.
    Memory,
    /// smoltcp, and what prepares and finishes its frames.
    Stack,
    /// Sockets: the server's side and the application's.
    Socket,
    /// The application, and the test data that it makes and checks.
    Application,
    /// What is left: heaps, start-up, what no table knows.
    Other,
}

impl Category {
    /// All, in the order in which reports have them.
    pub const ALL: [Self; 11] = [
        Self::Driver,
        Self::Queue,
        Self::Entry,
        Self::Scheduling,
        Self::Messages,
        Self::Copying,
        Self::Memory,
        Self::Stack,
        Self::Socket,
        Self::Application,
        Self::Other,
    ];

    /// The name in tables and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Queue => "queue",
            Self::Entry => "kernel entry",
            Self::Scheduling => "scheduling",
            Self::Messages => "messages",
            Self::Copying => "copying",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Socket => "socket",
            Self::Application => "application",
            Self::Other => "other",
        }
    }

    /// The category of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|category| category.name() == name);
        found.ok_or_else(|| Error::Failed(format!("`{name}` is no category of instructions")))
    }

    /// What the sources at this path are about; `None` if the table doesn't know it.
    ///
    /// Paths are relative to the repository; those of other crates begin with the crate's name.
    pub fn of(path: &str) -> Option<Self> {
        // The longest entry that the path begins with, so that a folder's files need no order.
        let entries = TABLE.iter().flat_map(|(category, entries)| entries.iter().map(move |e| (category, e)));
        let known = entries.filter(|(_, entry)| path.starts_with(**entry));
        known.max_by_key(|(_, entry)| entry.len()).map(|(category, _)| *category)
    }
}

/// Whether the code at this path is charged to who called it: what the compiler puts into every function.
pub fn is_transparent(path: &str) -> bool {
    path.starts_with("std/") || TRANSPARENT.contains(&path)
}

/// Single instructions, and views of memory, that many parts use.
const TRANSPARENT: &[&str] =
    &["microkernel/src/arch/x86_64/ports.rs", "microkernel/src/arch/x86_64/global.rs"];

/// Folders, files, and beginnings of their names. A folder's entry holds for what no longer entry names.
const TABLE: &[(Category, &[&str])] = &[
    (
        Category::Driver,
        &[
            "netdev-driver/",
            "microkernel/src/net",
            "microkernel/src/syscall/device.rs",
            "microkernel/src/arch/x86_64/hal.rs",
            "microkernel/src/arch/x86_64/pci.rs",
            "microkernel/src/board/",
            "protocol-server/src/link/direct",
            "abi/src/device.rs",
            "userlib/src/device.rs",
        ],
    ),
    (
        Category::Queue,
        &[
            "shmqueue/",
            "mbuf/",
            "protocol-server/src/link/window",
            "protocol-server/src/path/window",
            "abi/src/window.rs",
        ],
    ),
    (
        Category::Entry,
        &[
            "microkernel/src/arch/x86_64/trap",
            "microkernel/src/arch/x86_64/context.rs",
            "microkernel/src/arch/x86_64/pic.rs",
            "microkernel/src/arch/x86_64/segments.rs",
            "microkernel/src/syscall/mod.rs",
            "userlib/src/raw.rs",
            "abi/src/syscall.rs",
            "abi/src/error.rs",
            "abi/src/codes.rs",
            "pic8259/",
        ],
    ),
    (
        Category::Scheduling,
        &[
            "microkernel/src/kernel.rs",
            "microkernel/src/quota.rs",
            "microkernel/src/list.rs",
            "microkernel/src/sched.rs",
            "microkernel/src/thread.rs",
            "microkernel/src/syscall/thread.rs",
            "microkernel/src/arch/x86_64/machine.rs",
            "microkernel/src/arch/x86_64/clock.rs",
            "microkernel/src/machine.rs",
            "userlib/src/thread.rs",
            "userlib/src/time.rs",
            "abi/src/info.rs",
            "abi/src/thread.rs",
        ],
    ),
    (
        Category::Messages,
        &[
            "microkernel/src/ipc",
            "microkernel/src/data",
            "microkernel/src/names.rs",
            "microkernel/src/port.rs",
            "microkernel/src/rights.rs",
            "microkernel/src/syscall/net_io",
            "microkernel/src/syscall/port.rs",
            "netdev-driver/src/filter",
            "protocol-server/src/link/message",
            "protocol-server/src/path/message",
            "abi/src/filter.rs",
            "abi/src/message.rs",
            "abi/src/name.rs",
            "abi/src/port.rs",
            "userlib/src/message",
            "userlib/src/name.rs",
            "userlib/src/port.rs",
            "userlib/src/rpc",
        ],
    ),
    (Category::Copying, &["memfuncs/", "shmqueue/src/copy.rs", "microkernel/src/user.rs"]),
    (
        Category::Memory,
        &[
            "microkernel/src/arch/x86_64/paging.rs",
            "microkernel/src/frames.rs",
            "microkernel/src/memory_object.rs",
            "microkernel/src/space",
            "microkernel/src/syscall/memory.rs",
            "microkernel/src/task.rs",
            "userlib/src/memory.rs",
            "abi/src/vm.rs",
        ],
    ),
    (
        Category::Stack,
        &[
            "protocol-server/src/addresses.rs",
            "protocol-server/src/config",
            "protocol-server/src/checksum",
            "protocol-server/src/demux",
            "protocol-server/src/dhcp",
            "protocol-server/src/fragments",
            "protocol-server/src/frame",
            "protocol-server/src/neighbours.rs",
            "protocol-server/src/link",
            "protocol-server/src/phy",
            "protocol-server/src/stack",
            "smoltcp/",
            "managed/",
            "heapless/",
            "byteorder/",
        ],
    ),
    (
        Category::Socket,
        &[
            "protocol-server/src/chaos",
            "protocol-server/src/guest",
            "protocol-server/src/lib.rs",
            "protocol-server/src/main.rs",
            "protocol-server/src/page",
            "protocol-server/src/server",
            "protocol-server/src/socket",
            "protocol-server/src/status.rs",
            "protocol-server/src/system.rs",
            "microkernel/src/socket",
            "microkernel/src/syscall/socket",
            "userlib/src/net/",
            "abi/src/socket.rs",
        ],
    ),
    (Category::Application, &["apps/", "pattern/", "x11/", "userlib/src/console.rs", "userlib/src/entry.rs"]),
    (
        Category::Other,
        &[
            "abi/src/",
            "userlib/src/",
            "microkernel/src/lib.rs",
            "microkernel/src/main.rs",
            "microkernel/src/arch/mod.rs",
            "microkernel/src/arch/x86_64/boot",
            "microkernel/src/arch/x86_64/global.rs",
            "microkernel/src/arch/x86_64/mod.rs",
            "microkernel/src/arch/x86_64/panic.rs",
            "microkernel/src/arch/x86_64/ports.rs",
            "microkernel/src/arch/x86_64/serial.rs",
            "microkernel/src/arch/x86_64/start.rs",
            "microkernel/src/boot.rs",
            "microkernel/src/cmdline.rs",
            "microkernel/src/elf.rs",
            "microkernel/src/heap",
            "microkernel/src/hold.rs",
            "microkernel/src/lifecycle.rs",
            "microkernel/src/module.rs",
            "microkernel/src/symbols.rs",
            "microkernel/src/syscall/console.rs",
            "microkernel/src/syscall/task.rs",
            "std/",
            "bit_field/",
            "bitflags/",
            "elf/",
            "linked_list_allocator/",
            "x86_64/",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The packages whose code runs in the guest.
    const GUEST: &[&str] = &[
        "abi",
        "apps",
        "mbuf",
        "memfuncs",
        "microkernel",
        "netdev-driver",
        "pattern",
        "protocol-server",
        "shmqueue",
        "userlib",
        "x11",
    ];

    fn sources(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap_or_default();
            if path.is_dir() {
                if name != "tests" {
                    sources(&path, found);
                }
            } else if path.extension().is_some_and(|ext| ext == "rs" || ext == "s") && name != "tests" {
                let relative = path.strip_prefix(crate::build::root()).unwrap();
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }

    #[test]
    fn every_source_of_the_guest_has_a_category() {
        let mut all = Vec::new();
        for package in GUEST {
            sources(&crate::build::root().join(package).join("src"), &mut all);
        }
        assert!(all.len() > 100, "{}", all.len());
        let without: Vec<_> = all.iter().filter(|path| Category::of(path).is_none()).collect();
        assert!(without.is_empty(), "give these a place in TABLE of {}: {without:?}", file!());
        let of_guest = |entry: &&str| GUEST.iter().any(|package| entry.starts_with(&format!("{package}/")));
        let entries = TABLE.iter().flat_map(|(_, entries)| entries.iter().copied()).filter(of_guest);
        let stale: Vec<_> = entries.filter(|e| !all.iter().any(|path| path.starts_with(e))).collect();
        assert!(stale.is_empty(), "no source is there: {stale:?}");
    }

    #[test]
    fn every_crate_that_the_guest_links_has_one() {
        let tree = crate::build::cargo()
            .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .args(["-p", "microkernel", "-p", "protocol-server", "-p", "apps"])
            .output()
            .unwrap();
        let tree = String::from_utf8(tree.stdout).unwrap();
        let crates: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(crates.contains(&"smoltcp"), "{crates:?}");
        // Macros, and crates that hold nothing but them or `cfg`.
        const NO_CODE: &[&str] =
            &["bitflags", "cfg-if", "rustversion", "const_fn", "stable_deref_trait", "hash32", "volatile"];
        for name in crates {
            let has_files = Category::of(&format!("{name}/src/lib.rs")).is_some();
            assert!(
                has_files || NO_CODE.contains(&name) || GUEST.contains(&name) || name.is_empty(),
                "{name}"
            );
        }
    }

    #[test]
    fn the_longest_entry_decides() {
        assert_eq!(Category::of("netdev-driver/src/e1000.rs"), Some(Category::Driver));
        assert_eq!(Category::of("netdev-driver/src/filter/run.rs"), Some(Category::Messages));
        assert_eq!(Category::of("shmqueue/src/copy.rs"), Some(Category::Copying));
        assert_eq!(Category::of("userlib/src/net/tcp.rs"), Some(Category::Socket));
        assert_eq!(Category::of("userlib/src/heap.rs"), Some(Category::Other));
        assert_eq!(Category::of("nowhere/src/lib.rs"), None);
    }

    #[test]
    fn names_are_read_back() {
        for category in Category::ALL {
            assert_eq!(Category::from_name(category.name()).unwrap(), category);
            assert_eq!(Category::ALL[category as usize], category);
        }
        assert!(Category::from_name("magic").is_err());
    }
}
