//! Which checkpoint a path means, and the family of its model.

use super::{MARKER, STATE, config::config_of, latest};
use crate::{
    error::{Error, Result},
    families::registry,
    files::{
        bounded_json,
        names::{CHECKPOINTS, HF_CONFIG},
    },
};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The checkpoint that `path` means: itself, or the latest one of a run's folder.
///
/// # Errors
/// [`Error::Checkpoint`] where it is neither, or the run has no checkpoint yet.
pub fn find(path: &Path) -> Result<PathBuf> {
    if path.join(MARKER).is_file() {
        return Ok(path.to_owned());
    }
    let found = match path.join(CHECKPOINTS) {
        all if all.is_dir() => latest(&all)?,
        _ => None,
    };
    let got = match path.join(HF_CONFIG).is_file() {
        true => "a published folder: `msg import` makes a checkpoint of it",
        false => "neither",
    };
    found.ok_or_else(|| Error::Checkpoint {
        path: path.to_owned(),
        message: format!(
            "expected a checkpoint (a folder with {MARKER}) or a run's folder with one, got {got}"
        ),
    })
}

/// The name of the family of a checkpoint's model.
///
/// # Errors
/// Where neither its header nor its configuration can be read.
pub fn family_of(checkpoint: &Path) -> Result<String> {
    /// The one key; the rest is checked when the model is loaded.
    #[derive(Deserialize)]
    struct Named {
        family: Option<String>,
    }
    let path = checkpoint.join(STATE);
    if let Named { family: Some(family) } = bounded_json::read(&path)? {
        return Ok(family);
    }
    // Early checkpoints name it in their configuration alone.
    let config = config_of(checkpoint, registry::RULES)?;
    config
        .map(|config| config.model().family.name.to_owned())
        .ok_or_else(|| Error::Checkpoint { path, message: "expected the key `family`, got none".into() })
}
