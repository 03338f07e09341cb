//! The configuration that a checkpoint was saved under.

use super::CONFIG;
use crate::{
    config::{self, FamilyRules, Resolved},
    error::Result,
    files::bounded_json,
};
use std::path::Path;

/// The configuration that a checkpoint was saved under, where it came from a run; `families` are those that it may
/// name.
///
/// # Errors
/// Where it cannot be read.
pub fn config_of(checkpoint: &Path, families: &[FamilyRules]) -> Result<Option<Resolved>> {
    let path = checkpoint.join(CONFIG);
    if !path.exists() {
        return Ok(None);
    }
    let text = bounded_json::text(&path)?;
    config::parse_saved(&text, &path.display().to_string(), families).map(Some)
}
