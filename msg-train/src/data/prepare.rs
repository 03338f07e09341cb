//! Sources to token shards: one pass to hash the text (and to learn a tokenizer), one to tokenise it.
//!
//! Memory is bounded by a batch of pieces, the words of the tokenizer's sample and 8 bytes a document.
//! Pieces are tokenised in parallel and written in order: threads change nothing.

use super::{
    documents::to_bytes,
    manifest::{Counts, Dtype, Manifest, Recipe},
    source::{self, CargoFolders, Piece, Source},
    split::{Selection, select},
    tokenizer::{Tokenizer, Trainer},
    writer::{ShardWriter, clear, lock},
};
use crate::{
    config::{DataConfig, SpecialTokens, TokenizerKind},
    error::{Error, Result},
    files::{
        atomic::replace_file,
        names::{DOCUMENTS, TOKENIZER},
    },
};
use msg_core::random::{Key, philox4x32};
use rayon::prelude::*;
use std::path::Path;

/// Text tokenised at a time, in bytes.
const BATCH: usize = 2 << 20;
/// Text that a tokenizer is trained on, in bytes; of a larger corpus a sample of about this size.
const SAMPLE: u64 = 64 << 20;

/// What to prepare.
#[derive(Clone, Debug)]
pub struct Prepare<'a> {
    /// The `[data]` table.
    pub config: &'a DataConfig,
    /// The special tokens, which say how documents end.
    pub specials: SpecialTokens,
    /// Where shards go.
    pub folder: &'a Path,
    /// Whether another preparation there is replaced.
    pub replace: bool,
    /// Where the sources of crates lie.
    pub cargo: CargoFolders,
    /// Tokens of a shard.
    pub shard_tokens: u64,
}

impl<'a> Prepare<'a> {
    /// With shards of 16 Mi tokens and cargo's folders as seen from the working directory, replacing nothing.
    pub fn new(config: &'a DataConfig, specials: SpecialTokens, folder: &'a Path) -> Self {
        let cargo = CargoFolders::around(&std::env::current_dir().unwrap_or_default());
        Prepare { config, specials, folder, replace: false, cargo, shard_tokens: 1 << 24 }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The text is read and hashed, words are counted.
    Scan,
    /// The tokenizer is learnt.
    Learn,
    /// The text is tokenised.
    Tokenize,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes of text done.
    pub done: u64,
    /// Bytes of text in all; an estimate while scanning.
    pub total: u64,
}

/// Prepares a corpus, or finds it prepared: an identical preparation in the folder is left as it is.
///
/// # Errors
/// Where a source cannot be read or has no text, a key is impossible, the text is not the expected one, the
/// folder holds another preparation (and that is not to be replaced), or writing fails.
pub fn prepare(request: &Prepare<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Manifest> {
    let Prepare { config, specials, folder, .. } = *request;
    if !DataConfig::HELD_OUT.contains(&config.held_out) {
        return Err(Error::Config {
            file: "configuration".into(),
            key: "data.held_out".into(),
            expected: DataConfig::HELD_OUT_IN_WORDS.into(),
            got: config.held_out.to_string(),
        });
    }
    let given = given_tokenizer(config, specials)?;
    let trainer = Trainer::new(&config.tokenizer, specials)?;
    let sources = Sources::find(request)?;
    let before = match Manifest::exists(folder)? {
        // What cannot be read is replaced, too.
        true if request.replace => Manifest::read(folder).ok(),
        true => Some(Manifest::read(folder)?),
        false => None,
    };
    let text = match &before {
        Some(_) => Some(sources.scan(None, progress)?),
        None => None,
    };
    let file_hash = given.as_ref().map(|given| blake3::hash(given.json()).to_hex().to_string());
    let recipe = |text: &Text| {
        let (hash, shards) = (text.hash.clone(), request.shard_tokens);
        Recipe::new(hash, specials, &config.tokenizer, file_hash.clone(), config.held_out, shards)
    };
    if let (Some(before), Some(text)) = (&before, &text) {
        let differences = before.recipe.differences(&recipe(text));
        if differences.is_empty() {
            return Ok(before.clone());
        }
        if !request.replace {
            let message = format!(
                "holds another preparation: {}; replace it or choose another folder",
                differences.join(", ")
            );
            return Err(Error::Data { path: folder.to_owned(), message });
        }
    }
    let (text, tokenizer) = match (given, trainer) {
        (Some(given), _) => (text.map_or_else(|| sources.scan(None, progress), Ok)?, given),
        (None, Some(mut trainer)) => {
            let text = match text {
                Some(text) if !trainer.wants_text() => text,
                _ => sources.scan(Some(&mut trainer), progress)?,
            };
            progress(Progress { phase: Phase::Learn, done: 0, total: text.bytes });
            (text, trainer.finish()?)
        }
        (None, None) => return Err(no_tokenizer()),
    };
    // Held until all is written. A process that waited for it finds what the other one wrote.
    let _lock = lock(folder)?;
    if before.is_none() && !request.replace && Manifest::exists(folder)? {
        return prepare(request, progress);
    }
    clear(folder)?;
    let mut writer = Writer::new(request, &tokenizer);
    sources.tokenize(&text, &tokenizer, &mut writer, progress)?;
    writer.finish(recipe(&text), &text, &tokenizer)
}

/// The tokenizer of `kind = "file"`.
fn given_tokenizer(config: &DataConfig, specials: SpecialTokens) -> Result<Option<Tokenizer>> {
    match (config.tokenizer.kind, &config.tokenizer.path) {
        (TokenizerKind::File, Some(path)) => Tokenizer::read(path, specials).map(Some),
        (TokenizerKind::File, None) => Err(no_tokenizer()),
        _ => Ok(None),
    }
}

fn no_tokenizer() -> Error {
    Error::Config {
        file: "configuration".into(),
        key: "data.tokenizer.path".into(),
        expected: "a tokenizer.json for kind = \"file\"".into(),
        got: "none".into(),
    }
}

/// What the first pass finds.
struct Text {
    hash: String,
    bytes: u64,
    invalid: u64,
}

/// The source, and the hash that its text must have.
struct Sources<'a> {
    source: Box<dyn Source>,
    expect_hash: Option<&'a str>,
}

impl<'a> Sources<'a> {
    fn find(request: &Prepare<'a>) -> Result<Self> {
        let source = source::open(request.config, &request.cargo)?;
        Ok(Sources { source, expect_hash: request.config.expect_hash.as_deref() })
    }

