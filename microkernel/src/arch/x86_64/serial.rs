//! The console: a 16550 UART (National Semiconductor PC16550D data sheet) on COM1.
//!
//! Output is polled, a FIFO full at a time: the status register says that all 16 places are free, not how
//! many are. Input comes by interrupt into a buffer.

use super::ports::{read8, write8};

const BASE: u16 = 0x3f8;
const DATA: u16 = BASE;
const INTERRUPT_ENABLE: u16 = BASE + 1;
const FIFO_CONTROL: u16 = BASE + 2;
const LINE_CONTROL: u16 = BASE + 3;
const MODEM_CONTROL: u16 = BASE + 4;
const LINE_STATUS: u16 = BASE + 5;

const DATA_READY: u8 = 1;
const TRANSMITTER_EMPTY: u8 = 0x20;
const ALL_SENT: u8 = 0x40;
const FIFO_BYTES: usize = 16;
/// Polls of a transmitter that does not become free before output is given up: a console that is not there must not
/// stop the system.
const POLLS_MAX: u32 = 10_000_000;
const INPUT_BYTES: usize = 256;

/// The interrupt request line of COM1.
pub const IRQ: u8 = 4;

/// The console's state.
pub struct Serial {
    input: [u8; INPUT_BYTES],
    /// Count of bytes that came, and that were taken: the indices, modulo the buffer.
    came: usize,
    taken: usize,
}

impl Serial {
    /// Nothing typed yet.
    pub const fn new() -> Self {
        Self { input: [0; INPUT_BYTES], came: 0, taken: 0 }
    }

    /// Takes what was typed into the buffer; what does not fit is lost. Says whether anything came.
    pub fn interrupt(&mut self) -> bool {
        let before = self.came;
        while read8(LINE_STATUS) & DATA_READY != 0 {
            let byte = read8(DATA);
            if self.came.wrapping_sub(self.taken) < INPUT_BYTES {
                self.input[self.came % INPUT_BYTES] = byte;
                self.came = self.came.wrapping_add(1);
            }
        }
        self.came != before
    }

    /// The next byte that was typed.
    pub fn read(&mut self) -> Option<u8> {
        if self.came == self.taken {
            return None;
        }
        let byte = self.input[self.taken % INPUT_BYTES];
        self.taken = self.taken.wrapping_add(1);
        Some(byte)
    }
}

/// Sets the UART up: 115200 baud, 8 data bits, no parity, FIFOs on, no interrupts yet.
pub fn init() {
    write8(INTERRUPT_ENABLE, 0);
    write8(LINE_CONTROL, 0x80);
    write8(DATA, 1);
    write8(INTERRUPT_ENABLE, 0);
    write8(LINE_CONTROL, 0x03);
    write8(FIFO_CONTROL, 0x07);
    // DTR, RTS, and OUT2, which lets the interrupt through to the PIC.
    write8(MODEM_CONTROL, 0x0b);
}

/// From now on, input interrupts.
pub fn enable_interrupt() {
    write8(INTERRUPT_ENABLE, 1);
}

/// Writes text; `\n` becomes CR LF.
pub fn write(bytes: &[u8]) {
    let mut room = 0;
    let mut put = |byte| {
        if room == 0 {
            let mut polls = 0;
            while read8(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {
                polls += 1;
                if polls == POLLS_MAX {
                    return;
                }
                core::hint::spin_loop();
            }
            room = FIFO_BYTES;
        }
        room -= 1;
        write8(DATA, byte);
    };
    for &byte in bytes {
        if byte == b'\n' {
            put(b'\r');
        }
        put(byte);
    }
}

/// Waits until all that was written has left the FIFO, before the machine ends.
pub fn drain() {
    let mut polls = 0;
    while read8(LINE_STATUS) & ALL_SENT == 0 && polls < POLLS_MAX {
        polls += 1;
        core::hint::spin_loop();
    }
}

/// Formatted text to the console, for what the kernel itself has to say.
pub struct Out;

impl core::fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}
