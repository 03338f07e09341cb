//! The header of a safetensors file, checked before anything is allocated for it.

use crate::hf::error::{Error, Result};
use safetensors::tensor::Metadata;
use std::path::Path;

/// Bytes that state the header's length.
pub(super) const PREFIX: usize = size_of::<u64>();
/// The longest header that is read. The format's own readers take 100 MB; no model comes near 8 MiB, and a
/// parser holds the longest name or note of a hostile header up to six times.
pub(super) const MAX_HEADER: u64 = 8 << 20;
/// The most commas in a header: a tensor takes about six. A parser holds each number between two of them in
/// many times the bytes that it takes in the text.
const MAX_COMMAS: usize = 1 << 18;

/// Parses and checks the header; also gives the place where the values begin.
///
/// The lengths are checked here rather than in `SafeTensors::read_metadata`, whose errors carry no
/// numbers and whose last sum can overflow on a header made for that.
pub(super) fn header(path: &Path, bytes: &[u8]) -> Result<(usize, Metadata)> {
    let file = || path.to_owned();
    let got = bytes.len() as u64;
    let cut = |expected: u64| Error::Length { file: file(), expected, got };

    let Some((length, rest)) = bytes.split_first_chunk() else { return Err(cut(PREFIX as u64)) };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(Error::HeaderSize { file: file(), limit: MAX_HEADER, got: length });
    }
    let start = PREFIX as u64 + length;
    let Some(text) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else {
        return Err(cut(start));
    };
    let malformed = |e: &dyn std::error::Error| Error::Header { file: file(), message: e.to_string() };
    let text = std::str::from_utf8(text).map_err(|e| malformed(&e))?;
    let commas = text.bytes().filter(|&byte| byte == b',').count();
    if commas > MAX_COMMAS {
        let message = format!("expected at most {MAX_COMMAS} commas, got {commas}");
        return Err(Error::Header { file: file(), message });
    }
    let header: Metadata = serde_json::from_str(text).map_err(|e| malformed(&e))?;
    let expected = start.saturating_add(header.data_len() as u64);
    if expected == got { Ok((PREFIX + text.len(), header)) } else { Err(cut(expected)) }
}
