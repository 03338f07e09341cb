//! A plan as a table for people: what each stage is, costs and does.

use crate::{
    config::{Resolved, optimizer_numbers},
    schedule::plan::{Plan, Stage},
    text::{quantity::count, table::aligned},
};
use msg_core::ops::head::{LOGITS_ON_CPU, LOGITS_ON_GPU};
use msg_models::{Cost, GrowingAxis, cost::Logits};

/// The columns; those of the axes stand after the first two.
const HEADINGS: [&str; 12] = [
    "stage",
    "steps",
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
    let axes = GrowingAxis::of(plan.stages().iter().map(|stage| &stage.sizes));
    let with_axes = |cells: [String; HEADINGS.len()], of: &dyn Fn(GrowingAxis) -> String| {
        let mut cells = Vec::from(cells);
        cells.splice(2..2, axes.iter().map(|axis| of(*axis)));
        cells
    };
    let rows = plan.stages().iter().map(|stage| {
        let per_token = cost.training_flops(stage.sizes, stage.sequence, logits);
        let micro_batch = config.train().micro_batch.unwrap_or(stage.batch);
        let compute = config.train().compute();
        let memory = |head_logits| {
            let (batch, state) = ((stage.sequence, micro_batch), optimizer_numbers(config.optimizer()));
            cost.memory(stage.sizes, batch, logits, compute, head_logits, state).total()
        };
        let share = 100.0 * per_token * stage.tokens() as f64 / savings.flops;
        let ramp = stage.boundary.map_or("-".to_owned(), |boundary| boundary.ramp.length.to_string());
        let cells = [
            stage.number.to_string(),
            stage.steps.to_string(),
            stage.sequence.to_string(),
            stage.batch.to_string(),
            count(cost.parameters(stage.sizes) as f64),
            count(per_token),
            format!("{share:.1}%"),
            format!("{}B", count(memory(LOGITS_ON_CPU))),
            format!("{}B", count(memory(LOGITS_ON_GPU))),
            ramp,
            format!("{:.2e}", plan.lr(stage.first_step)),
            format!("{:.2e}", plan.lr(stage.last_step())),
        ];
        with_axes(cells, &|axis| stage.sizes.get(axis).to_string())
    });
    let headings = with_axes(HEADINGS.map(str::to_owned), &|axis| axis.key().to_owned());
    let lines: Vec<Vec<String>> = [headings].into_iter().chain(rows).collect();
    let mut table = aligned(&lines);
    let tokens = plan.tokens_through(plan.total_steps()) as f64;
    table.push_str(&format!(
        "\n{} steps, {} tokens, {} FLOPs: {:.2}x fewer FLOPs than the full size from the start ({}).\n",
        plan.total_steps(),
        count(tokens),
        count(savings.flops),
        savings.factor(),
        count(savings.full_size),
    ));
    table.push_str(match logits {
        Logits::Everywhere => "FLOPs are of training, token logits at all positions; ",
        Logits::Labelled(_) => "FLOPs are of training, token logits at labelled positions only; ",
    });
    table.push_str("memory is a rough estimate of what training holds.\n");
    table
}
