//! What a user writes: one TOML file, a table for each part of a run.
//!
//! The structs are the keys. Reading goes through three steps, each in its file: keys and types (`read`, `de`), rules
//! within and across tables (`check`), defaults (`resolved`); all before anything is made. What comes out is a
//! [`Resolved`], and nothing else of the crate takes a configuration that is none.

mod check;
mod data;
mod de;
mod model;
pub mod operators;
mod optimizer;
mod read;
mod resolved;
mod schedule;
pub mod shapes;
pub mod size_spec;
mod suggest;
#[cfg(test)]
pub(crate) mod testing;
mod train;

pub use data::{DataConfig, InvalidUtf8, MlmConfig, SpecialTokens, TokenizerConfig, TokenizerKind};
pub use model::{FamilyRules, ModelConfig, ResolvedModel};
pub use optimizer::{OptimizerConfig, optimizer_numbers};
pub use read::{differing_keys, parse, parse_saved, read};
pub use resolved::Resolved;
pub use schedule::{AtGrowth, LrAtGrowth, LrConfig, ResolvedStage, StageConfig};
pub use shapes::LrShape;
pub use train::{Guard, InitFrom, RunTable, TrainConfig};
pub(crate) use {check::check_schedule, suggest::hint};

use serde::{Deserialize, Serialize};

/// A whole run as a user writes it; [`Resolved`] is what can be run.
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
    /// What updates the parameters.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// The learning rate.
    pub lr: LrConfig,
    /// The stages, first to last.
    #[serde(rename = "stage")]
    pub stages: Vec<StageConfig>,
    /// Where to start from, instead of fresh weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<InitFrom>,
}
