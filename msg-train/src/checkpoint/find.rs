//! Which checkpoint a path means, and what it was saved under.

use super::{CONFIG, MARKER, STATE, latest};
use crate::{
    config::{self, Family, Resolved},
    error::{Error, Result},
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

/// The family of a checkpoint's model.
///
/// # Errors
/// Where neither its header nor its configuration can be read.
pub fn family_of(checkpoint: &Path) -> Result<Family> {
    /// The one key; the rest is checked by whoever loads the model.
    #[derive(Deserialize)]
    struct Named {
        family: Option<Family>,
    }
    let path = checkpoint.join(STATE);
    if let Named { family: Some(family) } = bounded_json::read(&path)? {
        return Ok(family);
    }
    let config = config_of(checkpoint)?;
    config
        .map(|config| config.model().family)
        .ok_or_else(|| Error::Checkpoint { path, message: "expected the key `family`, got none".into() })
}

/// The resolved configuration that a checkpoint was saved under, where it came from a run.
///
/// # Errors
/// Where it cannot be read.
pub fn config_of(checkpoint: &Path) -> Result<Option<Resolved>> {
    let path = checkpoint.join(CONFIG);
    if !path.exists() {
        return Ok(None);
    }
    let text = bounded_json::text(&path)?;
    config::parse_saved(&text, &path.display().to_string()).map(Some)
}
