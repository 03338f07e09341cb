//! Checkpoints: all that a run needs to continue to the bit.
//!
//! A checkpoint is a folder `step-NNNNNNNN` with the model, the optimizer's slots (a file each; for AdamW its two
//! moments), the resolved configuration, the tokenizer and `state.json`; `checkpoint.json` is written last and holds the hashes of all of
//! them. It is made under a temporary name and renamed, so that a folder of that name is whole.
//!
//! A model without an optimizer (imported, grown or converted) is a checkpoint, too: it lacks the slots, and
//! the configuration and tokenizer where its source had none.

mod config;
mod find;
mod keep;
mod mend;
mod model;
mod origin;
mod read;
mod saved;
mod slots;
mod write;

pub use config::config_of;
pub use find::{family_of, find};
pub use keep::{Action, remove, retention};
pub use mend::mend;
pub use model::{ModelSnapshot, save_model};
pub use origin::Origin;
pub(crate) use origin::origin_of;
pub use read::{Loaded, latest, load, load_model, steps};
pub(crate) use read::{blank_model, marked, marked_hash};
pub use saved::{Saved, open, open_as};
pub(crate) use saved::{tokenizer_bytes, tokenizer_of};
pub(crate) use write::hash;
pub use write::{Snapshot, save};

pub use crate::files::names::MARKER;
use crate::files::names::{self, CONFIG, ORIGIN};
pub(crate) use crate::files::names::{MODEL, STATE, TOKENIZER};

use crate::step::state::State;
use msg_core::optim::{BirthSteps, all_slots};
use msg_models::GrowthState;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// All that a checkpoint can hold besides its marker and the optimizer's slots, and what it must.
const FILES: [&str; 5] = [MODEL, STATE, CONFIG, TOKENIZER, ORIGIN];
const REQUIRED: [&str; 2] = [MODEL, STATE];
const FORMAT: u32 = 1;
/// What the names of folders begin with that are being written, are about to give way (their step follows)
/// and are being removed. None of them is a checkpoint; [`mend`] deals with those that a killed run left.
const SAVING: &str = ".saving-";
const REPLACED: &str = ".replaced-";
const REMOVING: &str = ".removing-";

/// The marker: format and hashes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    format: u32,
    step: u64,
    /// BLAKE3 of every other file, in hexadecimal.
    files: BTreeMap<String, String>,
}

/// Everything that is not a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The family; early checkpoints say it in their configuration alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Where the run stands.
    pub state: State,
    /// Sizes, ramps and layer identities.
    pub growing: GrowthState,
    /// What a model of its sizes is made from, in the family's own terms.
    pub model: serde_json::Value,
    /// When units and layers were created, in applied updates.
    pub births: BirthSteps,
    /// Updates applied.
    pub applied: u64,
    /// The kind of the optimizer; AdamW where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<String>,
}

/// The names of all files that a checkpoint can hold besides its marker.
fn files() -> impl Iterator<Item = String> {
    FILES.iter().map(|name| (*name).to_owned()).chain(all_slots().map(slot_file))
}

/// The file of an optimizer's slot.
fn slot_file(slot: &str) -> String {
    format!("{slot}.safetensors")
}

/// The folder's name for a step.
fn folder_name(step: u64) -> PathBuf {
    names::checkpoint(step).into()
}
