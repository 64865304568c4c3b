//! System calls: the `syscall` instruction with the number in `rax` and up to six arguments in
//! `rdi rsi rdx r10 r8 r9`; the status comes back in `rax` (0, or an [`crate::Error`]) and the value in `rdx`.
//!
//! All registers that the System V ABI calls caller-saved, the SSE registers among them, are lost. Pointers are to the
//! caller's own memory; the kernel copies in and out once and never looks at the caller's copy again. Times are in
//! nanoseconds; [`FOREVER`] as a limit means none, 0 means do not block.

use crate::codes::codes;

/// A time limit that never passes.
pub const FOREVER: u64 = u64::MAX;

codes! {
    /// The system calls. Arguments are listed in register order, then `->` the value.
    pub enum Syscall {
        /// `(buffer, length)`: writes to the console, at most [`CONSOLE_WRITE_MAX`] bytes.
        ConsoleWrite = 0,
        /// `(buffer, length, limit) -> bytes`: reads what was typed, at most 256 bytes at once, blocking until there
        /// is at least one. Who asked first is served first.
        ConsoleRead = 1,
        /// `(code)`: ends the machine in good order; the code is [`crate::exit::OFF`]. For tasks that hold a right to the host port,
        /// under whatever name, only. The machine also ends with its first task.
        PowerOff = 2,

        /// `(name, name length, arguments, arguments length, priority, bootstrap port name) -> task port name`: makes a task from the program
        /// `name` of the boot module. The new task holds a send right to the caller's `bootstrap` as [`crate::port::BOOTSTRAP`]:
        /// the name may denote a send or a receive right, or be 0 for none.
        TaskSpawn = 8,
        /// `(task)`: ends a task, with all that it holds. The caller's own with [`crate::port::TASK_SELF`].
        TaskTerminate = 9,
        /// `(status)`: ends the calling task with a status below [`crate::thread::STATUS_KILLED`].
        TaskExit = 10,
        /// `(index, &mut thread::TaskInfo)`: describes the task in a slot of the kernel's table; [`crate::Error::NotFound`] for an empty
        /// one, [`crate::Error::BadArgument`] past the last.
        TaskInfo = 11,

        /// `(entry, stack top, argument, priority) -> thread port name`: starts a thread in the calling task.
        ThreadCreate = 16,
        /// `()`: ends the calling thread; the last one ends the task.
        ThreadExit = 17,
        /// `(limit) -> thread::WAKE_* bits`: blocks the calling thread until it is resumed. Takes the whole count of resumes,
        /// so that one which came first is not lost and many do not pile up (Reynolds and Heller, "Queues").
        ThreadSuspend = 18,
        /// `(thread)`: resumes a thread; counted if it is not suspended. Never blocks, never preempts the caller.
        ThreadResume = 19,
        /// `()`: lets another thread of the same priority run.
        ThreadYield = 20,
        /// `(thread, priority)`: for threads of the caller's own task, and no higher than it was given by who made it
        /// ([`crate::Error::Denied`]). The same goes for [`Syscall::ThreadCreate`] and [`Syscall::TaskSpawn`].
        ThreadSetPriority = 21,

        /// `() -> name`: a new port; the caller holds its receive right and can make send rights.
        PortAllocate = 32,
        /// `() -> name`: a new, empty port set.
        PortSetAllocate = 33,
        /// `(port, set or 0)`: moves a receive right into a set, or out of any.
        PortMoveMember = 34,
        /// `(name)`: gives a right up, one of those that the name counts; a port dies with its receive right, a device is closed
        /// with its owner's last right to it. [`crate::port::TASK_SELF`] and [`crate::port::THREAD_SELF`] stay.
        PortDeallocate = 35,
        /// `(name, notify port)`: asks for one [`crate::message::NOTIFY_DEAD_NAME`] message when what `name`, a
        /// send or send-once right, denotes dies. The notify port is named by a receive or send right. Giving the name up takes it back.
        /// For what is dead already the message comes at once.
        PortNotifyDead = 36,
        /// `(port or set, thread)`: from now on a message that is queued there also resumes the thread, with
        /// [`crate::thread::WAKE_MESSAGE`]; 0 as the thread undoes it.
        PortBindThread = 37,
        /// `(name) -> name of a send right`: makes a send right from a receive right. All send rights of a task to one
        /// port have one name, which counts them; a receive right has a name of its own.
        PortMakeSend = 38,

        /// `(&message, limit)`: sends a [`crate::message::Message`]. A port queues 16; a full one makes the sender wait, or with a limit of 0
        /// is [`crate::Error::QueueFull`]. What is sent with a send-once right is queued always. The message is read again when a wait ends.
        MessageSend = 40,
        /// `(port or set, &mut message, limit)`: receives one. If the names
        /// for its rights find no place, it stays queued.
        MessageReceive = 41,
        /// `(&message, port or set, &mut message, limit) -> 0, or the error of the receive`: sends one and receives another in one trap, as
        /// Mach's `mach_msg` does: a request and its reply, or a reply and the next request. The status is that of the send, which does not
        /// wait for room ([`crate::Error::QueueFull`]); if it is not 0 nothing was sent, and nothing received. The value is that of the
        /// receive, which the limit is for: 0 or an [`crate::Error`]. The two messages may be the same memory.
        MessageCall = 42,

        /// `(length, prot) -> address`: maps zeroed memory of its own. Executable memory comes from programs alone: asking for it here or in
        /// [`Syscall::VmMap`] is [`crate::Error::Denied`].
        VmAllocate = 48,
        /// `(address, length)`: unmaps whole pages, all of which must be mapped.
        VmDeallocate = 49,
        /// `(length) -> name`: a memory object of zeroed, wired pages that tasks can share.
        MemoryObjectCreate = 50,
        /// `(memory object, offset, length, prot) -> address`: maps a part of a memory object, at an address of the kernel's choice.
        VmMap = 51,
        /// `(memory object name) -> name`: a right to the same object that maps for reading only.
        MemoryObjectReadOnly = 52,

        /// `(name, name length) -> device port name`: opens a device (`net0`), for this task alone;
        /// [`crate::Error::Exists`] while another has it, or still maps the window of the time before. On the path by window there may be
        /// memory for several windows (`servers=` on the kernel's command line): then so many tasks have the device open, each with a window
        /// of its own.
        /// On the path by message a few tasks can have it at once ([`crate::Error::NoResources`] for one more). The place of a task that has
        /// ended is kept for ten seconds for another task of the same creator.
        DeviceOpen = 64,
        /// `(device) -> memory object name`: the device's window, to be mapped with [`Syscall::VmMap`] at offset 0, whole.
        DeviceMap = 65,
        /// `(device)`: the OUT queue has work and the device was idle: one trap starts the whole burst.
        DeviceStart = 66,
        /// `(device, &mut device::NetInfo)`.
        DeviceInfo = 67,
        /// `(device, thread)`: the thread that the device's events resume: on the path by message, that there is room again in the transmit
        /// ring after a [`crate::Error::QueueFull`].
        DeviceBindThread = 68,
        /// `(device, &mut device::Audit)`: the kernel's ledger, summed, for the accounting of every mbuf and cluster.
        DeviceAudit = 69,
        /// `(device, port, priority, program, words)`: from now on frames that match the packet filter `program`, so many 16-bit words
        /// ([`crate::filter`]), go to the port as [`crate::message::NET_FRAME`] messages. The port is named by its receive right. A port has
        /// one filter; 0 words take it away ([`crate::Error::NotFound`]: it had none). A program that is not valid is
        /// [`crate::Error::BadArgument`]. Who opened the device has a limited number of filters, and of frames that wait in their ports: what
        /// is more is dropped and counted. On the path by message only.
        DeviceSetFilter = 70,
        /// `(device, buffer, length, checksum)`: sends one frame, which the kernel copies before it returns. `checksum`: 0, or `start | offset << 16`,
        /// where the device is to fill in a checksum ([`crate::device::offload::TX_CHECKSUM`]). [`crate::Error::QueueFull`]: no room in the
        /// transmit ring. On the path by message only.
        DeviceWrite = 71,
        /// As [`Syscall::DeviceWrite`], but the frame lies at the start of a page of the caller's own memory, which is taken out of its address
        /// space and sent from where it is.
        DeviceWritePage = 72,
        /// `(device, family, high, low)`: from now on frames for an address go to this task's window, where several tasks have the device open. The
        /// address in numbers, the first byte highest: `family` 4, and IPv4's in the low 32 bits of `low`; 6, and IPv6's in both; 0: all
        /// that it has claimed is given up. [`crate::Error::Exists`]: another task has claimed it, or had when
        /// it ended, and it is kept as its place is ([`Syscall::DeviceOpen`]); [`crate::Error::NoResources`]: it has claimed
        /// 4 of the family; [`crate::Error::BadArgument`]: it is not the address of one station. On the path by window only.
        DeviceClaim = 73,

        /// `(buffer of u64, count) -> number written`: the kernel's counters, in the order of [`crate::counters::Counter`].
        CountersRead = 80,
        /// `() -> 64 bits`: entropy to seed a generator with; not for keys.
        Entropy = 81,
        /// `(&mut usage::Usage)`: how much of the kernel's tables and memory is in use, by all tasks together.
        UsageRead = 82,

        /// `(&mut message::Message)`: on the monolithic path, one of [`crate::socket::Request`] to the stack in the kernel. The message is
        /// what would be sent to the protocol server (its `destination` and `reply` are not looked at), and afterwards the reply.
        SocketRequest = 96,
        /// `(socket, buffer, length, &socket::Record or 0) -> bytes`: on the monolithic path, puts bytes into a stream, as many as there is room
        /// for, or with a record the one datagram. 0: no room now. A stream's write of nothing makes the stack look at the socket's page.
        SocketWrite = 97,
        /// `(socket, buffer, length, &mut socket::Record or 0) -> bytes`: on the monolithic path, takes bytes of a stream, or with a record the
        /// next datagram, of which what does not fit is lost. 0: nothing there now, or an empty datagram, where the record has a peer.
        SocketRead = 98,
    }
}

/// The longest console write of one call, in bytes.
pub const CONSOLE_WRITE_MAX: usize = 4096;
/// The longest argument string of a task, in bytes.
pub const ARGUMENTS_MAX: usize = 512;
/// The longest name of a program, device or service, in bytes.
pub const NAME_MAX: usize = 32;
