//! Capture files: the end to which the guest's `tcpdump -w` sends one, and what is in it (draft-ietf-opsawg-pcap).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::{Context as _, Result};
use crate::network::Link;
use crate::{sys, traffic};

/// Where the guest's capture is waited for.
pub const PORT: u16 = 5200;
/// How often a wait looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);

/// A listener that writes what comes to a file; a second capture takes the place of the first.
pub struct Capture {
    file: PathBuf,
    writer: Option<JoinHandle<Result<()>>>,
    /// Nobody waits for more. It says nothing but that, so that relaxed is enough.
    enough: Arc<AtomicBool>,
}

impl Capture {
    /// Listens at the host's end of the link.
    pub fn start(link: &Link, file: &Path) -> Result<Self> {
        Self::over(traffic::listen(link.listen_address(), PORT)?, file)
    }

    fn over(listener: TcpListener, file: &Path) -> Result<Self> {
        // At once, so that a folder that is not there is an error before anything else happens.
        File::create(file).context(file.display())?;
        let enough = Arc::new(AtomicBool::new(false));
        let (path, end) = (file.to_owned(), enough.clone());
        let writer = thread::spawn(move || write_all(&listener, &path, &end));
        Ok(Self { file: file.to_owned(), writer: Some(writer), enough })
    }

    /// Writes what has come to its end; the frames of the file.
    pub fn finish(mut self) -> Result<Vec<Packet>> {
        self.enough.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            traffic::join(writer)?;
        }
        let file = std::fs::read(&self.file).context(self.file.display())?;
        packets(&file).context(self.file.display())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

fn write_all(listener: &TcpListener, file: &Path, enough: &AtomicBool) -> Result<()> {
    let ends = || enough.load(Ordering::Relaxed) || sys::interrupted();
    while !ends() {
        if sys::readable(listener, POLL).context("accept")? {
            let (stream, _) = listener.accept().context("accept")?;
            write_one(stream, file, &ends).context(file.display())?;
        }
    }
    Ok(())
}

/// Until the other end has closed. One that has died without a word leaves a connection on which nothing comes.
fn write_one(mut stream: TcpStream, file: &Path, ends: &impl Fn() -> bool) -> io::Result<()> {
    let mut file = File::create(file)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        if !sys::readable(&stream, POLL)? {
            if ends() {
                return Ok(());
            }
            continue;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => file.write_all(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A captured frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Nanoseconds since the time from which the file counts.
    pub ns: u64,
    /// The frame, Ethernet header first.
    pub frame: Vec<u8>,
}

/// The frames of a capture file; of none if nothing was captured. Ours is little-endian, with times in nanoseconds, of Ethernet, and with whole
/// frames; a file that isn't is an error.
pub fn packets(file: &[u8]) -> Result<Vec<Packet>, &'static str> {
    const HEADER: [u32; 6] = [0xa1b2_3c4d, 0x0004_0002, 0, 0, 65_535, 1];
    if file.is_empty() {
        return Ok(Vec::new());
    }
    let mut rest = file;
    if words(&mut rest) != Some(HEADER) {
        return Err("no capture file of tcpdump's");
    }
    let mut packets: Vec<Packet> = Vec::new();
    while !rest.is_empty() {
        let Some([seconds, ns, length, whole]) = words(&mut rest) else {
            return Err("the capture ends within a record's header");
        };
        let Some((frame, behind)) = rest.split_at_checked(length as usize) else {
            return Err("the capture ends within a frame");
        };
        if whole != length || ns >= 1_000_000_000 {
            return Err("a record contradicts itself");
        }
        packets
            .push(Packet { ns: u64::from(seconds) * 1_000_000_000 + u64::from(ns), frame: frame.to_vec() });
        rest = behind;
    }
    Ok(packets)
}

fn words<const N: usize>(rest: &mut &[u8]) -> Option<[u32; N]> {
    let (front, behind) = rest.split_at_checked(4 * N)?;
    *rest = behind;
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(front.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn file(frames: &[&[u8]]) -> Vec<u8> {
        let mut file: Vec<u8> =
            [0xa1b2_3c4d, 0x0004_0002, 0, 0, 65_535, 1u32].into_iter().flat_map(u32::to_le_bytes).collect();
        for (n, frame) in frames.iter().enumerate() {
            let length = frame.len() as u32;
            file.extend([n as u32, 5, length, length].into_iter().flat_map(u32::to_le_bytes));
            file.extend(*frame);
        }
        file
    }

    #[test]
    fn files_are_read_to_their_end_or_refused() {
        let whole = file(&[&[1; 60], &[], &[2; 3]]);
        let read = packets(&whole).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read[2], Packet { ns: 2_000_000_005, frame: vec![2; 3] });
        assert!(packets(&[]).unwrap().is_empty());
        let ends = [24, 24 + 16 + 60, 24 + 16 + 60 + 16, whole.len()];
        for length in 1..=whole.len() {
            assert_eq!(packets(&whole[..length]).is_ok(), ends.contains(&length), "{length} bytes");
        }
        let mut other = whole;
        other[0] = 0xd4;
        assert!(packets(&other).is_err());
    }

    #[test]
    fn the_last_capture_is_in_the_file() {
        let folder = temp_dir::TempDir::new().unwrap();
        let path = folder.path().join("a.pcap");
        let listener = traffic::listen(std::net::Ipv4Addr::LOCALHOST, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let capture = Capture::over(listener, &path).unwrap();
        for content in [file(&[&[9; 2000]]), file(&[&[7; 60], &[8; 61]])] {
            let mut stream = traffic::connect(address).unwrap();
            stream.write_all(&content).unwrap();
            drop(stream);
            let start = Instant::now();
            while std::fs::read(&path).unwrap() != content {
                assert!(start.elapsed() < Duration::from_secs(10));
                thread::sleep(Duration::from_millis(5));
            }
        }
        let read = capture.finish().unwrap();
        assert_eq!(read.iter().map(|packet| packet.frame.len()).collect::<Vec<_>>(), [60, 61]);
    }
}
