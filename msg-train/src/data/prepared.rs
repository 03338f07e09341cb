//! A prepared folder, opened.

use super::{
    documents::{self, Documents},
    manifest::Manifest,
    shards::Shards,
    tokenizer::Tokenizer,
};
use crate::{
    error::{AtPath, Error, Result},
    files::names::{DOCUMENTS, TOKENIZER},
};
use std::{fs, path::Path};

/// Which documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Those to train on.
    Train,
    /// Those to evaluate on.
    HeldOut,
}

/// A corpus as tokens. Memory is 8 bytes a document; tokens stay on disk.
#[derive(Debug)]
pub struct Prepared {
    manifest: Manifest,
    tokenizer: Tokenizer,
    parts: [Documents; 2],
    shards: Shards,
}

impl Prepared {
    /// Opens a folder that [`prepare`](super::prepare()) made and checks all of it.
    ///
    /// # Errors
    /// Where it is unfinished, or a file is missing, cut or changed.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        let path = folder.join(TOKENIZER);
        let json = fs::read(&path).at(&path)?;
        let hash = blake3::hash(&json).to_hex();
        if hash.as_str() != manifest.tokenizer_blake3 {
            let message = format!("expected BLAKE3 {}, got {hash}", manifest.tokenizer_blake3);
            return Err(Error::Data { path, message });
        }
        let tokenizer = Tokenizer::parse(&path, json, manifest.recipe.specials)?;
        let parts = documents::read(folder, &manifest)?;
        let shards = Shards::open(folder, &manifest)?;
        Ok(Prepared { manifest, tokenizer, parts, shards })
    }

    /// What it holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The documents of a part.
    pub fn documents(&self, part: Part) -> &Documents {
        match part {
            Part::Train => &self.parts[0],
            Part::HeldOut => &self.parts[1],
        }
    }

    /// Fills `out` with a part's tokens from number `at` on.
    ///
    /// # Errors
    /// Where they are not all there, or a shard cannot be read.
    pub fn read(&self, part: Part, at: u64, out: &mut [u32]) -> Result<()> {
        let documents = self.documents(part);
        let (mut at, mut out) = (at, out);
        while !out.is_empty() {
            let (corpus, length) = documents.stretch(at, out.len() as u64);
            if length == 0 {
                return Err(Error::Data {
                    path: DOCUMENTS.into(),
                    message: format!("expected a token below {}, got {at}", documents.tokens()),
                });
            }
            let (now, later) = out.split_at_mut(length as usize);
            self.shards.read(corpus, now)?;
            (at, out) = (at + length, later);
        }
        Ok(())
    }
}
