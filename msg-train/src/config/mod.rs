//! What a user writes: one TOML file, a table for each part of a run.
//!
//! The structs are the keys. Each table is checked by the part that owns it; rules across tables are
//! checked when the file is read, before anything is made.

mod data;
mod model;
mod schedule;
mod train;

pub use data::{DataConfig, InvalidUtf8, MlmConfig, TokenizerConfig, TokenizerKind};
pub use model::{Family, ModelConfig};
pub use schedule::{LrAtGrowth, LrConfig, LrShape, StageConfig};
pub use train::{Guard, InitFrom, RunTable, TrainConfig};

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
