//! Changes of a file: of bits, of lengths, and of what readers trust (numbers, types, brackets, names).

use msg_core::random::{Key, bits_at};

/// Random numbers that a seed and a count fix.
#[derive(Debug)]
pub struct Draws {
    key: Key,
    at: [u32; 2],
}

impl Draws {
    /// The numbers of one file.
    pub fn new(seed: u64, file: u64) -> Self {
        Draws { key: Key::new(seed, "fuzz", file), at: [0, 0] }
    }

    /// The next number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.at[1] += 1;
        let bits = bits_at(self.key, [0, 0, self.at[0], self.at[1]]);
        ((u64::from(bits) * limit as u64) >> 32) as usize
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// What stands in files in place of something else.
const WORDS: [&[u8]; 44] = [
    b"0",
    b"-1",
    b"1",
    b"2",
    b"3",
    b"12",
    b"255",
    b"4294967295",
    b"4294967296",
    b"9223372036854775807",
    b"18446744073709551615",
    b"99999999999999999999999",
    b"1e308",
    b"1e-320",
    b"NaN",
    b"null",
    b"true",
    b"\"\"",
    b"[]",
    b"{}",
    b"[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":",
    b"\"F16\"",
    b"\"BF16\"",
    b"\"F64\"",
    b"\"U8\"",
    b"\"I64\"",
    b"\"F4\"",
    b"\"shape\"",
    b"\"data_offsets\"",
    b"\"dtype\"",
    b"\"__metadata__\"",
    b"../",
    b"/dev/zero",
    b"\\u0000",
    b"\\ud800",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x00\x00\x00\x00\x00\x00\x00\x80",
    b"gelu",
    b"relu",
    b"\n",
    b",",
    b"\"",
    b" ",
];

/// Changes `bytes` in one to four places; `others` lend pieces.
pub fn mutate(bytes: &mut Vec<u8>, others: &[&[u8]], draws: &mut Draws) {
    for _ in 0..1 + draws.below(4) {
        let at = if bytes.is_empty() { 0 } else { draws.below(bytes.len()) };
        match draws.below(11) {
            0 if at < bytes.len() => bytes[at] ^= 1 << draws.below(8),
            1 if at < bytes.len() => bytes[at] = draws.below(256) as u8,
            2 => bytes.truncate(at),
            3 => {
                let end = bytes.len().min(at + 1 + draws.below(64));
                bytes.drain(at..end);
            }
            4 => {
                let end = bytes.len().min(at + 1 + draws.below(64));
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = *draws.pick(others);
                if !other.is_empty() {
                    let from = draws.below(other.len());
                    let to = other.len().min(from + 1 + draws.below(64));
                    bytes.splice(at..at, other[from..to].iter().copied());
                }
            }
            6 => {
                bytes.splice(at..at, draws.pick(&WORDS).iter().copied());
            }
            // A whole number, string or bracket becomes another word: files stay parseable more often.
            7..=9 => {
                let (from, to) = token(bytes, at);
                bytes.splice(from..to, draws.pick(&WORDS).iter().copied());
            }
            _ => {
                let (from, to) = token(bytes, at);
                let (first, last) = token(bytes, if bytes.is_empty() { 0 } else { draws.below(bytes.len()) });
                let piece = bytes[first..last].to_vec();
                bytes.splice(from..to, piece);
            }
        }
    }
}

/// The bounds of the number, quoted string or single byte around a place.
fn token(bytes: &[u8], at: usize) -> (usize, usize) {
    const LONGEST: usize = 200;
    if at >= bytes.len() {
        return (at.min(bytes.len()), at.min(bytes.len()));
    }
    let part = |byte: u8| byte.is_ascii_alphanumeric() || b"-+._".contains(&byte);
    if !part(bytes[at]) {
        return (at, at + 1);
    }
    let from = (at.saturating_sub(LONGEST)..at).rev().find(|&at| !part(bytes[at])).map_or(0, |at| at + 1);
    let to = (at..bytes.len().min(at + LONGEST)).find(|&at| !part(bytes[at])).unwrap_or(bytes.len());
    let quoted = from > 0 && bytes[from - 1] == b'"' && bytes.get(to) == Some(&b'"');
    if quoted { (from - 1, to + 1) } else { (from, to) }
}
