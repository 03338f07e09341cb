//! Text to token ids and back, through the `tokenizers` crate; training is ours, so that the same text
//! gives the same tokenizer on every machine.

mod build;
mod caught;
mod chunks;
mod learn;
mod published;
mod specials;
mod words;

pub use build::Trainer;
pub use specials::{BertSpecials, END_OF_TEXT, Specials};
pub use words::WordParts;

use crate::{
    config::SpecialTokens,
    error::{AtPath, Error, Result},
    files::bounded_json,
};
use caught::caught;
use chunks::{Cache, can_cut, chunks};
use msg_models::sizes::LARGEST;
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

/// A tokenizer with the special tokens of its kind.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: Vec<u8>,
    vocab: usize,
    specials: Specials,
    /// Where chunks of text can be tokenised by themselves: what they became, a cache for each thread that
    /// is not at work.
    caches: Option<Arc<Mutex<Vec<Cache>>>>,
}

impl Tokenizer {
    /// Reads a tokenizer.json.
    ///
    /// # Errors
    /// Where the file cannot be read or is no tokenizer, or a special token is missing.
    pub fn read(path: &Path, specials: SpecialTokens) -> Result<Self> {
        Tokenizer::parse(path, fs::read(path).at(path)?, specials)
    }

    /// Takes the bytes of a tokenizer.json; `path` names them in errors.
    ///
    /// # Errors
    /// As [`Tokenizer::read`].
    pub fn parse(path: &Path, json: Vec<u8>, specials: SpecialTokens) -> Result<Self> {
        let refused = |message: String| Error::Data { path: path.to_owned(), message };
        let other =
            |error: &dyn std::fmt::Display| refused(format!("expected a tokenizer.json, got {}", error));
        // Parts of the crate panic where the text is no JSON, others where its values do not fit together.
        bounded_json::check(&json).map_err(|error| other(&error))?;
        let parsed = caught(|| tokenizers::Tokenizer::from_bytes(&json)).map_err(|words| other(&words))?;
        let mut inner = parsed.map_err(|error| other(&error))?;
        // The text is data: what reads like a special token in it is spelt, and nothing is cut or filled up.
        inner.set_encode_special_tokens(true);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| refused(error.to_string()))?;
        let specials = specials.find(|token| inner.token_to_id(token)).map_err(refused)?;
        // Ids may have holes: what a model needs is one more than the largest.
        let vocab = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        // Whoever asks for a fact of each id makes a table of them.
        if vocab > LARGEST {
            return Err(refused(format!("expected ids below {LARGEST}, got {}", vocab - 1)));
        }
        let caches = can_cut(&inner).then(Arc::default);
        Ok(Tokenizer { inner, json, vocab, specials, caches })
    }

    /// The bytes of its tokenizer.json.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// One more than the largest id.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The special tokens.
    pub fn specials(&self) -> Specials {
        self.specials
    }

    /// The ids of a text, without special tokens.
    ///
    /// # Errors
    /// Where the tokenizer refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let Some(caches) = &self.caches else { return self.encode_whole(text) };
        // A thread that panicked gave no cache back: those here are whole.
        let free = || caches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cache = free().pop().unwrap_or_default();
        let mut ids = Vec::with_capacity(text.len() / 2);
        for chunk in chunks(text) {
            if let Some(known) = cache.get(chunk) {
                ids.extend(known);
            } else {
                let new = self.encode_whole(chunk)?;
                cache.insert(chunk, &new);
                ids.extend(new);
            }
        }
        free().push(cache);
        Ok(ids)
    }

    fn encode_whole(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = caught(|| self.inner.encode_fast(text, false)).map_err(|words| unusable(&words))?;
        Ok(encoding.map_err(|error| refusal(&*error))?.get_ids().to_vec())
    }

    /// The text of ids; special tokens are left out.
    ///
    /// # Errors
    /// Where the tokenizer refuses the ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let text = caught(|| self.inner.decode(ids, true)).map_err(|words| unusable(&words))?;
        text.map_err(|error| refusal(&*error))
    }

    /// The token of an id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// How the tokens join into words.
    pub fn word_parts(&self) -> WordParts {
        WordParts::of(&self.inner, self.vocab)
    }
}

/// The tokenizer's own words as our error.
fn refusal(error: &(dyn std::error::Error + Send + Sync)) -> Error {
    unusable(&error.to_string())
}

fn unusable(words: &str) -> Error {
    Error::Data { path: "tokenizer.json".into(), message: words.to_owned() }
}
