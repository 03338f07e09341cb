//! The record of a run, and its listeners: files, the terminal, TensorBoard.
//!
//! A [`Record`] is a pure function of the run: a run that was killed and resumed writes the same bytes as one that was
//! not. Clock readings cannot do that, so they have their own file ([`StepTiming`]). The numbers of both are rows of
//! [`columns`]; a listener is a [`Sink`]. Every call that touches a file may return the system's error.
//!
//! | file in the run's folder  | holds                                             | on resume |
//! |---------------------------|---------------------------------------------------|-----------|
//! | `metrics.jsonl`           | [`Record`]s, one a line                           | cut off   |
//! | `timing.jsonl`            | [`StepTiming`]s, one a line                       | cut off   |
//! | `plan.json`               | the [`RunPlan`]                                   | the same  |
//! | `events.out.tfevents.*`   | the scalars of both, for TensorBoard              | cut off   |
//!
//! # Which step a record belongs to
//! Steps count from 1. Every record of step n is written before the checkpoint of step n, and a growth
//! belongs to the first step of the new stage. So the lines up to the checkpoint's step are those of a run without
//! an interruption: no line twice, none lost.

pub mod columns;
mod number;
mod plan;
mod record;
mod sink;
pub mod sinks;
mod store;

pub use columns::{Eval, Heads, Step, StepTiming};
pub use plan::{RunPlan, StagePlan};
pub use record::{End, Growth, RampEnd, Receipt, Record, Start};
pub use sink::Sink;
pub use store::RunLog;

use std::path::PathBuf;

pub use crate::files::names::{METRICS, PLAN, TIMING};

/// What is wrong with a file of metrics.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// A line that is no record, and not the last.
    #[error("line {line}: expected {expected}, got {got:?}")]
    Line {
        /// From 1.
        line: u64,
        /// What the parser wanted.
        expected: String,
        /// The line's beginning.
        got: String,
    },
    /// A line that goes back in time.
    #[error("line {line}: step {step} after step {before}; steps never fall")]
    Order {
        /// From 1.
        line: u64,
        /// Its step.
        step: u64,
        /// The step of the line before.
        before: u64,
    },
    /// A file that is not what its name says.
    #[error("expected {expected}")]
    Foreign {
        /// What it should be.
        expected: &'static str,
    },
    /// A file that ends before the step from which a run resumes.
    #[error("the last line is of step {last}, but the checkpoint of step {step}: lines are missing")]
    Short {
        /// The last step on file.
        last: u64,
        /// The checkpoint's.
        step: u64,
    },
}

impl Damage {
    /// Names the file.
    pub(crate) fn of(self, path: impl Into<PathBuf>) -> crate::Error {
        crate::Error::Data { path: path.into(), message: self.to_string() }
    }
}
