//! Captures for tcpreplay: what the link has carried to the guest so far, as it was, and with damage from a seed.
//!
//! The format is libpcap's classic one (draft-ietf-opsawg-pcap), little-endian, as QEMU's `filter-dump` writes it.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{Field, tail};
use crate::error::{Context as _, Result, failed};
use crate::network::TAP;
use crate::relay::Random;
use crate::setup;

/// The captures' seed.
const SEED: u64 = 1991;
/// Frames of a capture, at least.
const FRAMES_MIN: usize = 300;
/// Frames of a capture, at most: the last ones.
const FRAMES_MAX: usize = 4000;
const STATION: [u8; 6] = [0x52, 0x54, 0x00, 0x6f, 0x72, 0x69];
/// Magic number for times in microseconds, version 2.4, no time zone, lengths, Ethernet.
const HEADER: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];

/// Replays what was captured, then twice what was damaged.
pub fn replay(field: &Field) -> Result<String> {
    // The transfer beside it sees to it that there is something.
    let deadline = Instant::now() + Duration::from_secs(20);
    let frames = loop {
        let file = std::fs::read(&field.capture).context(field.capture.display())?;
        let mut frames: Vec<_> = frames(&file).into_iter().filter_map(to_guest).collect();
        if frames.len() >= FRAMES_MIN {
            let from = frames.len().saturating_sub(if field.short { FRAMES_MAX / 4 } else { FRAMES_MAX });
            break frames.split_off(from);
        }
        if Instant::now() > deadline {
            return failed(format!("only {} frames were captured on their way to the guest", frames.len()));
        }
        thread::sleep(Duration::from_millis(100));
    };
    let mut random = Random::new(SEED);
    let damaged = [(); 2].map(|()| damage(&frames, &mut random));
    let mut sent = 0;
    for (number, frames) in [&frames, &damaged[0], &damaged[1]].into_iter().enumerate() {
        sent += play(field, &field.folder.join(format!("replay-{number}.pcap")), frames)?;
    }
    Ok(format!("{sent} frames, two thirds of them damaged with seed {SEED}"))
}

/// A frame on its way to the guest. Before those of a virtio device QEMU writes the header that they have on their way to it (5.1.6).
fn to_guest(mut frame: Vec<u8>) -> Option<Vec<u8>> {
    const HEADER_BYTES: usize = 12;
    if !frame.starts_with(&STATION) {
        frame.drain(..HEADER_BYTES.min(frame.len()));
    }
    (frame.starts_with(&STATION) && frame.len() >= 14).then_some(frame)
}

fn play(field: &Field, file: &Path, frames: &[Vec<u8>]) -> Result<u64> {
    std::fs::write(file, written(frames)).context(file.display())?;
    let arguments = ["-i", TAP, "--pps=5000", &file.display().to_string()].map(String::from);
    let ran = field.run(setup::TCPREPLAY, &arguments, 60)?;
    // "Successful packets:        3998"
    let line = ran.said.lines().find_map(|line| line.trim().strip_prefix("Successful packets:"));
    match (ran.status, line.and_then(|count| count.trim().parse::<u64>().ok())) {
        (Some(0), Some(count)) if count >= frames.len() as u64 / 2 => Ok(count),
        (status, _) => failed(format!("tcpreplay ended with {status:?}: {}", tail(&ran.said))),
    }
}

/// Frames with bytes that are others, too few of them or too many, twice, or behind the next one; the address of the guest stays.
fn damage(frames: &[Vec<u8>], random: &mut Random) -> Vec<Vec<u8>> {
    let mut damaged: Vec<Vec<u8>> = Vec::with_capacity(frames.len());
    for frame in frames {
        let mut frame = frame.clone();
        for _ in 0..random.below(5) {
            let at = STATION.len() + random.below((frame.len() - STATION.len()) as u32) as usize;
            // Most of what is looked at is in the headers.
            let at =
                if random.below(2) == 0 { at } else { at.min(STATION.len() + random.below(60) as usize) };
            frame[at] = random.next() as u8;
        }
        match random.below(8) {
            0 => frame.truncate(14 + random.below(frame.len() as u32 - 13) as usize),
            1 => frame.resize((frame.len() + random.below(200) as usize).min(1514), 0x5a),
            2 => damaged.push(frame.clone()),
            _ => {}
        }
        let last = damaged.len();
        damaged.insert(last - usize::from(last != 0 && random.below(8) == 0), frame);
    }
    damaged
}

/// The frames of a capture; one that is still being written ends in the middle of a frame.
fn frames(file: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let (mut at, mut frames) = (4 * HEADER.len(), Vec::new());
    while let Some(length) = word(at + 8)
        && let Some(frame) = file.get(at + 16..at + 16 + length as usize)
    {
        // Shorter than an Ethernet header is nothing to be sent.
        if frame.len() >= 14 {
            frames.push(frame.to_vec());
        }
        at += 16 + length as usize;
    }
    frames
}

/// A capture of these frames, a millisecond apart.
fn written(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file: Vec<u8> = HEADER.into_iter().flat_map(u32::to_le_bytes).collect();
    for (number, frame) in frames.iter().enumerate() {
        let (number, length) = (number as u32, frame.len() as u32);
        let head = [number / 1000, number % 1000 * 1000, length, length];
        file.extend(head.into_iter().flat_map(u32::to_le_bytes));
        file.extend(frame);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_read_as_they_are_written_and_damage_repeats() {
        let whole: Vec<Vec<u8>> =
            (0..500u32).map(|n| [&STATION[..], &[n as u8; 60][..54 - n as usize % 40]].concat()).collect();
        let file = written(&whole);
        assert_eq!(frames(&file), whole);
        assert_eq!(frames(&file[..file.len() - 1]), whole[..499]);
        let with_header = [&[0; 12], &whole[3][..]].concat();
        assert_eq!(to_guest(with_header).as_ref(), Some(&whole[3]));
        assert_eq!((to_guest(whole[3].clone()).as_ref(), to_guest(vec![0; 60])), (Some(&whole[3]), None));
        let once = damage(&whole, &mut Random::new(SEED));
        assert_eq!(once, damage(&whole, &mut Random::new(SEED)));
        assert!(once.len() > whole.len());
        assert!(once.iter().all(|frame| frame.starts_with(&STATION) && (14..=1514).contains(&frame.len())));
        assert!(once.iter().filter(|frame| !whole.contains(frame)).count() > 200);
    }
}
