//! Pictures of an X screen: read from X Window Dump files (`X11/XWDFile.h`), counted, and written as PNG (RFC 2083).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::{Context as _, Result};

/// A picture, by rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green, blue.
    pixels: Vec<[u8; 3]>,
}

/// The version of the format, in its second word.
const XWD_VERSION: usize = 7;
/// The format with whole pixels.
const Z_PIXMAP: usize = 2;
/// Bytes of an entry of the colour map.
const COLOUR_BYTES: usize = 12;

impl Image {
    /// Reads a dump of whole pixels of 32 bits, in any order of bytes.
    pub fn from_xwd(file: &[u8]) -> Result<Self, &'static str> {
        // The header is words in network byte order: its length first, the numbers of the picture behind.
        let word = |n: usize| {
            let bytes = file.get(4 * n..4 * n + 4).ok_or("the dump is cut short")?;
            Ok::<_, &'static str>(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
        };
        if word(1)? != XWD_VERSION || word(2)? != Z_PIXMAP || word(11)? != 32 {
            return Err("no dump of pixels of 32 bits");
        }
        let (width, height, line) = (word(4)?, word(5)?, word(12)?);
        let masks = [word(14)?, word(15)?, word(16)?].map(|mask| mask as u32);
        let start = word(0)? + word(19)? * COLOUR_BYTES;
        let big = word(7)? == 1;
        let mut pixels = Vec::new();
        for row in 0..height {
            let row = file.get(start + row * line..).and_then(|rest| rest.get(..width * 4));
            for pixel in row.ok_or("the dump is cut short")?.chunks_exact(4) {
                let bytes = [pixel[0], pixel[1], pixel[2], pixel[3]];
                let pixel = if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
                pixels.push(masks.map(|mask| part(pixel, mask)));
            }
        }
        Ok(Self { width, height, pixels })
    }

    /// How many pixels have this colour.
    pub fn count(&self, colour: [u8; 3]) -> usize {
        self.pixels.iter().filter(|pixel| **pixel == colour).count()
    }

    /// Writes it as a PNG file.
    pub fn write_png(&self, to: &Path) -> Result<()> {
        fs::write(to, self.png()).context(to.display())
    }

    /// With up to 16 colours a pixel takes four bits. Nothing is compressed: the file is for a person to look at.
    fn png(&self) -> Vec<u8> {
        let mut palette = BTreeMap::new();
        for pixel in &self.pixels {
            let next = palette.len();
            palette.entry(*pixel).or_insert(next);
            if palette.len() > 16 {
                break;
            }
        }
        let few = palette.len() <= 16;
        let mut rows = Vec::new();
        for row in self.pixels.chunks(self.width.max(1)) {
            rows.push(0); // no filter
            match few {
                true => rows.extend(row.chunks(2).map(|pair| {
                    pair.iter().fold(0, |byte, pixel| byte << 4 | palette[pixel] as u8)
                        << if pair.len() == 1 { 4 } else { 0 }
                })),
                false => rows.extend(row.iter().flatten()),
            }
        }
        let mut header = Vec::new();
        header.extend((self.width as u32).to_be_bytes());
        header.extend((self.height as u32).to_be_bytes());
        // Bits, kind of colour (3 by palette, 2 red, green, blue), and the only methods that there are.
        header.extend(if few { [4, 3, 0, 0, 0] } else { [8, 2, 0, 0, 0] });
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut png, b"IHDR", &header);
        if few {
            let mut by_number: Vec<_> = palette.iter().collect();
            by_number.sort_by_key(|(_, number)| **number);
            let colours: Vec<u8> = by_number.into_iter().flat_map(|(colour, _)| *colour).collect();
            chunk(&mut png, b"PLTE", &colours);
        }
        chunk(&mut png, b"IDAT", &stored(&rows));
        chunk(&mut png, b"IEND", &[]);
        png
    }
}

/// The bits of a pixel under a mask, as eight bits.
fn part(pixel: u32, mask: u32) -> u8 {
    let (value, most) =
        ((pixel & mask) >> mask.trailing_zeros().min(31), mask >> mask.trailing_zeros().min(31));
    if most == 0 { 0 } else { (u64::from(value) * 255 / u64::from(most)) as u8 }
}

fn chunk(png: &mut Vec<u8>, kind: &[u8; 4], content: &[u8]) {
    png.extend((content.len() as u32).to_be_bytes());
    let start = png.len();
    png.extend(kind);
    png.extend(content);
    let sum = crc32(&png[start..]);
    png.extend(sum.to_be_bytes());
}

/// A zlib stream (RFC 1950) of stored blocks (RFC 1951).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = bytes.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(blocks.peek().is_none().into());
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    out.extend(adler32(bytes).to_be_bytes());
    out
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b): (u32, u32), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0xedb8_8320))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(big: bool) -> Vec<u8> {
        let mut words = [0u32; 25];
        // 104 bytes of header and name, 3 by 2 pixels, a line of 16 bytes, one colour.
        (words[0], words[1], words[2], words[4], words[5]) = (104, 7, 2, 3, 2);
        (words[7], words[11], words[12]) = (u32::from(big), 32, 16);
        (words[14], words[15], words[16], words[19]) = (0xff_0000, 0xff00, 0xff, 1);
        let mut file: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
        file.extend(b"xw\0\0");
        file.extend([0; COLOUR_BYTES]);
        for pixel in [0xff_aa00, 0, 0, 0x99, 0, 0xff_aa00, 0x0102_0304, 0x99u32] {
            file.extend(if big { pixel.to_be_bytes() } else { pixel.to_le_bytes() });
        }
        file
    }

    #[test]
    fn dumps_are_read_in_both_orders() {
        for big in [false, true] {
            let image = Image::from_xwd(&dump(big)).unwrap();
            assert_eq!((image.width, image.height), (3, 2));
            assert_eq!(
                (image.count([0xff, 0xaa, 0]), image.count([0, 0, 0]), image.count([2, 3, 4])),
                (2, 3, 1)
            );
        }
        let whole = dump(false);
        for length in 0..whole.len() - 4 {
            assert!(Image::from_xwd(&whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn parts_of_a_pixel_fill_eight_bits() {
        assert_eq!([part(0x7c00, 0x7c00), part(0, 0x7c00), part(0xffff, 0)], [255, 0, 0]);
        assert_eq!(part(0xff00_0000, 0xff00_0000), 255);
    }

    #[test]
    fn check_values_of_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn a_png_has_its_parts() {
        let png = Image::from_xwd(&dump(false)).unwrap().png();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x03\0\0\0\x02\x04\x03"));
        // Two rows: the filter's byte, three pixels of four bits. Colours are numbered as they come.
        let rows = [0u8, 0x01, 0x10, 0, 0x10, 0x20];
        let at = png.windows(rows.len()).position(|window| window == rows);
        assert!(at.is_some(), "{png:x?}");
        let mut many = Image { width: 17, height: 1, pixels: (0..17).map(|i| [i, 0, 0]).collect() };
        assert_eq!(many.png()[24..26], [8, 2]);
        many.pixels[16] = [0, 0, 0];
        assert_eq!(many.png()[24..26], [4, 3]);
    }
}
