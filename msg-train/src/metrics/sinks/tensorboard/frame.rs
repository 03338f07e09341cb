//! TFRecord frames: length, its checksum, the bytes, their checksum; all little-endian.

/// Bytes of a frame beside its payload.
pub(super) const OVERHEAD: usize = 8 + 4 + 4;

/// A payload in its frame.
pub(super) fn framed(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(payload.len() + OVERHEAD);
    frame.extend(length);
    frame.extend(masked(crc32c(&length)).to_le_bytes());
    frame.extend(payload);
    frame.extend(masked(crc32c(payload)).to_le_bytes());
    frame
}

/// The payloads of whole frames with right checksums, up to the first that is not.
pub(super) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Frames { rest: bytes }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<8>()?;
        let (length_sum, rest) = rest.split_first_chunk::<4>()?;
        if masked(crc32c(length)) != u32::from_le_bytes(*length_sum) {
            return None;
        }
        let (payload, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let (payload_sum, rest) = rest.split_first_chunk::<4>()?;
        if masked(crc32c(payload)) != u32::from_le_bytes(*payload_sum) {
            return None;
        }
        self.rest = rest;
        Some(payload)
    }
}

/// The checksum's disguise, so that checksums of data that holds checksums stay good
/// (tensorflow/core/lib/hash/crc32c.h).
fn masked(sum: u32) -> u32 {
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), as in RFC 3720, appendix B.4.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, byte| (sum >> 8) ^ TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize])
}

/// What each byte does to the sum.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum >> 1) ^ (if sum & 1 == 1 { 0x82f6_3b78 } else { 0 });
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_has_the_published_values() {
        // RFC 3720, B.4, and the check value of the catalogue of CRCs.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising), 0x46dd_794e);
    }

    #[test]
    fn frames_come_back_up_to_the_first_that_is_cut_or_altered() {
        let bytes = [framed(b"one"), framed(b""), framed(b"three")].concat();
        let payloads: Vec<&[u8]> = Frames::new(&bytes).collect();
        assert_eq!(payloads, [&b"one"[..], b"", b"three"]);
        let ends = [3 + OVERHEAD, 3 + 2 * OVERHEAD, bytes.len()];
        for at in 0..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= at).count();
            assert_eq!(Frames::new(&bytes[..at]).count(), whole, "cut at {at}");
            let mut altered = bytes.clone();
            altered[at] ^= 0x40;
            assert_eq!(Frames::new(&altered).count(), whole, "altered at {at}");
        }
    }
}
