//! offload: switches the segmentation that devices and drivers do for TCP on or off, as `ethtool -K` would.
//!
//! "Off" means that what the stack makes are frames, and that what it gets are frames: no TSO, GSO, GRO or LRO. Checksums stay
//! where they are, since Oriel leaves them to the device as well. The features are found by name (ethtool's string set), so that
//! new kernels with new numbers do not matter.
#![expect(unsafe_code, reason = "an ioctl with a pointer in it")]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use crate::command::{During as _, Outcome};
use crate::counters::INTERFACE;

/// `linux/sockios.h`.
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// `linux/ethtool.h`.
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
const SET_OF_FEATURES: u32 = 4;
const NAME_BYTES: usize = 32;
const FEATURES_MAX: usize = 1024;

/// `offload on|off`.
///
/// # Errors
/// A wrong command line, what the kernel refuses, or a feature that does not go off.
pub fn main(words: &[String]) -> Outcome {
    let on = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["on"] => true,
        ["off"] => false,
        _ => return Err("on or off".into()),
    };
    let device = Device::open().during(INTERFACE)?;
    let names = device.feature_names().during("the features' names")?;
    let chosen: Vec<usize> = (0..names.len()).filter(|i| segments(&names[*i])).collect();
    // On is what the driver comes up with, so there's nothing to set.
    if !on {
        device.switch_off(&chosen, names.len()).during("ETHTOOL_SFEATURES")?;
    }
    let active = device.active(names.len()).during("ETHTOOL_GFEATURES")?;
    let left: Vec<&str> = chosen.iter().filter(|i| active[**i]).map(|i| names[*i].as_str()).collect();
    println!("offload: {}", if left.is_empty() { "none".into() } else { left.join(" ") });
    if on || left.is_empty() { Ok(()) } else { Err("not all of it goes off".into()) }
}

/// Whether a feature makes one packet of several, or several of one.
fn segments(name: &str) -> bool {
    name.contains("segmentation") || name.starts_with("rx-gro") || name == "rx-lro"
}

struct Device(UdpSocket);

impl Device {
    /// Any socket will do for the call.
    fn open() -> io::Result<Self> {
        UdpSocket::bind("0.0.0.0:0").map(Self)
    }

    fn ethtool(&self, block: &mut [u32]) -> io::Result<()> {
        // SAFETY: a zeroed ifreq is valid, the interface's name is shorter than its field. The kernel reads and writes the block
        // as far as its own header says; each caller below makes it that long.
        let done = unsafe {
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, byte) in request.ifr_name.iter_mut().zip(INTERFACE.bytes()) {
                *to = byte as libc::c_char;
            }
            request.ifr_ifru.ifru_data = block.as_mut_ptr().cast();
            libc::ioctl(self.0.as_raw_fd(), SIOCETHTOOL as _, &raw mut request)
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn feature_names(&self) -> io::Result<Vec<String>> {
        // Command, reserved, a mask of 64 bits, and one number for the one bit in it.
        let mut info = [GSSET_INFO, 0, 1 << SET_OF_FEATURES, 0, 0];
        self.ethtool(&mut info)?;
        let count = info[4] as usize;
        if count == 0 || count > FEATURES_MAX {
            return Err(io::Error::other(format!("{count} features")));
        }
        // Command, set, count, then the names of 32 bytes each.
        let mut strings = vec![0; 3 + count * NAME_BYTES / 4];
        strings[..3].copy_from_slice(&[GSTRINGS, SET_OF_FEATURES, count as u32]);
        self.ethtool(&mut strings)?;
        let bytes: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let name =
            |name: &[u8]| String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or(&[])).into();
        Ok(bytes.chunks(NAME_BYTES).map(name).collect())
    }

    fn switch_off(&self, chosen: &[usize], count: usize) -> io::Result<()> {
        // Command, number of blocks, then pairs of (which bits are meant, what they shall be).
        let blocks = count.div_ceil(32);
        let mut set = vec![0; 2 + blocks * 2];
        set[..2].copy_from_slice(&[SFEATURES, blocks as u32]);
        for i in chosen {
            set[2 + i / 32 * 2] |= 1 << (i % 32);
        }
        // Bits that can't be changed are no error here; what is left on is looked at afterwards.
        self.ethtool(&mut set)
    }

    fn active(&self, count: usize) -> io::Result<Vec<bool>> {
        // Command, number of blocks, then (available, requested, active, never changed).
        let blocks = count.div_ceil(32);
        let mut get = vec![0; 2 + blocks * 4];
        get[..2].copy_from_slice(&[GFEATURES, blocks as u32]);
        self.ethtool(&mut get)?;
        Ok((0..count).map(|i| get[2 + i / 32 * 4 + 2] & 1 << (i % 32) != 0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_that_cut_and_join() {
        for name in ["tx-tcp-segmentation", "tx-generic-segmentation", "rx-gro", "rx-gro-hw", "rx-lro"] {
            assert!(segments(name), "{name}");
        }
        for name in ["tx-checksum-ip-generic", "rx-checksum", "tx-scatter-gather", "rx-vlan-hw-parse"] {
            assert!(!segments(name), "{name}");
        }
    }
}
