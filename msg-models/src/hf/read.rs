//! Opening a file of tensors and reading its values.

use super::{Error, Result, map::map};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Bytes that state the header's length.
pub(super) const PREFIX: usize = size_of::<u64>();
/// The longest header that readers of the format accept.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// An open file of tensors. Only its header is in memory; values are read as they are asked for.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    bytes: Mmap,
    header: Metadata,
    /// Where the values begin.
    start: usize,
}

impl TensorFile {
    /// Opens a file and checks its header: every tensor lies inside the file, and together they fill it.
    ///
    /// The file must not be cut or edited in place while it is open (replacing it by a rename, as
    /// [`save`](super::save) does, is safe).
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Length`], [`Error::HeaderSize`] or [`Error::Header`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = open(path).map_err(|e| io_error(path, "open it", &e))?;
        let (start, header) = header(path, &bytes)?;
        Ok(TensorFile { path: path.to_owned(), bytes, header, start })
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's own notes.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// All its tensors.
    pub fn tensors(&self) -> Subset<'_> {
        Subset { file: self, prefix: String::new(), left_out: BTreeSet::new() }
    }

    /// Its tensors under `prefix` (`small/`, say), which goes off their names.
    pub fn subset(&self, prefix: &str) -> Subset<'_> {
        self.tensors().subset(prefix)
    }
}

/// Maps the file at `path`.
fn open(path: &Path) -> io::Result<Mmap> {
    // Asked before opening, since opening a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    map(&File::open(path)?)
}

/// An error of the system, in our words.
pub(super) fn io_error(file: &Path, doing: &'static str, error: &io::Error) -> Error {
    Error::Io { file: file.to_owned(), doing, message: error.to_string() }
}

/// Parses and checks the header; also gives the place where the values begin.
///
/// The lengths are checked here rather than in `SafeTensors::read_metadata`, whose errors carry no
/// numbers and whose last sum can overflow on a header made for that.
fn header(path: &Path, bytes: &[u8]) -> Result<(usize, Metadata)> {
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
    let malformed =
        |e: &dyn std::error::Error| Error::Header { file: file(), message: one_line(&e.to_string()) };
    let text = std::str::from_utf8(text).map_err(|e| malformed(&e))?;
    let header: Metadata = serde_json::from_str(text).map_err(|e| malformed(&e))?;
    let expected = start.saturating_add(header.data_len() as u64);
    if expected == got { Ok((PREFIX + text.len(), header)) } else { Err(cut(expected)) }
}

/// Text that may quote a damaged file, fit for one line of a message.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 200;
    text.chars().take(LONGEST).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Some tensors of a file under shorter names.
#[derive(Clone, Debug)]
pub struct Subset<'f> {
    file: &'f TensorFile,
    prefix: String,
    /// Full names of tensors that are not part of it.
    left_out: BTreeSet<String>,
}

impl<'f> Subset<'f> {
    /// Those under a further prefix.
    #[must_use]
    pub fn subset(&self, prefix: &str) -> Self {
        Subset { prefix: self.full_name(prefix), ..self.clone() }
    }

    /// All but these.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        let mut rest = self.clone();
        rest.left_out.extend(names.iter().map(|name| self.full_name(name)));
        rest
    }

    /// The file that they lie in.
    pub fn file(&self) -> &'f TensorFile {
        self.file
    }

    /// Their names in order, without the prefix.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.file.header.offset_keys();
        names.retain(|name| !self.left_out.contains(name));
        names.sort_unstable();
        names.iter().filter_map(|name| name.strip_prefix(&self.prefix)).map(str::to_owned).collect()
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.info(name).is_ok()
    }

    /// A tensor's shape.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn shape(&self, name: &str) -> Result<&'f [usize]> {
        Ok(&self.info(name)?.shape)
    }

    /// A tensor's values, row-major. F16 and BF16 become f32, which holds each of them exactly.
    ///
    /// # Errors
    /// [`Error::Missing`], or [`Error::Dtype`] where it holds other numbers.
    pub fn f32s(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.floats(name)?.values().collect())
    }

    /// A tensor's values, row-major, where they are I64.
    ///
    /// # Errors
    /// As [`Subset::f32s`].
    pub fn i64s(&self, name: &str) -> Result<Vec<i64>> {
        match self.info(name)? {
            info @ TensorInfo { dtype: Dtype::I64, .. } => {
                let (chunks, _) = self.bytes(info).as_chunks();
                Ok(chunks.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect())
            }
            info => Err(self.wrong_type(name, "I64", info.dtype)),
        }
    }

    /// A tensor of floating point numbers, not read yet.
    pub(super) fn floats(&self, name: &str) -> Result<Floats<'f>> {
        let info = self.info(name)?;
        let all = self.bytes(info);
        let none = Floats { f32: &[], f16: &[], bf16: &[] };
        match info.dtype {
            Dtype::F32 => Ok(Floats { f32: all, ..none }),
            Dtype::F16 => Ok(Floats { f16: all, ..none }),
            Dtype::BF16 => Ok(Floats { bf16: all, ..none }),
            got => Err(self.wrong_type(name, "F32, F16 or BF16", got)),
        }
    }

    /// The name in the file.
    pub(super) fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn info(&self, name: &str) -> Result<&'f TensorInfo> {
        let tensor = self.full_name(name);
        let info = self.file.header.info(&tensor).filter(|_| !self.left_out.contains(&tensor));
        info.ok_or_else(|| Error::Missing { file: self.file.path.clone(), tensor })
    }

    fn bytes(&self, info: &TensorInfo) -> &'f [u8] {
        // In range: the header was checked against the file's length when it was opened.
        let (from, to) = info.data_offsets;
        &self.file.bytes[self.file.start + from..self.file.start + to]
    }

    fn wrong_type(&self, name: &str, expected: &'static str, got: Dtype) -> Error {
        Error::Dtype {
            file: self.file.path.clone(),
            tensor: self.full_name(name),
            expected,
            got: got.to_string(),
        }
    }
}

/// Floating point numbers in a file. All but one of the three are empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floats<'f> {
    f32: &'f [u8],
    f16: &'f [u8],
    bf16: &'f [u8],
}

impl<'f> Floats<'f> {
    /// The values in order. Bytes are converted one by one: a file promises no alignment.
    pub(super) fn values(self) -> impl Iterator<Item = f32> + use<'f> {
        let wide = self.f32.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        let half = self.f16.as_chunks().0.iter().map(|&bytes| from_f16(u16::from_le_bytes(bytes)));
        let brain = self.bf16.as_chunks().0.iter().map(|&bytes| from_bf16(u16::from_le_bytes(bytes)));
        wide.chain(half).chain(brain)
    }
}

/// A bfloat16 is the upper half of an f32.
fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// An IEEE half: shifted into place its exponent is 112 too small, which one exact product mends
/// (subnormal halves included).
fn from_f16(bits: u16) -> f32 {
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    let (sign, magnitude) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    let shifted = f32::from_bits(magnitude << 13);
    let value =
        if magnitude < 0x7c00 { shifted * SCALE } else { f32::from_bits(0x7f80_0000 | magnitude << 13) };
    f32::from_bits(sign | value.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_reads_as_the_number_that_its_fields_define() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff) / 1024.0);
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-14),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
            };
            let got = from_f16(bits);
            assert_eq!(got.is_sign_negative(), bits >> 15 == 1, "{bits:#x}");
            let got = f64::from(got.abs());
            assert!(got == magnitude || got.is_nan() && magnitude.is_nan(), "{bits:#x}: {got} {magnitude}");
        }
    }

    #[test]
    fn a_bfloat16_reads_as_its_upper_half() {
        assert_eq!([0x3f80, 0xc040, 0x0001].map(from_bf16), [1.0, -3.0, f32::from_bits(0x1_0000)]);
    }
}
