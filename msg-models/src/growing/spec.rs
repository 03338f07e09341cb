//! How a growth fills what is new.

use msg_core::{
    error::Result,
    growth::{AxisMap, DepthMap, FillRule, NORMAL_STD},
};
use serde::{Deserialize, Serialize};

/// The values that new units start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WidthInit {
    /// Normal with standard deviation 0.02.
    #[default]
    Normal,
    /// Zeros.
    Zero,
    /// Copies of the old units in turn.
    Copy,
    /// Normal with the standard deviation of the old tensor.
    MatchedStd,
}

impl WidthInit {
    /// What new entries of units hold that are no copies.
    pub fn fill_rule(self) -> FillRule {
        match self {
            WidthInit::Normal | WidthInit::Copy => FillRule::Normal { std: NORMAL_STD },
            WidthInit::Zero => FillRule::Zero,
            WidthInit::MatchedStd => FillRule::MatchedStd,
        }
    }

    pub(super) fn map(self, axis: &'static str, old: usize, new: usize) -> Result<AxisMap> {
        match self {
            WidthInit::Copy => AxisMap::copies(axis, old, new),
            _ => AxisMap::append(axis, old, new),
        }
    }
}

/// The position of new layers and the values that they start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DepthInit {
    /// The old stack again, on top.
    #[default]
    Stack,
    /// Each old layer's copies right after it.
    Interpolate,
    /// Fresh layers on top.
    Fresh,
}

impl DepthInit {
    pub(super) fn map(self, old: usize, new: usize) -> Result<DepthMap> {
        match self {
            DepthInit::Stack => DepthMap::stack(old, new),
            DepthInit::Interpolate => DepthMap::interpolate(old, new),
            DepthInit::Fresh => DepthMap::fresh(old, new),
        }
    }
}

/// How one boundary grows a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrowthSpec {
    /// The run's seed.
    pub seed: u64,
    /// The number of this growth in the run, from 1.
    pub number: u64,
    /// What new units start from.
    pub units: WidthInit,
    /// Where new layers stand and what they start from.
    pub layers: DepthInit,
}

impl Default for GrowthSpec {
    fn default() -> Self {
        GrowthSpec { seed: 0, number: 1, units: WidthInit::default(), layers: DepthInit::default() }
    }
}
