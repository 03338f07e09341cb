//! Files that exist whole or not at all: temporary name, fsync, rename.

use super::manifest::{self, Dtype, Shard};
use crate::error::{AtPath, Result};
use std::{
    fs::{self, File, TryLockError},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

/// Ending of files that are being written.
const UNFINISHED: &str = ".tmp";
/// Bytes gathered before they are hashed and written.
const BUFFER: usize = 1 << 20;

/// Writes tokens to shards of a fixed size.
pub(super) struct ShardWriter {
    folder: PathBuf,
    dtype: Dtype,
    shard_tokens: u64,
    open: Option<Unfinished>,
    done: Vec<Shard>,
    bytes: Vec<u8>,
}

/// A file under its temporary name.
struct Unfinished {
    folder: PathBuf,
    name: String,
    file: BufWriter<File>,
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
                None => {
                    let name = super::manifest::shard_name(self.done.len());
                    self.open.insert(Unfinished::create(&self.folder, name)?)
                }
            };
            let room = (self.shard_tokens - open.tokens).min(tokens.len() as u64);
            let (now, later) = tokens.split_at(room as usize);
            self.bytes.clear();
            match self.dtype {
                Dtype::U16 => self.bytes.extend(now.iter().flat_map(|&id| (id as u16).to_le_bytes())),
                Dtype::U32 => self.bytes.extend(now.iter().flat_map(|id| id.to_le_bytes())),
            }
            open.write(&self.bytes)?;
            open.tokens += room;
            if open.tokens == self.shard_tokens {
                self.close()?;
            }
            tokens = later;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some(open) = self.open.take() {
            let (file, tokens) = (open.name.clone(), open.tokens);
            self.done.push(Shard { file, tokens, blake3: open.finish()? });
        }
        Ok(())
    }

    /// Ends the last shard.
    pub(super) fn finish(mut self) -> Result<Vec<Shard>> {
        self.close()?;
        Ok(self.done)
    }
}

impl Unfinished {
    fn create(folder: &Path, name: String) -> Result<Self> {
        let path = folder.join(format!("{name}{UNFINISHED}"));
        let file = BufWriter::with_capacity(BUFFER, File::create(&path).at(path)?);
        Ok(Unfinished { folder: folder.to_owned(), name, file, hash: blake3::Hasher::new(), tokens: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes).at(self.folder.join(&self.name))
    }

    /// Makes it durable under its own name; gives its hash.
    fn finish(self) -> Result<String> {
        let path = self.folder.join(&self.name);
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error).at(&path)?;
        file.sync_all().at(&path)?;
        fs::rename(self.folder.join(format!("{}{UNFINISHED}", self.name)), &path).at(&path)?;
        Ok(self.hash.finalize().to_hex().to_string())
    }
}

/// Writes a whole file and makes its name durable.
pub(super) fn replace_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = Unfinished::create(folder, name.to_owned())?;
    file.write(bytes)?;
    file.finish()?;
    // The renames so far, too, are in the folder's own data.
    #[cfg(unix)]
    File::open(folder).and_then(|folder| folder.sync_all()).at(folder)?;
    Ok(())
}

/// Makes the folder and waits until no other process writes to it. The lock ends with the file, or with the
/// process that holds it.
pub(super) fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).at(folder)?;
    let path = folder.join("lock");
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
    let manifest = folder.join(manifest::FILE);
    if manifest.try_exists().at(&manifest)? {
        fs::remove_file(&manifest).at(&manifest)?;
    }
    for entry in fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = name.strip_suffix(UNFINISHED).unwrap_or(name);
        let shard = name.strip_prefix("tokens-").and_then(|name| name.strip_suffix(".bin"));
        let ours = [manifest::FILE, manifest::TOKENIZER, manifest::DOCUMENTS].contains(&name)
            || shard.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        if ours {
            fs::remove_file(&path).at(&path)?;
        }
    }
    Ok(())
}
