//! A device without memory left, told so that a user sees what to change.

use crate::{
    config::{Resolved, optimizer_numbers},
    error::Error,
    schedule::plan::Plan,
    text::quantity::count,
};
use msg_core::{Backend, ops::Precision};
use msg_models::{Cost, hf};

/// Where a device had no memory left in the step: the refusal with the plan's estimate and the ways out. Any
/// other refusal as it is.
pub(super) fn explained<D: Backend>(
    error: Error,
    config: &Resolved,
    plan: &Plan,
    cost: &Cost,
    step: u64,
) -> Error {
    let source = match error {
        Error::Core(source @ msg_core::Error::OutOfMemory { .. }) => source,
        Error::File(hf::Error::Core(source @ msg_core::Error::OutOfMemory { .. })) => source,
        other => return other,
    };
    let stage = plan.stage_at(step.max(1));
    let train = config.train();
    let micro_batch = train.micro_batch.unwrap_or(stage.batch);
    let (logits, compute) = (config.logits(), train.compute());
    let (batch, state) = ((stage.sequence, micro_batch), optimizer_numbers(config.optimizer()));
    let memory = cost.memory(stage.sizes, batch, logits, compute, D::LOGITS, state).total();
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
    Error::Memory {
        source,
        stage: stage.number,
        estimate: format!("{}B", count(memory)),
        ways: ways.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::testing::small, families::registry::cost_of};
    use dfdx::tensor::Cpu;

    fn told(changes: &[&str], error: Error) -> String {
        let config = small("[[stage]]\nsteps = 3\nlayers = 2", changes);
        let (plan, cost) = (Plan::new(&config), cost_of(&config, 257).unwrap());
        explained::<Cpu>(error, &config, &plan, &cost, 4).to_string()
    }

    fn full() -> msg_core::Error {
        msg_core::Error::OutOfMemory { op: "adamw", bytes: Some(64) }
    }

    #[test]
    fn a_full_device_is_told_with_the_plans_estimate_and_the_ways_that_are_left() {
        let text = told(&[], full().into());
        assert!(text.starts_with("adamw: out of memory on the device (64 bytes asked for): "), "{text}");
        assert!(text.contains("kB in stage 2;"), "{text}");
        let ways = "train.micro_batch below 4, train.recompute = true, train.precision = \"bf16\" (a new run), smaller";
        assert!(text.contains(ways), "{text}");
        assert_eq!(told(&[], hf::Error::Core(full()).into()), text);

        let least = ["train.micro_batch=1", "train.recompute=true", "train.precision=\"bf16\""];
        let text = told(&least, full().into());
        assert!(text.contains("what takes less: smaller sizes"), "{text}");
    }

    #[test]
    fn other_refusals_stay_as_they_are() {
        let other = || Error::Diverged("step 4".into());
        assert_eq!(told(&[], other()), other().to_string());
    }
}
