//! A plan as a table for people: what each stage is, costs and does.

use crate::{
    config::Resolved,
    schedule::plan::{Plan, Stage},
    text::table::aligned,
};
use msg_core::ops::head::{LOGITS_ON_CPU, LOGITS_ON_GPU};
use msg_models::{Cost, cost::Logits};

const HEADINGS: [&str; 16] = [
    "stage",
    "steps",
    "layers",
    "hidden",
    "ffn",
    "heads",
    "sequence",
    "batch",
    "parameters",
    "FLOPs/token",
    "FLOPs",
    "CPU memory",
    "GPU memory",
    "ramp",
    "first lr",
    "last lr",
];

/// What a plan costs as a whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Savings {
    /// Training FLOPs of the plan.
    pub flops: f64,
    /// Training FLOPs of the last stage's sizes on the same sequences.
    pub full_size: f64,
}

impl Savings {
    /// Of a plan for a model of that cost, token logits computed at `logits`.
    pub fn new(plan: &Plan, cost: &Cost, logits: Logits) -> Self {
        let Some(last) = plan.stages().last() else { return Savings { flops: 0.0, full_size: 0.0 } };
        let sum = |sizes: fn(&Stage, &Stage) -> msg_models::Sizes| {
            let of_stage = |stage: &Stage| {
                stage.tokens() as f64 * cost.training_flops(sizes(stage, last), stage.sequence, logits)
            };
            plan.stages().iter().map(of_stage).sum()
        };
        Savings { flops: sum(|stage, _| stage.sizes), full_size: sum(|_, last| last.sizes) }
    }

    /// How many times the plan's FLOPs the full size takes.
    pub fn factor(&self) -> f64 {
        self.full_size / self.flops
    }
}

/// The plan of a run whose model has that cost, a line for each stage, and what it saves.
pub fn plan_table(config: &Resolved, plan: &Plan, cost: &Cost) -> String {
    let logits = config.logits();
    let savings = Savings::new(plan, cost, logits);
    let rows = plan.stages().iter().map(|stage| {
        let per_token = cost.training_flops(stage.sizes, stage.sequence, logits);
        let micro_batch = config.train().micro_batch.unwrap_or(stage.batch);
        let compute = config.train().compute();
        let memory = |head_logits| {
            cost.memory(stage.sizes, stage.sequence, micro_batch, logits, compute, head_logits).total()
        };
        let share = 100.0 * per_token * stage.tokens() as f64 / savings.flops;
        let ramp = stage.boundary.map_or("-".to_owned(), |boundary| boundary.ramp.length.to_string());
        [
            stage.number.to_string(),
            stage.steps.to_string(),
            stage.sizes.layers.to_string(),
            stage.sizes.hidden.to_string(),
            stage.sizes.ffn.to_string(),
            stage.sizes.heads.to_string(),
            stage.sequence.to_string(),
            stage.batch.to_string(),
            scaled(cost.parameters(stage.sizes) as f64),
            scaled(per_token),
            format!("{share:.1}%"),
            format!("{}B", scaled(memory(LOGITS_ON_CPU))),
            format!("{}B", scaled(memory(LOGITS_ON_GPU))),
            ramp,
            format!("{:.2e}", plan.lr(stage.first_step)),
            format!("{:.2e}", plan.lr(stage.last_step())),
        ]
    });
    let lines: Vec<Vec<String>> =
        [HEADINGS.map(str::to_owned)].into_iter().chain(rows).map(Vec::from).collect();
    let mut table = aligned(&lines);
    let tokens = plan.tokens_through(plan.total_steps()) as f64;
    table.push_str(&format!(
        "\n{} steps, {} tokens, {} FLOPs: {:.2}x fewer FLOPs than the full size from the start ({}).\n",
        plan.total_steps(),
        scaled(tokens),
        scaled(savings.flops),
        savings.factor(),
        scaled(savings.full_size),
    ));
    table.push_str(match logits {
        Logits::Everywhere => "FLOPs are of training, token logits at all positions; ",
        Logits::Labelled(_) => "FLOPs are of training, token logits at labelled positions only; ",
    });
    table.push_str("memory is a rough estimate of what training holds.\n");
    table
}

/// Three digits and a letter for the power of a thousand.
pub(crate) fn scaled(value: f64) -> String {
    let letters = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
    let mut value = value;
    let mut power = 0;
    // 999.5 would be printed as 1000.
    while value >= 999.5 && power + 1 < letters.len() {
        value /= 1000.0;
        power += 1;
    }
    let decimals = match value {
        _ if power == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", letters[power])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_letter() {
        let written = [0.0, 12.0, 999.0, 999.6, 1234.0, 99_950.0, 124_439_808.0, 9.999e9, 3.2e18].map(scaled);
        assert_eq!(written, ["0", "12", "999", "1.00k", "1.23k", "100k", "124M", "10.0G", "3.20E"]);
    }
}
