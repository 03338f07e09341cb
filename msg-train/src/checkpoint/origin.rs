//! What the files of a published model say besides its tensors: kept for the way back to transformers.

use super::ORIGIN;
use crate::{error::Result, files::bounded_json};
use msg_models::hf::Naming;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// A published model's own configuration, and which of our tensors it does not have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// `config.json`.
    pub config: Map<String, Value>,
    /// `generation_config.json`, where there is one.
    pub generation: Option<Map<String, Value>>,
    /// What the names of heads begin with that the files lack; ours are fresh.
    pub absent: Vec<String>,
    /// Whether the names lack the body's prefix.
    pub bare: bool,
}

impl Origin {
    /// The name of one of our tensors in files like the model's own; `None` where they lack it.
    pub fn named(&self, naming: &Naming, name: &str) -> Option<String> {
        if self.absent.iter().any(|group| name.starts_with(group)) {
            return None;
        }
        let short = if self.bare { name.strip_prefix(naming.prefix) } else { None };
        Some(short.unwrap_or(name).to_owned())
    }
}

/// What the published files of a checkpoint's model said, where it had some.
///
/// # Errors
/// Where the file cannot be read.
pub(crate) fn origin_of(checkpoint: &Path) -> Result<Option<Origin>> {
    let path = checkpoint.join(ORIGIN);
    path.exists().then(|| bounded_json::read(&path)).transpose()
}
