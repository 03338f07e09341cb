//! What a user writes: one TOML file, a table for each part of a run.
//!
//! The structs are the keys. Reading goes through three steps, each in its file: keys and types (`read`,
//! `de`), rules within and across tables (`check`), defaults (`resolve`); all before anything is made.

mod check;
mod data;
mod de;
mod model;
mod read;
mod resolve;
mod schedule;
pub mod size_spec;
mod suggest;
mod train;

pub use data::{DataConfig, InvalidUtf8, MlmConfig, SpecialTokens, TokenizerConfig, TokenizerKind};
pub use model::{Family, ModelConfig};
pub use read::differing_keys;
pub use schedule::{LrAtGrowth, LrConfig, LrShape, StageConfig};
pub use train::{Guard, InitFrom, RunTable, TrainConfig};
pub(crate) use {
    check::{LARGEST, growing},
    suggest::hint,
};

use serde::{Deserialize, Serialize};

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name, folder and seed.
    pub run: RunTable,
    /// What is read.
    pub data: DataConfig,
    /// What of the model does not grow.
    pub model: ModelConfig,
    /// How steps are made.
    #[serde(default)]
    pub train: TrainConfig,
    /// The learning rate.
    pub lr: LrConfig,
    /// The stages, first to last.
    #[serde(rename = "stage")]
    pub stages: Vec<StageConfig>,
    /// Where to start from, instead of fresh weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<InitFrom>,
}
