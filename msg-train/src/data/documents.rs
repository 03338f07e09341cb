//! Where documents end, and which are held out: `documents.bin`, one little-endian u64 a document, twice the
//! token that it ends before, plus one where it is held out.

use super::manifest::Manifest;
use crate::{
    error::{AtPath, Error, Result},
    files::names::DOCUMENTS,
};
use std::{fs, path::Path};

/// The documents of one part of a corpus, the part's tokens taken as one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    /// The stream's token that each document ends before.
    ends: Vec<u64>,
    /// Stretches of documents that are neighbours in the corpus, too.
    runs: Vec<Run>,
}

/// A stretch of the corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Its first token in the part's stream.
    stream: u64,
    /// The same token in the corpus.
    corpus: u64,
}

/// The bytes of the file.
pub(super) fn to_bytes(documents: &[(u64, bool)]) -> Vec<u8> {
    documents.iter().flat_map(|&(end, held_out)| (end << 1 | u64::from(held_out)).to_le_bytes()).collect()
}

/// Reads the training and the held-out documents of a folder.
pub(super) fn read(folder: &Path, manifest: &Manifest) -> Result<[Documents; 2]> {
    let path = folder.join(DOCUMENTS);
    let refused = |message: String| Err(Error::Data { path: path.clone(), message });
    let bytes = fs::read(&path).at(&path)?;
    let expected = manifest.counts.boundaries * size_of::<u64>() as u64;
    if bytes.len() as u64 != expected {
        return refused(format!("expected {expected} bytes, got {}", bytes.len()));
    }
    let hash = blake3::hash(&bytes).to_hex();
    if hash.as_str() != manifest.documents_blake3 {
        return refused(format!("expected BLAKE3 {}, got {hash}", manifest.documents_blake3));
    }
    let mut parts = [Documents::default(), Documents::default()];
    let (mut start, mut before) = (0, None);
    for entry in bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)) {
        let (end, held_out) = (entry >> 1, entry & 1 == 1);
        if end <= start {
            return refused(format!("expected a document to end after token {start}, got {end}"));
        }
        let part = &mut parts[usize::from(held_out)];
        if before != Some(held_out) {
            part.runs.push(Run { stream: part.tokens(), corpus: start });
        }
        part.ends.push(part.tokens() + end - start);
        (start, before) = (end, Some(held_out));
    }
    let held_out = parts[1].tokens();
    if (start, held_out) != (manifest.counts.tokens, manifest.counts.held_out_tokens) {
        return refused(format!(
            "expected {} tokens of which {} held out, got {start} and {held_out}",
            manifest.counts.tokens, manifest.counts.held_out_tokens
        ));
    }
    Ok(parts)
}

impl Documents {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Tokens of all of them.
    pub fn tokens(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The stream's tokens of a document: first, and one past the last.
    ///
    /// # Panics
    /// If there is no such document.
    pub fn bounds(&self, document: usize) -> (u64, u64) {
        let start = document.checked_sub(1).map_or(0, |before| self.ends[before]);
        (start, self.ends[document])
    }

    /// Where the stream's tokens lie in the corpus: from `at` on, at most `length` of them in one stretch.
    /// Gives the first one's place there and their number, which is 0 only past the end.
    pub(super) fn stretch(&self, at: u64, length: u64) -> (u64, u64) {
        let next = self.runs.partition_point(|run| run.stream <= at);
        let Some(run) = next.checked_sub(1).map(|run| self.runs[run]) else { return (0, 0) };
        let end = self.runs.get(next).map_or(self.tokens(), |run| run.stream);
        (run.corpus + (at - run.stream), length.min(end.saturating_sub(at)))
    }
}
