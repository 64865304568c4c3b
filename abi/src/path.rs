//! The ways from an application to the network, by the names that they have on the kernel's command line (`path=`).
//!
//! Reynolds and Heller compare the first two with an integrated kernel, and win back half of the difference between them.

/// A way to the network. Driver, stack, sockets and applications are the same on each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Path {
    /// A protocol server that shares a window of memory with the driver in the kernel, and rings with applications.
    #[default]
    Window,
    /// A protocol server that gets frames as messages from a packet filter, and is asked by messages.
    Ipc,
    /// The stack in the kernel, called by system calls.
    Monolithic,
}

impl Path {
    /// All of them.
    pub const ALL: [Path; 3] = [Path::Monolithic, Path::Ipc, Path::Window];

    /// The option of the kernel's command line.
    pub const OPTION: &str = "path";

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Path::Window => "window",
            Path::Ipc => "ipc",
            Path::Monolithic => "monolithic",
        }
    }

    /// The path of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|path| path.name() == name)
    }
}
