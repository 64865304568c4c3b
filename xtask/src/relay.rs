//! An impaired link: a relay between QEMU and the tap that loses, repeats, reorders and corrupts frames.
//!
//! `tc netem` does the same on the way into the guest where the host's kernel has it ([`netem`]); many don't. The relay needs
//! nothing of the kernel, works in both directions, and takes its decisions from a seed, so that a failure can be repeated.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::{Context as _, Result};
use crate::machine::Backend;
use crate::network::{self, TAP};
use crate::{setup, sys};

/// How often each accident happens, in frames of ten thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Impairment {
    /// Lost.
    pub loss: u32,
    /// Delivered twice.
    pub duplicate: u32,
    /// Delivered after the next one.
    pub reorder: u32,
    /// One bit flipped somewhere behind the Ethernet header.
    pub corrupt: u32,
}

/// A seeded generator (xorshift64*, Vigna 2016): the same seed, the same accidents.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From any seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        (((self.next() >> 32) * u64::from(n)) >> 32) as u32
    }

    fn happens(&mut self, of_ten_thousand: u32) -> bool {
        self.below(10_000) < of_ten_thousand
    }
}

/// One direction: frames in, the frames to deliver out.
struct Accidents {
    impairment: Impairment,
    random: Random,
    held: Option<Vec<u8>>,
    /// How many there were.
    happened: u64,
}

const ETHERNET_HEADER: usize = 14;

impl Accidents {
    fn new(impairment: Impairment, seed: u64) -> Self {
        Self { impairment, random: Random::new(seed), held: None, happened: 0 }
    }

    fn apply(&mut self, frame: &[u8], mut deliver: impl FnMut(&[u8])) {
        let Impairment { loss, duplicate, reorder, corrupt } = self.impairment;
        if self.random.happens(loss) {
            self.happened += 1;
            return;
        }
        let mut frame = frame.to_vec();
        if self.random.happens(corrupt) && frame.len() > ETHERNET_HEADER {
            self.happened += 1;
            let at = ETHERNET_HEADER + self.random.below((frame.len() - ETHERNET_HEADER) as u32) as usize;
            frame[at] ^= 1 << self.random.below(8);
        }
        let twice = self.random.happens(duplicate);
        if self.held.is_none() && self.random.happens(reorder) {
            self.happened += 1;
            self.held = Some(frame);
            return;
        }
        deliver(&frame);
        if twice {
            self.happened += 1;
            deliver(&frame);
        }
        self.flush(deliver);
    }

    /// Delivers the frame that waits for its successor.
    fn flush(&mut self, mut deliver: impl FnMut(&[u8])) {
        if let Some(held) = self.held.take() {
            deliver(&held);
        }
    }
}

/// A relay that runs until it's dropped.
pub struct Relay {
    qemu: PathBuf,
    own: PathBuf,
    stop: Arc<AtomicBool>,
    happened: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Takes the tap over. The sockets live in `folder`.
    pub fn start(folder: &Path, impairment: Impairment, seed: u64) -> Result<Self> {
        let tap = sys::open_tap(TAP).context("the relay can't open the tap")?;
        Self::between(tap, folder, impairment, seed)
    }

