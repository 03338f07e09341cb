//! JSON and TOML files that anyone may have written: small before they are read, few values before they are
//! parsed.

use crate::error::{AtPath, Error, Result};
use serde::de::DeserializeOwned;
use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

/// The longest file that is read; a checkpoint's state takes some 50 bytes a unit on a ramp.
const LARGEST: u64 = 16 << 20;
/// The most commas: a parsed value takes up to 32 bytes, however short it is in the text.
const MAX_COMMAS: usize = 1 << 20;

/// The bytes of a file of at most `largest`. A pipe or a device is none.
///
/// # Errors
/// Where the system refuses, or the file is longer.
pub(crate) fn bytes(path: &Path, largest: u64) -> Result<Vec<u8>> {
    let facts = fs::metadata(path).at(path)?;
    let refused = |message: String| Err(Error::Data { path: path.to_owned(), message });
    if !facts.is_file() {
        return refused("expected a regular file".into());
    }
    if facts.len() > largest {
        return refused(format!("expected at most {largest} bytes, got {}", facts.len()));
    }
    let mut bytes = Vec::with_capacity(facts.len() as usize);
    File::open(path).at(path)?.take(largest).read_to_end(&mut bytes).at(path)?;
    Ok(bytes)
}

/// A file's text.
///
/// # Errors
/// As [`bytes`], and where it is no UTF-8.
pub(crate) fn text(path: &Path) -> Result<String> {
    String::from_utf8(bytes(path, LARGEST)?)
        .map_err(|error| Error::Data { path: path.to_owned(), message: error.to_string() })
}

/// What a JSON file says.
///
/// # Errors
/// As [`bytes`], and [`Error::Checkpoint`] where it says something else.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = bytes(path, LARGEST)?;
    let refused = |message: String| Error::Checkpoint { path: path.to_owned(), message };
    let commas = text.iter().filter(|&&byte| byte == b',').count();
    if commas > MAX_COMMAS {
        return Err(refused(format!("expected at most {MAX_COMMAS} commas, got {commas}")));
    }
    serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))
}
