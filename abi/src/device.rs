//! What the kernel says about a network device.

/// What a device can do for the stack, as bits of [`NetInfo::offload`].
pub mod offload {
    /// The device fills in the Internet checksum of what is sent, from `checksum start` to the frame's end; the field holds the
    /// sum of the pseudo-header before.
    pub const TX_CHECKSUM: u32 = 1;
    /// The device or the driver says of a received frame that its transport checksum is good.
    pub const RX_CHECKSUM: u32 = 2;
    /// The driver checks the IPv4 header checksum of what it delivers.
    pub const RX_IPV4_HEADER: u32 = 4;
}

/// The answer to [`crate::syscall::Syscall::DeviceInfo`].
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NetInfo {
    /// The station address (IEEE 802).
    pub mac: [u8; 6],
    /// Is the link up?
    pub link_up: u16,
    /// The longest frame without its check sequence, in bytes.
    pub frame_bytes_max: u32,
    /// Bits of [`offload`].
    pub offload: u32,
    /// Bytes of the window.
    pub window_bytes: u32,
    /// Bytes of `driver` in use.
    pub driver_length: u32,
    /// The driver's name.
    pub driver: [u8; 16],
}

/// The kernel's ledger in sums, for [`crate::syscall::Syscall::DeviceAudit`].
///
/// What the kernel does not hold is the server's: free in a pool, in an IN or deferred-free queue, on the OUT queue, or lent to its stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Audit {
    /// Mbufs in the receive ring.
    pub mbufs_posted: u32,
    /// Mbufs in the transmit ring, or waiting in the driver to be freed.
    pub mbufs_transmitting: u32,
    /// Clusters in the receive ring.
    pub clusters_posted: u32,
    /// Clusters in the transmit ring, or waiting in the driver to be freed.
    pub clusters_transmitting: u32,
}
