//! `manifest.json`: what a prepared folder holds and what it was made from. It is written last, so a folder
//! without it is unfinished.

use crate::{
    config::{SpecialTokens, TokenizerConfig, TokenizerKind},
    error::{AtPath, Error, Result},
    files::{
        atomic::replace_file,
        bounded_json,
        names::{self, MANIFEST},
    },
};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Raised with every change of the layout or of what follows from a recipe.
const VERSION: u32 = 1;

/// What a preparation depends on, and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// BLAKE3 of all documents' text, each followed by a byte 255, which no text has.
    pub text: String,
    /// The special tokens.
    #[serde(rename = "family")]
    pub specials: SpecialTokens,
    /// How the tokenizer was made.
    pub tokenizer: TokenizerKind,
    /// Entries asked of a trained tokenizer.
    pub vocab: Option<usize>,
    /// BLAKE3 of the file of a given tokenizer.
    pub tokenizer_file: Option<String>,
    /// Share of the tokens held out, as written.
    pub held_out: String,
    /// Tokens of every shard but the last.
    pub shard_tokens: u64,
}

impl Recipe {
    /// The recipe of a configuration for a certain text.
    pub(super) fn new(
        text: String,
        specials: SpecialTokens,
        config: &TokenizerConfig,
        tokenizer_file: Option<String>,
        held_out: f64,
        shard_tokens: u64,
    ) -> Self {
        // A vocabulary size is no part of what a given file or bytes are.
        let vocab = match config.kind {
            TokenizerKind::Bpe | TokenizerKind::WordPiece => config.vocab,
            TokenizerKind::Bytes | TokenizerKind::File => None,
        };
        let held_out = held_out.to_string();
        Recipe { text, specials, tokenizer: config.kind, vocab, tokenizer_file, held_out, shard_tokens }
    }

    /// The keys in which two recipes differ, with both values.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let rows = |recipe: &Recipe| {
            [
                ("text", recipe.text.clone()),
                ("model.family", recipe.specials.name().to_owned()),
                ("data.tokenizer.kind", format!("{:?}", recipe.tokenizer)),
                ("data.tokenizer.vocab", format!("{:?}", recipe.vocab)),
                ("data.tokenizer.path (its hash)", format!("{:?}", recipe.tokenizer_file)),
                ("data.held_out", recipe.held_out.clone()),
                ("shard size", recipe.shard_tokens.to_string()),
            ]
        };
        let pairs = rows(self).into_iter().zip(rows(other));
        let pairs = pairs.filter(|((_, here), (_, there))| here != there);
        pairs.map(|((key, here), (_, there))| format!("{key} ({here} there, {there} now)")).collect()
    }
}

/// How a token id is stored, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// Two bytes, for vocabularies below 65,536 entries.
    U16,
    /// Four bytes.
    U32,
}

impl Dtype {
    /// The smallest that holds every id of a vocabulary.
    pub fn of(vocab: usize) -> Self {
        if vocab < 1 << 16 { Dtype::U16 } else { Dtype::U32 }
    }

    /// Bytes of one id.
    pub fn bytes(self) -> u64 {
        match self {
            Dtype::U16 => 2,
            Dtype::U32 => 4,
        }
    }
}

/// A file of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Its name in the folder.
    pub file: String,
    /// Tokens in it.
    pub tokens: u64,
    /// Hash of its bytes.
    pub blake3: String,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Documents with any token.
    pub documents: u64,
    /// Bytes of text (UTF-8).
    pub bytes: u64,
    /// Invalid UTF-8 sequences, each replaced by one U+FFFD.
    pub invalid: u64,
    /// Tokens, ends of documents included.
    pub tokens: u64,
    /// Of these, held out.
    pub held_out_tokens: u64,
    /// Entries of the boundaries: one more than documents where a document was cut for the held-out part.
    pub boundaries: u64,
}