    fn between(tap: File, folder: &Path, impairment: Impairment, seed: u64) -> Result<Self> {
        let (qemu, own) = (folder.join("frames-qemu"), folder.join("frames-relay"));
        for path in [&qemu, &own] {
            std::fs::remove_file(path).ok();
        }
        let socket = UnixDatagram::bind(&own).context("the relay's socket")?;
        socket.set_write_timeout(Some(Duration::from_millis(200))).context("the relay's socket")?;
        let (stop, happened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let inward = {
            let (stop, happened, qemu) = (Arc::clone(&stop), Arc::clone(&happened), qemu.clone());
            let (tap, socket) = (tap.try_clone().context("tap")?, socket.try_clone().context("socket")?);
            move || {
                let deliver = |frame: &[u8]| drop(socket.send_to(frame, &qemu));
                relay(
                    &tap,
                    |buffer| (&tap).read(buffer),
                    deliver,
                    Accidents::new(impairment, seed),
                    &stop,
                    &happened,
                );
            }
        };
        let outward = {
            let (stop, happened) = (Arc::clone(&stop), Arc::clone(&happened));
            move || {
                let deliver = |frame: &[u8]| drop((&tap).write(frame));
                let accidents = Accidents::new(impairment, !seed);
                relay(&socket, |buffer| socket.recv(buffer), deliver, accidents, &stop, &happened);
            }
        };
        let threads = vec![thread::spawn(inward), thread::spawn(outward)];
        Ok(Self { qemu, own, stop, happened, threads })
    }

    /// What QEMU's network device attaches to.
    pub fn backend(&self) -> Backend {
        Backend::Relay(self.qemu.clone(), self.own.clone())
    }

    /// How many accidents there were, so that a test on a link that is too good fails.
    pub fn happened(&self) -> u64 {
        self.happened.load(Ordering::Relaxed)
    }
}

fn relay(
    source: &impl std::os::fd::AsFd,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    mut deliver: impl FnMut(&[u8]),
    mut accidents: Accidents,
    stop: &AtomicBool,
    happened: &AtomicU64,
) {
    let mut buffer = vec![0; 70_000];
    // Relaxed: the flag and the count carry no other data.
    while !stop.load(Ordering::Relaxed) {
        match sys::readable(source, Duration::from_millis(20)) {
            Ok(true) => match read(&mut buffer) {
                Ok(n) => accidents.apply(&buffer[..n], &mut deliver),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            },
            // Nothing follows: what was held back goes now.
            Ok(false) => accidents.flush(&mut deliver),
            Err(_) => return,
        }
        happened.fetch_add(std::mem::take(&mut accidents.happened), Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// Tries to impair the way into the guest by the host's kernel. An error says that it can't.
pub fn netem(impairment: Impairment) -> Result<()> {
    let percent = |of_ten_thousand: u32| format!("{}%", f64::from(of_ten_thousand) / 100.0);
    let Impairment { loss, duplicate, reorder, corrupt } = impairment;
    let mut tc = setup::command(setup::TC);
    tc.args(["qdisc", "replace", "dev", TAP, "root", "netem"]);
    tc.args(["delay", "2ms", "loss", &percent(loss), "duplicate", &percent(duplicate)]);
    tc.args(["corrupt", &percent(corrupt), "reorder", &percent(10_000 - reorder)]);
    network::run(&mut tc, "tc")
}

/// Takes the impairment off again.
pub fn remove_netem() -> Result<()> {
    network::run(setup::command(setup::TC).args(["qdisc", "del", "dev", TAP, "root"]), "tc")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliver_all(impairment: Impairment, seed: u64) -> (Vec<Vec<u8>>, u64) {
        let mut accidents = Accidents::new(impairment, seed);
        let mut out = Vec::new();
        for n in 0..10_000u32 {
            let frame = [&[0; 60][..], &n.to_be_bytes()].concat();
            accidents.apply(&frame, |frame| out.push(frame.to_vec()));
        }
        accidents.flush(|frame| out.push(frame.to_vec()));
        (out, accidents.happened)
    }

    #[test]
    fn no_impairment_no_change() {
        let (out, happened) = deliver_all(Impairment::default(), 1);
        assert_eq!((out.len(), happened), (10_000, 0));
        assert!(out.iter().zip(0u32..).all(|(frame, n)| frame[60..] == n.to_be_bytes()));
    }

    #[test]
    fn each_accident_happens_about_as_often_as_asked() {
        let near = |n: usize, want: usize| n.abs_diff(want) < 60;
        let (out, _) = deliver_all(Impairment { loss: 200, ..Default::default() }, 2);
        assert!(near(10_000 - out.len(), 200), "{}", out.len());
        let (out, _) = deliver_all(Impairment { duplicate: 200, ..Default::default() }, 3);
        assert!(near(out.len() - 10_000, 200), "{}", out.len());
        let (out, _) = deliver_all(Impairment { corrupt: 200, ..Default::default() }, 4);
        let wrong = out
            .iter()
            .zip(0u32..)
            .filter(|(frame, n)| frame[..60].iter().any(|byte| *byte != 0) || frame[60..] != n.to_be_bytes());
        assert!(near(wrong.count(), 200));
        assert!(out.iter().all(|frame| frame[..ETHERNET_HEADER].iter().all(|byte| *byte == 0)));
        let (out, happened) = deliver_all(Impairment { reorder: 200, ..Default::default() }, 5);
        assert!(near(happened as usize, 200) && out.len() == 10_000);
        let back = out.windows(2).filter(|pair| pair[0][60..] > pair[1][60..]).count();
        assert!(near(back, 200), "{back}");
    }

    #[test]
    fn a_seed_repeats_itself() {
        let all = Impairment { loss: 100, duplicate: 100, reorder: 100, corrupt: 100 };
        assert_eq!(deliver_all(all, 7), deliver_all(all, 7));
        assert_ne!(deliver_all(all, 7).0, deliver_all(all, 8).0);
    }
}
