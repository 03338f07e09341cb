//! A run's folder: who may use it, and where its parts lie.

use crate::{
    error::{AtPath, Error, Result},
    files::{atomic::replace_file, names},
};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

/// What to do with a run that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Refuse to touch it.
    Never,
    /// Continue after its last checkpoint, or start it where there is none.
    Auto,
}

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
    /// [`Error::Checkpoint`] where another process uses it, or a run is there that is not to be resumed;
    /// where the system refuses.
    pub fn claim(path: PathBuf, resume: Resume) -> Result<Self> {
        let folder = RunFolder::lock(path)?;
        if folder.is_begun() && resume == Resume::Never {
            return Err(Error::Checkpoint {
                path: folder.path,
                message:
                    "a run is here already: `--resume auto` continues it, another `run.name` starts a new one"
                        .into(),
            });
        }
        Ok(folder)
    }

    fn lock(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).at(&path)?;
        let file = path.join(names::LOCK);
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
        self.path.join(names::CHECKPOINTS)
    }

    fn config(&self) -> PathBuf {
        self.path.join(names::CONFIG)
    }

    /// Writes the resolved configuration: the old file or the new one is there at any moment.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn write_config(&self, text: &str) -> Result<()> {
        replace_file(&self.config(), text.as_bytes())
    }

    /// The finished model in Hugging Face layout.
    pub fn last(&self) -> PathBuf {
        self.path.join(names::FINAL)
    }

    /// Whether a run has begun here.
    pub fn is_begun(&self) -> bool {
        self.config().exists() || self.checkpoints().exists()
    }
}
