//! Token files, checked when opened, then read at any place.

use super::{
    manifest::{Dtype, Manifest, Shard},
    positioned::read_exact_at,
};
use crate::{
    error::{AtPath, Error, Result},
    files::names::MANIFEST,
};
use rayon::prelude::*;
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// Bytes read at a time while a shard is checked; a multiple of every dtype's size.
const BLOCK: usize = 1 << 20;

/// The tokens of a corpus.
#[derive(Debug)]
pub(super) struct Shards {
    files: Vec<(PathBuf, File)>,
    dtype: Dtype,
    shard_tokens: u64,
    vocab: usize,
}

impl Shards {
    /// Opens all shards and checks, in parallel, the size, hash and ids of each.
    pub(super) fn open(folder: &Path, manifest: &Manifest) -> Result<Self> {
        let (dtype, shard_tokens, vocab) = (manifest.dtype, manifest.recipe.shard_tokens, manifest.vocab);
        check_counts(folder, manifest)?;
        let shards = manifest.shards.par_iter();
        // Of several damaged shards the first is named, whichever thread was quicker.
        let files: Vec<Result<_>> = shards.map(|shard| open(folder, shard, dtype, vocab)).collect();
        let files = files.into_iter().collect::<Result<_>>()?;
        Ok(Shards { files, dtype, shard_tokens, vocab })
    }

    /// Fills `out` with the tokens from number `at` on, which must all be there.
    pub(super) fn read(&self, at: u64, out: &mut [u32]) -> Result<()> {
        let (mut at, mut out) = (at, out);
        let mut bytes = Vec::new();
        while !out.is_empty() {
            let (shard, within) = ((at / self.shard_tokens) as usize, at % self.shard_tokens);
            let length = (self.shard_tokens - within).min(out.len() as u64);
            let (now, later) = out.split_at_mut(length as usize);
            let Some((path, file)) = self.files.get(shard) else {
                return Err(Error::Data {
                    path: format!("tokens-{shard:05}.bin").into(),
                    message: format!("expected token {at} in one of {} shards, got none", self.files.len()),
                });
            };
            bytes.resize((length * self.dtype.bytes()) as usize, 0);
            read_exact_at(file, &mut bytes, within * self.dtype.bytes()).at(path)?;
            for (out, id) in now.iter_mut().zip(ids(&bytes, self.dtype)) {
                *out = id;
            }
            check_ids(path, now.iter().copied(), at, self.vocab)?;
            (at, out) = (at + length, later);
        }
        Ok(())
    }
}

/// The manifest's own numbers must agree, else a read would find nothing where tokens should be.
fn check_counts(folder: &Path, manifest: &Manifest) -> Result<()> {
    let sum: u64 = manifest.shards.iter().map(|shard| shard.tokens).sum();
    let full = manifest.shards.split_last().is_none_or(|(last, full)| {
        full.iter().all(|shard| shard.tokens == manifest.recipe.shard_tokens)
            && last.tokens <= manifest.recipe.shard_tokens
    });
    if sum == manifest.counts.tokens && full && manifest.recipe.shard_tokens > 0 {
        return Ok(());
    }
    Err(Error::Data {
        path: folder.join(MANIFEST),
        message: format!(
            "expected {} tokens in shards of {}, got {sum}",
            manifest.counts.tokens, manifest.recipe.shard_tokens
        ),
    })
}

fn open(folder: &Path, shard: &Shard, dtype: Dtype, vocab: usize) -> Result<(PathBuf, File)> {
    let path = folder.join(&shard.file);
    let refused = |message: String| Err(Error::Data { path: path.clone(), message });
    let file = File::open(&path).at(&path)?;
    let (expected, got) = (shard.tokens * dtype.bytes(), file.metadata().at(&path)?.len());
    if expected != got {
        return refused(format!("expected {expected} bytes, got {got}"));
    }
    let mut hash = blake3::Hasher::new();
    let mut block = vec![0; BLOCK.min(expected as usize)];
    let mut unknown = Ok(());
    let mut at = 0;
    while at < expected {
        block.truncate((expected - at) as usize);
        read_exact_at(&file, &mut block, at).at(&path)?;
        hash.update(&block);
        if unknown.is_ok() {
            unknown = check_ids(&path, ids(&block, dtype), at / dtype.bytes(), vocab);
        }
        at += block.len() as u64;
    }
    let hash = hash.finalize().to_hex();
    if hash.as_str() != shard.blake3 {
        return refused(format!("expected BLAKE3 {}, got {hash}", shard.blake3));
    }
    // After the hash: bytes that changed explain a wild id better than the tokenizer does.
    unknown?;
    Ok((path, file))
}

fn ids(bytes: &[u8], dtype: Dtype) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(dtype.bytes() as usize).map(|id| {
        let mut wide = [0; 4];
        wide[..id.len()].copy_from_slice(id);
        u32::from_le_bytes(wide)
    })
}

/// Refuses an id beyond the vocabulary; `first` is the number of the first one.
fn check_ids(path: &Path, ids: impl Iterator<Item = u32>, first: u64, vocab: usize) -> Result<()> {
    match (first..).zip(ids).find(|&(_, id)| id as usize >= vocab) {
        None => Ok(()),
        Some((at, id)) => Err(Error::Data {
            path: path.to_owned(),
            message: format!("expected token ids below {vocab}, got {id} at token {at}"),
        }),
    }
}
