//! Clock readings of a step, apart from what the step is.

use serde::{Deserialize, Serialize};

/// One line of `timing.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepTiming {
    /// From 1.
    pub step: u64,
    /// Seconds of training since the run's start, to the end of this step. A resumed run counts on from
    /// the checkpoint's step, so pauses and lost steps are not in it.
    pub seconds: f64,
    /// Seconds that the step took.
    pub step_seconds: f64,
    /// Seconds of these that it waited for data.
    pub data_seconds: f64,
    /// Tokens a second in this step.
    pub tokens_per_second: f64,
}
