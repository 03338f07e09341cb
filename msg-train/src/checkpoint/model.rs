//! A model without an optimizer as a checkpoint: what imports, growths and conversions leave.

use super::{CONFIG, Header, ORIGIN, Origin, STATE, TOKENIZER, write::write_marker};
use crate::{
    error::{Error, Result},
    families::family::Family,
    files::{atomic::write_synced, new_folder::fresh_folder},
    step::state::State,
};
use msg_core::{Backend, optim::BirthSteps};
use msg_models::hf::{self, Format};
use serde::Serialize;
use std::path::Path;

/// What is saved.
#[derive(Debug)]
pub struct ModelSnapshot<'a, M> {
    /// The model, with its ramps.
    pub model: &'a M,
    /// Where its run stood.
    pub state: &'a State,
    /// The resolved configuration of its run, as TOML, where it had one.
    pub config: Option<&'a str>,
    /// Its tokenizer.json, where it has one.
    pub tokenizer: Option<&'a [u8]>,
    /// What its published files said, where it had some.
    pub origin: Option<&'a Origin>,
    /// How its tensors are stored. Names stay as they are, and there is one file.
    pub format: Format<'a>,
}

/// Makes the checkpoint `out`, which must not be there yet.
///
/// # Errors
/// Where it is there, the system refuses, or a value is not finite as stored. Then there is no such folder.
pub fn save_model<D: Backend, M: Family<D>>(out: &Path, snapshot: &ModelSnapshot<'_, M>) -> Result<()> {
    let ModelSnapshot { model, state, config, tokenizer, origin, format } = snapshot;
    fresh_folder(out, |folder| {
        let format = Format { named: &|name| Some(name.to_owned()), largest: u64::MAX, ..*format };
        hf::save_folder(*model, &M::NAMING, &format, folder)?;
        let header = Header {
            family: Some(M::RULES.name.to_owned()),
            state: (*state).clone(),
            growing: model.growing().clone(),
            model: json(folder, &model.config_now())?,
            births: BirthSteps::default(),
            applied: 0,
            optimizer: None,
        };
        write_json(folder, STATE, &header)?;
        if let Some(config) = config {
            write_synced(&folder.join(CONFIG), config.as_bytes())?;
        }
        if let Some(tokenizer) = tokenizer {
            write_synced(&folder.join(TOKENIZER), tokenizer)?;
        }
        if let Some(origin) = origin {
            write_json(folder, ORIGIN, origin)?;
        }
        write_marker(folder, state.step)
    })
}

fn json<T: Serialize>(folder: &Path, value: &T) -> Result<serde_json::Value> {
    let malformed =
        |error: serde_json::Error| Error::Checkpoint { path: folder.to_owned(), message: error.to_string() };
    serde_json::to_value(value).map_err(malformed)
}

fn write_json<T: Serialize>(folder: &Path, name: &str, value: &T) -> Result<()> {
    let text = format!("{:#}\n", json(folder, value)?);
    write_synced(&folder.join(name), text.as_bytes())
}
