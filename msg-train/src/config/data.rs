//! `[data]`: sources, tokenizer, held-out share, and masked tokens for BERT.

use serde::{Deserialize, Serialize};
use std::{ops::RangeInclusive, path::PathBuf};

/// The `[data]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Files and folders of text, relative to the working directory.
    #[serde(default)]
    pub sources: Vec<PathBuf>,
    /// Crates of Cargo.lock whose sources are read from the cargo home or a vendor folder (quickstart).
    #[serde(default)]
    pub crates: Vec<String>,
    /// Endings of the files that are read from folders; also inside .gz and .zst.
    #[serde(default = "default_extensions")]
    pub extensions: Vec<String>,
    /// The field that holds the text in .jsonl lines.
    #[serde(default = "default_field")]
    pub jsonl_field: String,
    /// How bytes that are not UTF-8 are read: replaced by U+FFFD and counted, or the file is refused.
    #[serde(default)]
    pub invalid_utf8: InvalidUtf8,
    /// Share of the documents' tokens held out for evaluation.
    #[serde(default = "default_held_out")]
    pub held_out: f64,
    /// The folder of prepared shards; by default `data` in the run's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<PathBuf>,
    /// BLAKE3 hash that the whole text must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_hash: Option<String>,
    /// The tokenizer.
    pub tokenizer: TokenizerConfig,
    /// Masked-token examples (BERT).
    #[serde(default)]
    pub mlm: MlmConfig,
}

impl DataConfig {
    /// The keys that say where text comes from, and whether a configuration has each.
    pub(crate) const SOURCES: &[(&str, fn(&DataConfig) -> bool)] =
        &[("sources", |data| !data.sources.is_empty()), ("crates", |data| !data.crates.is_empty())];

    /// The key of them that is given.
    ///
    /// # Errors
    /// What is given instead, where that is not exactly one.
    pub(crate) fn source(&self) -> Result<&'static str, String> {
        let given: Vec<&str> =
            Self::SOURCES.iter().filter(|(_, given)| given(self)).map(|(key, _)| *key).collect();
        match given[..] {
            [key] => Ok(key),
            [] => Err("none of them".to_owned()),
            _ => Err(in_words(&given)),
        }
    }

    /// What is expected of them, in words.
    pub(crate) fn one_source() -> String {
        let keys: Vec<&str> = Self::SOURCES.iter().map(|(key, _)| *key).collect();
        format!("exactly one of {}, not empty", in_words(&keys))
    }

    /// The share that may be held out.
    pub(crate) const HELD_OUT: RangeInclusive<f64> = 0.0..=0.5;
    /// That range in words.
    pub(crate) const HELD_OUT_IN_WORDS: &str = "a share from 0 to 0.5";
}

/// Keys of `[data]`, with their table.
fn in_words(keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("`data.{key}`")).collect();
    keys.join(", ")
}

/// How bytes that are not UTF-8 are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvalidUtf8 {
    /// Replaced by U+FFFD and counted.
    #[default]
    Replace,
    /// The file is refused.
    Refuse,
}

/// The `[data.tokenizer]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerConfig {
    /// Byte-level BPE (GPT-2's) or WordPiece (BERT's) trained on the text, one entry a byte, or a file.
    pub kind: TokenizerKind,
    /// Entries of a trained tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab: Option<usize>,
    /// The tokenizer.json of `kind = "file"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

/// Which tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// Byte-level BPE trained on the corpus (GPT-2's kind).
    Bpe,
    /// WordPiece trained on the corpus (BERT's kind).
    WordPiece,
    /// One entry a byte.
    Bytes,
    /// A tokenizer.json.
    File,
}

/// The special tokens that a model needs of a tokenizer. In manifests the kinds have the names of the families that
/// had them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpecialTokens {
    /// One token, which follows every document.
    #[serde(rename = "gpt")]
    EndOfText,
    /// BERT's: padding, unknown, start, separator and mask.
    #[serde(rename = "bert")]
    Bert,
}

impl SpecialTokens {
    /// How many there are in a tokenizer that is made here.
    pub fn count(self) -> usize {
        match self {
            SpecialTokens::EndOfText => 1,
            SpecialTokens::Bert => 5,
        }
    }

    /// The name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            SpecialTokens::EndOfText => "gpt",
            SpecialTokens::Bert => "bert",
        }
    }
}

/// The `[data.mlm]` table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlmConfig {
    /// Share of positions to predict.
    pub rate: f64,
    /// Whether the parts of a word are masked together.
    pub whole_word: bool,
    /// Whether each epoch masks an example differently; false masks it once, as published.
    pub dynamic: bool,
}

impl Default for MlmConfig {
    fn default() -> Self {
        MlmConfig { rate: 0.15, whole_word: false, dynamic: true }
    }
}

fn default_extensions() -> Vec<String> {
    ["txt", "md", "rs", "jsonl"].map(str::to_owned).to_vec()
}

fn default_field() -> String {
    "text".to_owned()
}

fn default_held_out() -> f64 {
    0.02
}
