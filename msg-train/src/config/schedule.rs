//! `[lr]` and `[[stage]]`.

use msg_core::optim::StatePolicy;
use msg_models::{LayerInit, Sizes, UnitInit};
use serde::{Deserialize, Serialize};

/// The `[lr]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrConfig {
    /// Shape after the warm-up.
    pub shape: LrShape,
    /// Highest rate.
    pub peak: f64,
    /// Rate at the last step; by default 0. `constant` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#final: Option<f64>,
    /// Steps of linear rise from 0: step s of them has the share s/warmup of the peak.
    #[serde(default)]
    pub warmup: u64,
    /// Steps of decay at the end (`wsd` alone).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<u64>,
}

/// Shape of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrShape {
    /// A line from peak to final.
    Linear,
    /// Half a cosine from peak to final.
    Cosine,
    /// Warm-up, stable, decay: the peak, then a line to final over the last `decay` steps.
    Wsd,
    /// The peak throughout.
    Constant,
}

/// What the learning rate does at a growth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LrAtGrowth {
    /// Nothing.
    #[default]
    None,
    /// To the peak, then the same shape stretched over the remaining steps to the same final value.
    Rewind,
    /// As published: keeps the slope and shifts time by the boundary's step, so it ends above final.
    RewindPublished,
    /// A line from 0.1x to the schedule's value over `rewarm_steps`.
    Rewarm,
    /// The same factor for entries born at this boundary only.
    RewarmNew,
}

/// One `[[stage]]` table. Sizes that are left out are those of the stage before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageConfig {
    /// Optimizer steps; either this or `tokens`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Tokens, rounded up to whole steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Units of the residual stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
    /// Units of the feed-forward layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ffn: Option<usize>,
    /// Attention heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Sequence length; by default that of the stage before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<usize>,
    /// Sequences of one optimizer step; by default that of the stage before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Steps over which new units and layers rise from 0 to 1. It may outlast its stage.
    #[serde(default)]
    pub ramp: u64,
    /// What new units start from.
    #[serde(default)]
    pub units: UnitInit,
    /// Where new layers stand and what they start from.
    #[serde(default)]
    pub new_layers: LayerInit,
    /// What the learning rate does.
    #[serde(default)]
    pub lr: LrAtGrowth,
    /// Steps of `rewarm` and `rewarm-new`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewarm_steps: Option<u64>,
    /// What becomes of the optimizer's state.
    #[serde(default)]
    pub state: StatePolicy,
}

/// A `[[stage]]` table, filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedStage {
    /// Optimizer steps.
    pub steps: u64,
    /// The model's sizes.
    pub sizes: Sizes,
    /// Tokens of a sequence.
    pub sequence: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// How the stage begins, where it begins with a growth.
    pub growth: AtGrowth,
}

/// What a stage says about the growth into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtGrowth {
    /// Steps over which new units and layers rise from 0 to 1.
    pub ramp: u64,
    /// What new units start from.
    pub units: UnitInit,
    /// Where new layers stand and what they start from.
    pub layers: LayerInit,
    /// What the learning rate does.
    pub lr: LrAtGrowth,
    /// Steps of a rewarming; 0 without one.
    pub rewarm_steps: u64,
    /// What becomes of the optimizer's state.
    pub state: StatePolicy,
}

impl ResolvedStage {
    /// Tokens of one step.
    pub fn tokens_per_step(&self) -> u64 {
        self.sequence as u64 * self.batch as u64
    }
}
