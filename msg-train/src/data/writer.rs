//! Writing a prepared folder: token shards, the lock, and what an earlier preparation left.

use super::manifest::{Dtype, Shard};
use crate::{
    error::{AtPath, Result},
    files::{
        atomic::{UNFINISHED, Unfinished},
        names::{self, DOCUMENTS, LOCK, MANIFEST, TOKENIZER},
    },
};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

/// Writes tokens to shards of a fixed size.
pub(super) struct ShardWriter {
    folder: PathBuf,
    dtype: Dtype,
    shard_tokens: u64,
    open: Option<OpenShard>,
    done: Vec<Shard>,
    bytes: Vec<u8>,
}

/// A shard that has room for more tokens.
struct OpenShard {
    name: String,
    file: Unfinished,
    hash: blake3::Hasher,
    tokens: u64,
}

impl ShardWriter {
    pub(super) fn new(folder: &Path, dtype: Dtype, shard_tokens: u64) -> Self {
        let folder = folder.to_owned();
        ShardWriter { folder, dtype, shard_tokens, open: None, done: Vec::new(), bytes: Vec::new() }
    }

    /// Adds tokens; each must be in the range of the dtype.
    pub(super) fn push(&mut self, mut tokens: &[u32]) -> Result<()> {
        while !tokens.is_empty() {
            let open = match &mut self.open {
                Some(open) => open,
                None => self.open.insert(OpenShard::create(&self.folder, self.done.len())?),
            };
            let room = (self.shard_tokens - open.tokens).min(tokens.len() as u64);
            let (now, later) = tokens.split_at(room as usize);
            self.bytes.clear();
            match self.dtype {
                Dtype::U16 => self.bytes.extend(now.iter().flat_map(|&id| (id as u16).to_le_bytes())),
                Dtype::U32 => self.bytes.extend(now.iter().flat_map(|id| id.to_le_bytes())),
            }
            open.hash.update(&self.bytes);
            open.file.write(&self.bytes)?;
            open.tokens += room;
            if open.tokens == self.shard_tokens {
                self.close()?;
            }
            tokens = later;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some(OpenShard { name, file, hash, tokens }) = self.open.take() {
            file.finish()?;
            self.done.push(Shard { file: name, tokens, blake3: hash.finalize().to_hex().to_string() });
        }
        Ok(())
    }

    /// Ends the last shard.
    pub(super) fn finish(mut self) -> Result<Vec<Shard>> {
        self.close()?;
        Ok(self.done)
    }
}

impl OpenShard {
    fn create(folder: &Path, at: usize) -> Result<Self> {
        let name = names::shard(at);
        let file = Unfinished::create(folder.join(&name))?;
        Ok(OpenShard { name, file, hash: blake3::Hasher::new(), tokens: 0 })
    }
}

/// Makes the folder and waits until no other process writes to it. The lock ends with the file, or with the
/// process that holds it.
pub(super) fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).at(folder)?;
    let path = folder.join(LOCK);
    let file = File::create(&path).at(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            tracing::warn!("waiting for another process that prepares {}", folder.display());
            file.lock().at(&path)?;
            Ok(file)
        }
        Err(TryLockError::Error(source)) => Err(source).at(&path),
    }
}

/// Removes what an earlier preparation left: the manifest first, so that nothing half removed looks whole.
pub(super) fn clear(folder: &Path) -> Result<()> {
    let manifest = folder.join(MANIFEST);
    if manifest.try_exists().at(&manifest)? {
        fs::remove_file(&manifest).at(&manifest)?;
    }
    for entry in fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.strip_suffix(UNFINISHED).unwrap_or(name);
        if [MANIFEST, TOKENIZER, DOCUMENTS].contains(&name) || names::is_shard(name) {
            fs::remove_file(&path).at(&path)?;
        }
    }
    Ok(())
}