    /// Reads all text, hashes it, and lets a trainer see its sample.
    fn scan(&self, mut trainer: Option<&mut Trainer>, progress: &mut dyn FnMut(Progress)) -> Result<Text> {
        let mut documents = self.source.documents()?;
        let mut hash = TextHash::default();
        let mut sample = Sample::of(self.source.estimate());
        let mut pieces = documents.batch(BATCH)?;
        while !pieces.is_empty() {
            pieces.iter().for_each(|piece| hash.add(piece));
            if let Some(trainer) = trainer.as_deref_mut().filter(|trainer| trainer.wants_text()) {
                let texts: Vec<&str> = pieces
                    .iter()
                    .map(|piece| piece.text.as_str())
                    .filter(|text| sample.takes(text))
                    .collect();
                trainer.count(&texts);
            }
            let total = self.source.estimate().max(hash.bytes);
            progress(Progress { phase: Phase::Scan, done: hash.bytes, total });
            pieces = documents.batch(BATCH)?;
        }
        let path = || self.source.place().to_owned();
        if hash.bytes == 0 {
            let message = "expected text, got none".to_owned();
            return Err(Error::Data { path: path(), message });
        }
        let text = Text { bytes: hash.bytes, hash: hash.finish(), invalid: documents.invalid() };
        match self.expect_hash {
            Some(expected) if !expected.eq_ignore_ascii_case(&text.hash) => {
                let message = format!(
                    "expected all text from here on to have the BLAKE3 hash {expected}, got {}",
                    text.hash
                );
                Err(Error::Data { path: path(), message })
            }
            _ => Ok(text),
        }
    }

    /// Reads all text again and writes its tokens.
    fn tokenize(
        &self,
        text: &Text,
        tokenizer: &Tokenizer,
        writer: &mut Writer<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let mut documents = self.source.documents()?;
        let mut hash = TextHash::default();
        let mut pieces = documents.batch(BATCH)?;
        while !pieces.is_empty() {
            let (tokens, next) = rayon::join(
                || pieces.par_iter().map(|piece| tokenizer.encode(&piece.text)).collect::<Result<Vec<_>>>(),
                || documents.batch(BATCH),
            );
            for (piece, tokens) in pieces.iter().zip(tokens?) {
                hash.add(piece);
                writer.add(&tokens, piece.last)?;
            }
            progress(Progress { phase: Phase::Tokenize, done: hash.bytes, total: text.bytes });
            pieces = next?;
        }
        let got = hash.finish();
        if got == text.hash {
            return Ok(());
        }
        Err(Error::Data {
            path: self.source.place().to_owned(),
            message: format!("the text changed while it was read: expected BLAKE3 {}, got {got}", text.hash),
        })
    }
}

/// Hash and size of the text.
#[derive(Default)]
struct TextHash {
    hasher: blake3::Hasher,
    bytes: u64,
}

impl TextHash {
    fn add(&mut self, piece: &Piece) {
        self.hasher.update(piece.text.as_bytes());
        if piece.last {
            self.hasher.update(&[u8::MAX]);
        }
        self.bytes += piece.text.len() as u64;
    }

