//! JSON and TOML files from anywhere: their size is checked before they are read, the number of their values before
//! they are parsed.

use crate::error::{AtPath, Error, Result};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use std::{
    fmt,
    fs::{self, File},
    io::Read,
    path::Path,
};

/// The longest file that is read; a checkpoint's state takes some 50 bytes a unit on a ramp.
const LARGEST: u64 = 16 << 20;
/// The most commas: a parsed value takes up to 32 bytes, however short it is in the text.
const MAX_COMMAS: usize = 1 << 20;

/// The bytes of a regular file of at most `largest` bytes.
///
/// # Errors
/// Where the file is longer.
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

/// The bytes of a JSON file that is safe to parse.
///
/// # Errors
/// As [`bytes`], and where it has too many values.
pub(crate) fn bounded(path: &Path) -> Result<Vec<u8>> {
    let text = bytes(path, LARGEST)?;
    let commas = text.iter().filter(|&&byte| byte == b',').count();
    if commas > MAX_COMMAS {
        let message = format!("expected at most {MAX_COMMAS} commas, got {commas}");
        return Err(Error::Data { path: path.to_owned(), message });
    }
    Ok(text)
}

/// What a JSON file says.
///
/// # Errors
/// As [`bounded`], and [`Error::Checkpoint`] where it says something else.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&bounded(path)?)
        .map_err(|error| Error::Checkpoint { path: path.to_owned(), message: error.to_string() })
}

/// Refuses what is not JSON, invalid strings included, and keeps nothing of it. (`IgnoredAny` accepts strings that
/// cannot be read.)
///
/// # Errors
/// What the parser says.
pub(crate) fn check(bytes: &[u8]) -> serde_json::Result<()> {
    serde_json::from_slice::<Whole>(bytes).map(drop)
}

/// Any value, checked and dropped.
struct Whole;

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Whole, D::Error> {
        json.deserialize_any(Whole)
    }
}

/// Visits of values that have no parts.
macro_rules! single {
    ($($visit:ident: $value:ty),*) => {
        $(fn $visit<E>(self, _: $value) -> Result<Whole, E> {
            Ok(Whole)
        })*
    };
}

impl<'de> Visitor<'de> for Whole {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    single!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Whole, E> {
        Ok(Whole)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Whole, A::Error> {
        while values.next_element::<Whole>()?.is_some() {}
        Ok(Whole)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Whole, A::Error> {
        while fields.next_entry::<Whole, Whole>()?.is_some() {}
        Ok(Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_seen_down_to_the_letters_of_its_texts() {
        for text in ["{\"a\": [1, -2, 3.5e3, null, true, \"\\u00e9\"], \"b\": {}}", " 1 "] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
        for text in ["", "{", "[1,]", "\"\\ud800\"", "{1: 2}", "\"\u{1}\"", "1 2"] {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
        assert!(check(b"\"\xff\"").is_err());
    }
}
