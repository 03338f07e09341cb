//! A run's folder: who may use it, and where its parts lie.

use crate::error::{AtPath, Error, Result};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

/// A run's folder, locked for this process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held until the run ends; the system lets go of it when the process dies.
    _lock: File,
}

impl RunFolder {
    /// Makes and locks the folder.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where another process uses it; where the system refuses.
    pub fn lock(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).at(&path)?;
        let file = path.join("lock");
        let lock = File::create(&file).at(&file)?;
        match lock.try_lock() {
            Ok(()) => Ok(RunFolder { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                Err(Error::Checkpoint { path, message: "is in use by another process".into() })
            }
            Err(TryLockError::Error(source)) => Err(Error::Io { path: file, source }),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Its resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// The finished model in Hugging Face layout.
    pub fn last(&self) -> PathBuf {
        self.path.join("final")
    }

    /// Whether a run has begun here.
    pub fn is_begun(&self) -> bool {
        self.config().exists() || self.checkpoints().exists()
    }
}
