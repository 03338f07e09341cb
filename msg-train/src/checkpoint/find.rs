//! Which checkpoint a path means, and what it was saved under.

use super::{CONFIG, MARKER, latest};
use crate::{
    config::RunConfig,
    error::{AtPath, Error, Result},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The checkpoint that `path` means: itself, or the latest one of a run's folder.
///
/// # Errors
/// [`Error::Checkpoint`] where it is neither, or the run has no checkpoint yet.
pub fn find(path: &Path) -> Result<PathBuf> {
    if path.join(MARKER).is_file() {
        return Ok(path.to_owned());
    }
    let found = match path.join("checkpoints") {
        all if all.is_dir() => latest(&all)?,
        _ => None,
    };
    found.ok_or_else(|| Error::Checkpoint {
        path: path.to_owned(),
        message: format!(
            "expected a checkpoint (a folder with {MARKER}) or a run's folder with one, got neither"
        ),
    })
}

/// The resolved configuration that a checkpoint was saved under.
///
/// # Errors
/// Where it cannot be read.
pub fn config_of(checkpoint: &Path) -> Result<RunConfig> {
    let path = checkpoint.join(CONFIG);
    let text = fs::read_to_string(&path).at(&path)?;
    RunConfig::parse(&text, &path.display().to_string(), &[])
}
