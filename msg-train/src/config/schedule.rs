//! `[lr]` and `[[stage]]`.

use crate::config::{operators::OperatorKind, shapes::LrShape};
use msg_core::optim::StatePolicy;
use msg_models::{DepthInit, GrowingAxis, Sizes, WidthInit};
use serde::{Deserialize, Serialize};

/// The `[lr]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrConfig {
    /// Shape after the warm-up.
    #[serde(default)]
    pub shape: LrShape,
    /// Highest rate.
    pub peak: f64,
    /// Rate at the last step; 0 by default. The shape `constant` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#final: Option<f64>,
    /// Steps over which the rate rises linearly from 0 to the peak.
    #[serde(default)]
    pub warmup: u64,
    /// Steps of decay at the end, for the shapes `wsd` and `wsd-sqrt` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<u64>,
}

impl LrConfig {
    /// The same rate throughout.
    pub fn constant(peak: f64) -> Self {
        LrConfig { shape: LrShape::Constant, peak, r#final: None, warmup: 0, decay: None }
    }
}

/// How the learning rate reacts to a growth.
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

macro_rules! stage_config {
    ($($(#[$doc:meta])* [$($serde:tt)*] $key:ident: $axis:ident, $grows:expr;)*) => {
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
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $key: Option<usize>,
            )*
            /// Sequence length; by default that of the stage before.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub sequence: Option<usize>,
            /// Sequences of one optimizer step; by default that of the stage before.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub batch: Option<usize>,
            /// Steps over which new units and layers rise from 0 to 1. It may outlast its stage.
            #[serde(default)]
            pub ramp: u64,
            /// How the growth makes the new tensors.
            #[serde(default)]
            pub operator: OperatorKind,
            /// What new units start from.
            #[serde(default)]
            pub units: WidthInit,
            /// Where new layers are inserted and what they start from.
            #[serde(default)]
            pub new_layers: DepthInit,
            /// How the learning rate reacts to the growth.
            #[serde(default)]
            pub lr: LrAtGrowth,
            /// Steps of a rewarming, with `lr = "rewarm"` or `"rewarm-new"`.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub rewarm_steps: Option<u64>,
            /// How the optimizer's ages and moments are carried over.
            #[serde(default)]
            pub state: StatePolicy,
        }

        impl StageConfig {
            /// The size of an axis, where the stage says it.
            pub fn size(&self, axis: GrowingAxis) -> Option<usize> {
                match axis {
                    $(GrowingAxis::$axis => self.$key,)*
                }
            }

            /// The size of an axis, to be changed.
            pub fn size_mut(&mut self, axis: GrowingAxis) -> &mut Option<usize> {
                match axis {
                    $(GrowingAxis::$axis => &mut self.$key,)*
                }
            }
        }
    };
}
msg_models::growing_axes!(stage_config);

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
    /// How the new tensors are made.
    pub operator: OperatorKind,
    /// What new units start from.
    pub units: WidthInit,
    /// Where new layers stand and what they start from.
    pub layers: DepthInit,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_of_a_stage_are_keys_of_its_own_table() {
        let text = "steps = 5\nlayers = 1\nhidden = 8\nffn = 12\nheads = 2\nbatch = 4\nramp = 0\noperator = \"masked\"\nunits = \"normal\"\n\
                    new_layers = \"stack\"\nlr = \"none\"\nstate = \"age\"\n";
        let stage: StageConfig = toml::from_str(text).unwrap();
        let sizes = GrowingAxis::ALL.iter().filter_map(|axis| stage.size(*axis));
        assert!(sizes.eq([1, 8, 12, 2]));
        assert_eq!(toml::to_string(&stage).unwrap(), text);
        assert!(toml::from_str::<StageConfig>("hiden = 8").is_err());
    }
}
