//! A device without memory left, told so that a user sees what to change.

use crate::{config::RunConfig, error::Error, plan::Plan};
use msg_core::ops::Precision;
use msg_models::{Cost, hf};

/// Where a device had no memory left in the step: the refusal with the plan's estimate and the ways out. Any
/// other refusal as it is.
pub(super) fn explained(error: Error, config: &RunConfig, plan: &Plan, cost: &Cost, step: u64) -> Error {
    let source = match error {
        Error::Core(source @ msg_core::Error::OutOfMemory { .. }) => source,
        Error::File(hf::Error::Core(source @ msg_core::Error::OutOfMemory { .. })) => source,
        other => return other,
    };
    let stage = plan.stage_at(step.max(1));
    let train = &config.train;
    let micro_batch = train.micro_batch.unwrap_or(stage.batch);
    let memory =
        cost.memory(stage.sizes, stage.sequence, micro_batch, config.logits(), train.compute()).total();
    let mut ways = Vec::new();
    if micro_batch > 1 {
        ways.push(format!("train.micro_batch below {micro_batch}"));
    }
    if !train.recompute {
        ways.push("train.recompute = true".to_owned());
    }
    if train.precision == Precision::F32 {
        ways.push("train.precision = \"bf16\" (a new run)".to_owned());
    }
    ways.push("smaller sizes or sequences (a new run)".to_owned());
    Error::Memory { source, stage: stage.number, estimate: memory / 1e9, ways: ways.join(", ") }
}