    fn finish(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}

/// Which pieces a tokenizer is trained on: all of a small corpus, of a larger one an even share.
struct Sample {
    share: f64,
    piece: u64,
    taken: u64,
}

impl Sample {
    fn of(estimate: u64) -> Self {
        Sample { share: SAMPLE as f64 / estimate.max(1) as f64, piece: 0, taken: 0 }
    }

    fn takes(&mut self, text: &str) -> bool {
        let key = Key::new(0, "data.tokenizer.sample", 0);
        let [word, ..] = philox4x32([self.piece as u32, (self.piece >> 32) as u32, 0, 0], key);
        self.piece += 1;
        // The estimate may be far off for compressed files: the sample is bounded all the same.
        let taken = f64::from(word) < self.share * 2_f64.powi(32) && self.taken < 2 * SAMPLE;
        self.taken += if taken { text.len() as u64 } else { 0 };
        taken
    }
}

/// Writes tokens and remembers where documents end.
struct Writer<'a> {
    folder: &'a Path,
    held_out: f64,
    shards: ShardWriter,
    /// Follows every document.
    end: Option<u32>,
    /// Tokens of each finished document.
    documents: Vec<u64>,
    /// Tokens of the current document so far.
    open: u64,
}

impl<'a> Writer<'a> {
    fn new(request: &Prepare<'a>, tokenizer: &Tokenizer) -> Self {
        let end = tokenizer.specials().end();
        let shards = ShardWriter::new(request.folder, Dtype::of(tokenizer.vocab()), request.shard_tokens);
        let (folder, held_out) = (request.folder, request.config.held_out);
        Writer { folder, held_out, shards, end, documents: Vec::new(), open: 0 }
    }

    /// Adds tokens of the current document, and ends it after the `last`. A document without tokens does not count.
    fn add(&mut self, tokens: &[u32], last: bool) -> Result<()> {
        self.shards.push(tokens)?;
        self.open += tokens.len() as u64;
        if last && self.open > 0 {
            if let Some(end) = self.end {
                self.shards.push(&[end])?;
                self.open += 1;
            }
            self.documents.push(std::mem::take(&mut self.open));
        }
        Ok(())
    }

    /// Writes what is left, the manifest last.
    fn finish(self, recipe: Recipe, text: &Text, tokenizer: &Tokenizer) -> Result<Manifest> {
        let Writer { folder, held_out, shards, documents, .. } = self;
        let shards = shards.finish()?;
        let boundaries = boundaries(&documents, &select(&documents, held_out));
        let mut counts = Counts {
            documents: documents.len() as u64,
            bytes: text.bytes,
            invalid: text.invalid,
            tokens: documents.iter().sum(),
            held_out_tokens: 0,
            boundaries: boundaries.len() as u64,
        };
        if counts.tokens == 0 {
            let message = format!("expected tokens, got none in {} bytes of text", text.bytes);
            return Err(Error::Data { path: folder.to_owned(), message });
        }
        let mut start = 0;
        for &(end, held_out) in &boundaries {
            counts.held_out_tokens += if held_out { end - start } else { 0 };
            start = end;
        }
        let bytes = to_bytes(&boundaries);
        let hashes = [tokenizer.json(), &bytes].map(|bytes| blake3::hash(bytes).to_hex().to_string());
        replace_file(&folder.join(TOKENIZER), tokenizer.json())?;
        replace_file(&folder.join(DOCUMENTS), &bytes)?;
        let manifest = Manifest::new(recipe, counts, tokenizer.vocab(), hashes, shards);
        manifest.write(folder)?;
        Ok(manifest)
    }
}

/// The end of each document in the corpus, and whether it is held out.
fn boundaries(documents: &[u64], selection: &Selection) -> Vec<(u64, bool)> {
    let mut boundaries = Vec::with_capacity(documents.len() + 1);
    let mut start = 0;
    for (document, (&tokens, &held_out)) in documents.iter().zip(&selection.held_out).enumerate() {
        let cut = selection.cut.filter(|&(cut, _)| cut == document);
        if let Some((_, at)) = cut {
            boundaries.push((start + at, false));
        }
        start += tokens;
        boundaries.push((start, held_out || cut.is_some()));
    }
    boundaries
}
