//! Registers (SDM 13.4) and bits of descriptors (SDM 3.2.3, 3.3.6, 3.3.7) of the 82540EM.

/// Device control.
pub const CTRL: u32 = 0x0000;
pub const CTRL_LRST: u32 = 1 << 3;
pub const CTRL_ASDE: u32 = 1 << 5;
pub const CTRL_SLU: u32 = 1 << 6;
pub const CTRL_ILOS: u32 = 1 << 7;
pub const CTRL_RST: u32 = 1 << 26;
pub const CTRL_PHY_RST: u32 = 1 << 31;
/// Device status.
pub const STATUS: u32 = 0x0008;
pub const STATUS_LU: u32 = 1 << 1;

/// Interrupt cause, throttling, cause set, mask set, mask clear.
pub const ICR: u32 = 0x00c0;
pub const ITR: u32 = 0x00c4;
pub const ICS: u32 = 0x00c8;
pub const IMS: u32 = 0x00d0;
pub const IMC: u32 = 0x00d8;
/// A descriptor was written back; the link changed; few receive descriptors are left; a frame was lost; a frame came.
pub const INT_TXDW: u32 = 1 << 0;
pub const INT_LSC: u32 = 1 << 2;
pub const INT_RXDMT0: u32 = 1 << 4;
pub const INT_RXO: u32 = 1 << 6;
pub const INT_RXT0: u32 = 1 << 7;
pub const INT_RX: u32 = INT_RXDMT0 | INT_RXO | INT_RXT0;

/// Receive control: on, all multicast, broadcast, strip the check sequence. Buffers of 2048 bytes are its 0.
pub const RCTL: u32 = 0x0100;
pub const RCTL_EN: u32 = 1 << 1;
pub const RCTL_MPE: u32 = 1 << 4;
pub const RCTL_BAM: u32 = 1 << 15;
pub const RCTL_SECRC: u32 = 1 << 26;
/// Transmit control: on, pad short frames, collision threshold 15 and distance 64.
pub const TCTL: u32 = 0x0400;
pub const TCTL_EN: u32 = 1 << 1;
pub const TCTL_PSP: u32 = 1 << 3;
pub const TCTL_COLLISION: u32 = 0x0f << 4 | 0x40 << 12;
/// Gaps between frames, with the values for copper (SDM 13.4.34).
pub const TIPG: u32 = 0x0410;
pub const TIPG_COPPER: u32 = 10 | 8 << 10 | 6 << 20;

/// The receive ring: base, bytes, head, tail, delay.
pub const RDBAL: u32 = 0x2800;
pub const RDBAH: u32 = 0x2804;
pub const RDLEN: u32 = 0x2808;
pub const RDH: u32 = 0x2810;
pub const RDT: u32 = 0x2818;
pub const RDTR: u32 = 0x2820;
/// The transmit ring: base, bytes, head, tail, delay.
pub const TDBAL: u32 = 0x3800;
pub const TDBAH: u32 = 0x3804;
pub const TDLEN: u32 = 0x3808;
pub const TDH: u32 = 0x3810;
pub const TDT: u32 = 0x3818;
pub const TIDV: u32 = 0x3820;

/// Multicast table; receive address 0.
pub const MTA: u32 = 0x5200;
pub const RAL0: u32 = 0x5400;
pub const RAH0: u32 = 0x5404;
pub const RAH_VALID: u32 = 1 << 31;
/// One past the last register that is used.
pub const END: u32 = 0x5408;

/// In the upper half of the second word of a receive descriptor: the status is at bit 0, the errors at 8. (The length is at bit 0 of the
/// lower half.)
pub const RXD_DONE: u32 = 1 << 0;
pub const RXD_EOP: u32 = 1 << 1;
/// CRC or alignment, symbol, sequence, carrier extension, data. Those of the checksums are not among them: they are the server's to judge.
pub const RXD_ERRORS: u32 = (1 | 1 << 1 | 1 << 2 | 1 << 4 | 1 << 7) << 8;

/// In the second word of a transmit descriptor: the length is at bit 0.
const TXD_DTYP_DATA: u64 = 1 << 20;
pub const TXD_EOP: u64 = 1 << 24;
const TXD_IFCS: u64 = 1 << 25;
pub const TXD_RS: u64 = 1 << 27;
pub const TXD_EXTENDED: u64 = 1 << 29;
pub const TXD_DONE: u64 = 1 << 32;
/// Insert the TCP or UDP checksum that the context describes.
pub const TXD_TXSM: u64 = 1 << 41;
/// A data descriptor; the check sequence is inserted.
pub const TXD_DATA: u64 = TXD_EXTENDED | TXD_DTYP_DATA | TXD_IFCS;
