//! The tokenizer of a published folder: `tokenizer.json`, or the older vocabulary files.
//!
//! Sources: `tokenization_bert.py` and `tokenization_gpt2.py` of transformers.

use super::{
    Tokenizer,
    build::{Spelling, byte_level, pieces},
    learn::Learned,
};
use crate::{
    config::SpecialTokens,
    error::{Error, Result},
    files::bounded_json,
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// Bytes of a tokenizer's file at most: ten times the largest of published GPT-2s and BERTs.
const LARGEST: u64 = 32 << 20;

const WHOLE: &str = "tokenizer.json";
const WORDS: &str = "vocab.txt";
const TABLE: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const SETTINGS: &str = "tokenizer_config.json";

/// Keys of `tokenizer_config.json` that say how words are spelt.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Settings {
    do_lower_case: Option<bool>,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
}

impl Tokenizer {
    /// The tokenizer of a published folder, where there is one.
    ///
    /// # Errors
    /// Where its files cannot be read, are none, or lack the special tokens.
    pub fn published(folder: &Path, tokens: SpecialTokens) -> Result<Option<Self>> {
        let whole = folder.join(WHOLE);
        if whole.exists() {
            return Tokenizer::parse(&whole, bounded_json::bytes(&whole, LARGEST)?, tokens).map(Some);
        }
        let made = match tokens {
            SpecialTokens::EndOfText => from_merges(folder)?,
            SpecialTokens::Bert => from_words(folder)?,
        };
        let Some((path, value)) = made else { return Ok(None) };
        Tokenizer::parse(&path, value.to_string().into_bytes(), tokens).map(Some)
    }
}

type Made = Option<(std::path::PathBuf, serde_json::Value)>;

/// `vocab.txt`: one piece a line, the first with id 0.
fn from_words(folder: &Path) -> Result<Made> {
    let path = folder.join(WORDS);
    if !path.exists() {
        return Ok(None);
    }
    let text = text(&path)?;
    let symbols: Vec<String> = text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect();
    distinct(&path, &symbols)?;
    let found = has_specials(&path, &symbols, SpecialTokens::Bert)?;
    let settings = folder.join(SETTINGS);
    let settings: Settings =
        if settings.exists() { bounded_json::read(&settings)? } else { Settings::default() };
    let default = Spelling::default();
    let spelling = Spelling {
        lowercase: settings.do_lower_case.unwrap_or(default.lowercase),
        strip_accents: settings.strip_accents,
        chinese: settings.tokenize_chinese_chars.unwrap_or(default.chinese),
    };
    Ok(Some((path, pieces(SpecialTokens::Bert, &symbols, &found, spelling))))
}

/// `vocab.json`, a table of ids, and `merges.txt`, one pair a line, the most frequent first.
fn from_merges(folder: &Path) -> Result<Made> {
    let (path, merges) = (folder.join(TABLE), folder.join(MERGES));
    if !path.exists() && !merges.exists() {
        return Ok(None);
    }
    let table: BTreeMap<String, u32> = bounded_json::read(&path)?;
    let mut symbols = vec![String::new(); table.len()];
    for (symbol, &id) in &table {
        let place = symbols.get_mut(id as usize).filter(|place| place.is_empty());
        let place = place.ok_or_else(|| {
            let expected = format!("each id from 0 to {} once", table.len().saturating_sub(1));
            refused(&path, format!("expected {expected}, got {id} for {symbol:?}"))
        })?;
        symbol.clone_into(place);
    }
    let found = has_specials(&path, &symbols, SpecialTokens::EndOfText)?;
    let ids: HashMap<&str, u32> = table.iter().map(|(symbol, &id)| (symbol.as_str(), id)).collect();
    let text = text(&merges)?;
    let pairs = text.lines().enumerate().filter(|(at, line)| {
        // The first line may name the version; the last may be empty.
        let comment = *at == 0 && line.starts_with("#version");
        !line.is_empty() && !comment
    });
    let merges = pairs.map(|(at, line)| {
        let pair = line.trim_end_matches('\r').split_once(' ');
        let pair = pair.and_then(|(left, right)| Some((*ids.get(left)?, *ids.get(right)?)));
        pair.ok_or_else(|| {
            let short: String = line.chars().take(80).collect();
            refused(&merges, format!("line {}: expected two entries of {TABLE}, got {short:?}", at + 1))
        })
    });
    let merges = merges.collect::<Result<Vec<_>>>()?;
    Ok(Some((path, byte_level(SpecialTokens::EndOfText, &Learned { symbols, merges }, &found, true))))
}

