//! All of a run that is neither tensor nor configuration: what a resume needs to continue to the bit.

use serde::{Deserialize, Serialize};

/// Where a run stands. Everything else (rate, masks, stage, dropout) is a function of the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Optimizer steps made, skipped ones included.
    pub step: u64,
    /// The stage of the model's sizes, from 1.
    pub stage: usize,
    /// For each growth the steps and the applied updates before it.
    pub births: Vec<(u64, u64)>,
    /// Place in the data.
    pub cursor: u64,
    /// Tokens consumed.
    pub tokens: u64,
    /// Floating point operations spent.
    pub flops: f64,
}
