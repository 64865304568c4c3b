//! The kernel's counters: what each packet cost, and where frames went.
//!
//! They only grow. The balance that must hold when nothing moves: `frames_in` is the sum of [`Counter::SETTLED`].

macro_rules! counters {
    ($($(#[$meta:meta])* $variant:ident $name:literal,)+) => {
        /// A counter of the kernel; its number is its place in the answer to [`crate::syscall::Syscall::CountersRead`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter { $($(#[$meta])* $variant,)+ }

        /// The counters' names, as programs print them.
        pub const NAMES: &[&str] = &[$($name,)+];

        impl Counter {
            /// All of them, in order.
            pub const ALL: &[Counter] = &[$(Counter::$variant,)+];
        }
    };
}

counters! {
    /// System calls.
    Syscalls "syscalls",
    /// Changes of the address space.
    Switches "switches",
    /// Changes of the running thread.
    ThreadSwitches "thread_switches",
    /// Interrupts of all kinds.
    Interrupts "interrupts",
    /// Interrupts of the network device.
    NetInterrupts "net_interrupts",
    /// Messages sent.
    Messages "messages",
    /// Copies of data by the kernel: into messages and out of them, frames to the device and from it.
    Copies "copies",
    /// Bytes of them.
    CopiedBytes "copied_bytes",
    /// Pages that left an address space with a message.
    PagesMoved "pages_moved",
    /// `thread_resume` by a task that woke somebody.
    ResumesByTask "task_resumes",
    /// Frames that the device took off the wire.
    FramesIn "frames_in",
    /// Bytes of them.
    BytesIn "bytes_in",
    /// Frames put on the ARP queue, or without a window, ARP frames handed on.
    DeliveredArp "delivered_arp",
    /// Frames put on the IPv4 queue, or without a window, IPv4 frames handed on.
    DeliveredIpv4 "delivered_ipv4",
    /// Frames put on the IPv6 queue, or without a window, IPv6 frames handed on.
    DeliveredIpv6 "delivered_ipv6",
    /// Frames put on the queue for the rest, or without a window, such frames handed on.
    DeliveredOther "delivered_other",
    /// Dropped: shorter than an Ethernet header, or than 60 bytes where the device says so.
    DropRunt "drop_runt",
    /// Dropped: longer than [`crate::device::NetInfo::frame_bytes_max`], or spread over more than one buffer.
    DropOversized "drop_oversized",
    /// Dropped: the device reported an error of the frame.
    DropDeviceError "drop_device_error",
    /// Dropped: an ARP, IPv4 or IPv6 header that contradicts itself or the frame.
    DropBadHeader "drop_bad_header",
    /// Dropped: a wrong IPv4 header checksum.
    DropBadChecksum "drop_bad_checksum",
    /// Dropped: no buffer to put in its place in the receive ring.
    DropNoBuffer "drop_no_buffer",
    /// Dropped: no window is open.
    DropNoWindow "drop_no_window",
    /// Dropped: both sub-queues were locked; the algorithm says that this cannot be.
    DropQueueLocked "drop_queue_locked",
    /// Dropped: the ring of an IN queue was full, which has room for every mbuf: only a server that lies makes it so.
    DropQueueFull "drop_queue_full",
    /// Dropped: several windows are open, and it is for an address that none of their servers has claimed.
    DropUnclaimed "drop_unclaimed",
    /// Copies of frames for all (broadcast, multicast) beyond the first: each open window gets one.
    DeliveredAgain "delivered_again",
    /// Copies of frames for all that a window missed for want of a buffer, while another got one.
    MissedCopies "missed_copies",
    /// Copies of received frames into windows: while several are open, the receive ring has the kernel's own buffers.
    WindowCopies "window_copies",
    /// Bytes of them.
    WindowCopiedBytes "window_copied_bytes",
    /// Dropped: no packet filter wanted it.
    DropNoFilter "drop_no_filter",
    /// Dropped: there was no room at the port of any packet filter that wanted it.
    DropPortFull "drop_port_full",
    /// Messages with frames for ports that have packet filters.
    NetMessages "net_messages",
    /// Such messages that found no room. The frame may have come to other ports.
    NetMessagesShed "net_messages_shed",
    /// Frames handed to the device.
    FramesOut "frames_out",
    /// Bytes of them.
    BytesOut "bytes_out",
    /// Frames of the OUT queue that were refused: empty, too long, too many segments.
    DropOutBad "drop_out_bad",
    /// Traps to start an idle device.
    DeviceStarts "device_starts",
    /// Times that the OUT queue was looked at on an interrupt and held something.
    OutOnInterrupt "out_on_interrupt",
    /// Device events sent to the server: it was idle.
    ResumesSent "resumes_sent",
    /// Device events spared: it was awake.
    ResumesSpared "resumes_spared",
    /// Tries of a mutex by the interrupt side that failed.
    LockFailures "lock_failures",
    /// Changes of the sub-queue by the interrupt side.
    SubqueueSwitches "subqueue_switches",
    /// Buffers that went to the deferred-free queue.
    DeferredFrees "deferred_frees",
    /// Times that every pool was locked or empty when the driver wanted a buffer.
    PoolsUnavailable "pools_unavailable",
    /// Completions by the device of what was never posted.
    BogusCompletions "bogus_completions",
    /// Resets of a device that had stopped.
    DeviceResets "device_resets",
    /// Windows closed because the server wrote what cannot be.
    WindowsClosed "windows_closed",
    /// Frames delivered before the device was opened the last time: to servers that have ended.
    DeliveredBefore "delivered_before",
}

impl Counter {
    /// Frames delivered, by their families, in the order of the IN queues ([`crate::window::Queue::IN`]).
    pub const DELIVERED: [Self; 4] =
        [Self::DeliveredArp, Self::DeliveredIpv4, Self::DeliveredIpv6, Self::DeliveredOther];

    /// What has become of the frames that came in: each is in one of these.
    pub const SETTLED: [Self; 16] = [
        Self::DeliveredArp,
        Self::DeliveredIpv4,
        Self::DeliveredIpv6,
        Self::DeliveredOther,
        Self::DropRunt,
        Self::DropOversized,
        Self::DropDeviceError,
        Self::DropBadHeader,
        Self::DropBadChecksum,
        Self::DropNoBuffer,
        Self::DropNoWindow,
        Self::DropQueueLocked,
        Self::DropQueueFull,
        Self::DropUnclaimed,
        Self::DropNoFilter,
        Self::DropPortFull,
    ];
}

/// How many there are.
pub const COUNT: usize = NAMES.len();