fn text(path: &Path) -> Result<String> {
    String::from_utf8(bounded_json::bytes(path, LARGEST)?).map_err(|error| refused(path, error.to_string()))
}

fn refused(path: &Path, message: String) -> Error {
    Error::Data { path: path.to_owned(), message }
}

fn distinct(path: &Path, symbols: &[String]) -> Result<()> {
    let mut seen = HashMap::new();
    for (id, symbol) in symbols.iter().enumerate() {
        if let Some(first) = seen.insert(symbol, id) {
            let message =
                format!("lines {} and {}: expected distinct pieces, got {symbol:?} twice", first + 1, id + 1);
            return Err(refused(path, message));
        }
    }
    Ok(())
}

/// The special tokens, all of which must be there.
fn has_specials(path: &Path, symbols: &[String], tokens: SpecialTokens) -> Result<Vec<&'static str>> {
    let has = |token: &str| symbols.iter().any(|symbol| symbol == token);
    tokens.among(has).map_err(|message| refused(path, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Specials;
    use std::fs;

    #[test]
    fn a_list_of_pieces_spells_as_its_settings_say() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let read = || Tokenizer::published(folder.path(), SpecialTokens::Bert);
        assert!(read().unwrap().is_none());
        write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##able\nUn\n");
        assert_eq!(read().unwrap().unwrap().encode("Unable UNABLE").unwrap(), [5, 6, 5, 6]);
        write("tokenizer_config.json", r#"{"do_lower_case": false, "model_max_length": 512}"#);
        assert_eq!(read().unwrap().unwrap().encode("Unable unable").unwrap(), [7, 6, 5, 6]);
        // An id of a whole tokenizer may be any number: no table of so many entries is made.
        let whole = String::from_utf8(read().unwrap().unwrap().json().to_vec()).unwrap();
        write("tokenizer.json", &whole.replace("\"un\":5", "\"un\":4294967295"));
        let refused = read().unwrap_err().to_string();
        assert!(refused.ends_with("expected ids below 16777216, got 4294967295"), "{refused}");
        fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
        for (text, expected) in [
            ("[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n", "expected the special token [MASK]"),
            ("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\nun", "lines 6 and 7: expected distinct pieces"),
        ] {
            write("vocab.txt", text);
            let refused = read().unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn a_table_and_its_merges_make_a_byte_level_tokenizer() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let read = || Tokenizer::published(folder.path(), SpecialTokens::EndOfText);
        write("vocab.json", r#"{"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4, "<|endoftext|>": 5}"#);
        assert!(read().unwrap_err().to_string().contains("merges.txt"));
        write("merges.txt", "#version: 0.2\na b\nĠ ab\n");
        let tokenizer = read().unwrap().unwrap();
        assert_eq!(tokenizer.encode("ab ab").unwrap(), [2, 4]);
        assert_eq!(tokenizer.specials(), Specials::EndOfText { end: 5 });
        // Other makers end documents otherwise; the first spelling known counts.
        write("vocab.json", r#"{"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4, "<s>": 5, "</s>": 6}"#);
        assert_eq!(read().unwrap().unwrap().specials(), Specials::EndOfText { end: 6 });
        write("vocab.json", r#"{"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4, "<end>": 5}"#);
        let refused = read().unwrap_err().to_string();
        assert!(refused.contains("expected one of the special tokens <|endoftext|>, </s>, "), "{refused}");
        write("vocab.json", r#"{"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4, "<|endoftext|>": 5}"#);
        write("merges.txt", "a c\n");
        assert!(
            read()
                .unwrap_err()
                .to_string()
                .ends_with("line 1: expected two entries of vocab.json, got \"a c\"")
        );
        write("vocab.json", r#"{"a": 0, "b": 0}"#);
        assert!(read().unwrap_err().to_string().contains("expected each id from 0 to 1 once"));
    }
}