/// A prepared folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout.
    pub version: u32,
    /// What it was made from.
    pub recipe: Recipe,
    /// What was counted.
    pub counts: Counts,
    /// One more than the largest token id.
    pub vocab: usize,
    /// Hash of the tokenizer's file.
    pub tokenizer_blake3: String,
    /// Hash of the boundaries.
    pub documents_blake3: String,
    /// How ids are stored.
    pub dtype: Dtype,
    /// The token files, in order.
    pub shards: Vec<Shard>,
}

/// The file: the manifest, and the hash of the whole file with zeros in place of the hash.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checked<T> {
    blake3: String,
    manifest: T,
}

impl Manifest {
    /// A manifest of this version.
    pub(super) fn new(
        recipe: Recipe,
        counts: Counts,
        vocab: usize,
        hashes: [String; 2],
        shards: Vec<Shard>,
    ) -> Self {
        let [tokenizer_blake3, documents_blake3] = hashes;
        let dtype = Dtype::of(vocab);
        Manifest {
            version: VERSION,
            recipe,
            counts,
            vocab,
            tokenizer_blake3,
            documents_blake3,
            dtype,
            shards,
        }
    }

    /// Whether a folder has one.
    pub fn exists(folder: &Path) -> Result<bool> {
        let path = folder.join(MANIFEST);
        path.try_exists().at(path)
    }

    /// Reads a folder's manifest.
    ///
    /// # Errors
    /// Where it is missing, changed since it was written, or of another version.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let refused = |message: String| Error::Data { path: path.clone(), message };
        if !Manifest::exists(folder)? {
            return Err(refused("expected a finished preparation, got none; run msg data prepare".into()));
        }
        let text = String::from_utf8(bounded_json::bounded(&path)?);
        let text = text.map_err(|_| refused("expected UTF-8, got other bytes".into()))?;
        let checked: Checked<serde_json::Value> = serde_json::from_str(&text)
            .map_err(|error| refused(format!("expected a manifest, got {error}")))?;
        let got = text_hash(&text, &checked.blake3);
        if got != checked.blake3 {
            return Err(refused(format!("expected BLAKE3 {}, got {got}", checked.blake3)));
        }
        match checked.manifest["version"].as_u64() {
            Some(version) if version == u64::from(VERSION) => {}
            version => {
                return Err(refused(format!("expected version {VERSION}, got {}", version.unwrap_or(0))));
            }
        }
        let manifest: Manifest =
            serde_json::from_value(checked.manifest).map_err(|error| refused(error.to_string()))?;
        // A name leads nowhere else, and its letters are known.
        for (shard, at) in manifest.shards.iter().zip(0..) {
            let expected = names::shard(at);
            if shard.file != expected {
                return Err(refused(format!("expected {expected} as shard {at}, got {}", shard.file)));
            }
        }
        Ok(manifest)
    }

    /// Writes it: the folder is finished.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(MANIFEST);
        let zeros = "0".repeat(blake3::OUT_LEN * 2);
        let text = serde_json::to_string_pretty(&Checked { blake3: zeros.clone(), manifest: self })
            .map_err(|error| Error::Data { path: path.clone(), message: error.to_string() })?;
        let hash = text_hash(&text, &zeros);
        replace_file(&path, text.replacen(&zeros, &hash, 1).as_bytes())
    }
}

/// Hash of a manifest's text with zeros in place of its first `hash`.
fn text_hash(text: &str, hash: &str) -> String {
    blake3::hash(text.replacen(hash, &"0".repeat(hash.len()), 1).as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by `msg-fuzz prepared`: a manifest that is signed, with a line break in the name of a field.
    #[test]
    fn odd_letters_of_a_signed_manifest_stay_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let zeros = "0".repeat(blake3::OUT_LEN * 2);
        let text = format!(
            "{{\"blake3\": \"{zeros}\", \"manifest\": {{\"version\": {VERSION}, \"co\\nunts\": 1}}}}"
        );
        let hash = text_hash(&text, &zeros);
        std::fs::write(folder.path().join(MANIFEST), text.replacen(&zeros, &hash, 1)).unwrap();
        let error = Manifest::read(folder.path()).err().unwrap().to_string();
        assert!(error.contains("unknown field `co") && !error.contains('\n'), "{error}");
    }
}
