//! A checked configuration as stages, and what each optimizer step is.
//!
//! Everything here is a pure function of the step, so a run that was broken off needs no schedule state.
//! Steps are absolute and count from 1; a growth happens between the last step of a stage and the first
//! of the next.

use crate::{
    config::{AtGrowth, LrConfig, Resolved, ResolvedStage, check_schedule},
    error::Result,
    schedule::learning_rate::{NewFactor, Rate, RateChange},
};
use msg_core::growth::Ramp;
use msg_models::Sizes;

/// The growth at the start of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// The number of this growth in the run, from 1; 0 for one that leads into the first stage.
    pub number: u64,
    /// The ramp of everything new.
    pub ramp: Ramp,
    /// What the stage says about it.
    pub growth: AtGrowth,
}

/// A stretch of steps with the same sizes, sequence length and batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// From 1.
    pub number: usize,
    /// Its first step.
    pub first_step: u64,
    /// How many steps it has.
    pub steps: u64,
    /// The model's sizes.
    pub sizes: Sizes,
    /// Tokens of a sequence.
    pub sequence: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// The growth before the first step; none where no size changes.
    pub boundary: Option<Boundary>,
}

impl Stage {
    /// Its last step.
    pub fn last_step(&self) -> u64 {
        self.first_step + self.steps - 1
    }

    /// Tokens of one step.
    pub fn tokens_per_step(&self) -> u64 {
        self.sequence as u64 * self.batch as u64
    }

    /// Tokens of all its steps.
    pub fn tokens(&self) -> u64 {
        self.steps * self.tokens_per_step()
    }
}

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    stages: Vec<Stage>,
    rate: Rate,
}

impl Plan {
    /// The plan of a run.
    pub fn new(config: &Resolved) -> Plan {
        Plan::planned(config.stages(), config.lr())
    }

    /// A plan from stages and a learning rate that were made in code.
    ///
    /// # Errors
    /// [`Error::Config`](crate::error::Error::Config) for the first number that a configuration could not have either.
    pub fn of_stages(stages: &[ResolvedStage], lr: &LrConfig) -> Result<Plan> {
        check_schedule(stages, lr)?;
        Ok(Plan::planned(stages, lr))
    }

    fn planned(tables: &[ResolvedStage], lr: &LrConfig) -> Plan {
        let mut stages: Vec<Stage> = Vec::with_capacity(tables.len());
        let mut changes = Vec::new();
        let mut growths = 0;
        for (number, table) in (1..).zip(tables) {
            let start = stages.last().map_or(0, Stage::last_step);
            let grows = stages.last().is_some_and(|before| before.sizes != table.sizes);
            let boundary = grows.then(|| {
                growths += 1;
                boundary(growths, start, &table.growth)
            });
            if let Some(Boundary { growth: AtGrowth { lr: policy, rewarm_steps, .. }, .. }) = boundary {
                changes.push(RateChange { start, policy, rewarm_steps });
            }
            stages.push(Stage {
                number,
                first_step: start + 1,
                steps: table.steps,
                sizes: table.sizes,
                sequence: table.sequence,
                batch: table.batch,
                boundary,
            });
        }
        let total = stages.last().map_or(0, Stage::last_step);
        Plan { stages, rate: Rate::new(lr.clone(), total, changes) }
    }

    /// The same plan for a run that starts from a smaller model: growth number 0, a part of its
    /// initialisation, leads into the first stage.
    #[must_use]
    pub fn with_first_growth(mut self, config: &Resolved) -> Plan {
        if let Some((stage, table)) = self.stages.first_mut().zip(config.stages().first()) {
            stage.boundary = Some(boundary(0, 0, &table.growth));
        }
        self
    }

    /// The stages, first to last; there is at least one.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The last step of the run.
    pub fn total_steps(&self) -> u64 {
        self.last().last_step()
    }

    /// The stage of a step; the first one's before step 1, the last one's beyond the end.
    pub fn stage_at(&self, step: u64) -> &Stage {
        let after = self.stages.partition_point(|stage| stage.first_step <= step);
        &self.stages[after.saturating_sub(1)]
    }

    /// The last step of the stage that `step` belongs to.
    pub fn last_step_of_stage(&self, step: u64) -> u64 {
        self.stage_at(step).last_step()
    }

    /// The learning rate in force in a step.
    pub fn lr(&self, step: u64) -> f64 {
        self.rate.at(step)
    }

    /// The factor on the rate of newly born entries in a step, and the boundary that bore them. `since`
    /// counts steps; the optimizer counts births in applied updates.
    pub fn new_factor(&self, step: u64) -> NewFactor {
        self.rate.new_factor(step)
    }

    /// Tokens consumed by the steps up to and with `step`.
    pub fn tokens_through(&self, step: u64) -> u64 {
        let of_stage = |stage: &Stage| {
            let done = (step + 1).saturating_sub(stage.first_step).min(stage.steps);
            done * stage.tokens_per_step()
        };
        self.stages.iter().map(of_stage).sum()
    }

    /// The largest sequence length: that of a data window.
    pub fn window(&self) -> usize {
        self.stages.iter().map(|stage| stage.sequence).max().unwrap_or(0)
    }

    fn last(&self) -> &Stage {
        &self.stages[self.stages.len() - 1]
    }
}

fn boundary(number: u64, start: u64, growth: &AtGrowth) -> Boundary {
    Boundary { number, ramp: Ramp { start: start as i64, length: growth.ramp }, growth: *growth }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LrAtGrowth, operators::OperatorKind, testing::small};
    use msg_core::optim::StatePolicy;
    use msg_models::{DepthInit, WidthInit, sizes};

    /// The stages after the first.
    const STAGES: &str = r#"
        [[stage]]
        steps = 5
        sequence = 32
        batch = 2
        [[stage]]
        tokens = 1000
        hidden = 12
        layers = 2
        batch = 3
        ramp = 4
        units = "copy"
        new_layers = "interpolate"
        lr = "rewarm-new"
        rewarm_steps = 2
        state = "reset"
    "#;

    fn plan() -> Plan {
        Plan::new(&small(STAGES, &["stage.1.steps=10", "lr.shape=linear", "lr.peak=1.0"]))
    }

    #[test]
    fn stages_lie_end_to_end_and_tokens_are_rounded_up_to_steps() {
        let plan = plan();
        // 1000 tokens at 96 a step are 10.4 steps.
        let ends: Vec<(u64, u64, u64)> =
            plan.stages().iter().map(|stage| (stage.first_step, stage.steps, stage.last_step())).collect();
        assert_eq!(ends, [(1, 10, 10), (11, 5, 15), (16, 11, 26)]);
        assert_eq!((plan.total_steps(), plan.window()), (26, 32));
        assert_eq!(plan.stages()[2].sizes, sizes! { layers: 2, hidden: 12, ffn: 16, heads: 2 });
    }

    #[test]
    fn each_step_belongs_to_one_stage() {
        let plan = plan();
        let stages = [0, 1, 10, 11, 15, 16, 26, 99].map(|step| plan.stage_at(step).number);
        assert_eq!(stages, [1, 1, 1, 2, 2, 3, 3, 3]);
        assert_eq!([1, 10, 11, 16].map(|step| plan.last_step_of_stage(step)), [10, 10, 15, 26]);
    }

    #[test]
    fn only_a_change_of_sizes_is_a_growth() {
        let plan = plan();
        assert_eq!((plan.stages()[0].boundary, plan.stages()[1].boundary), (None, None));
        let expected = Boundary {
            number: 1,
            ramp: Ramp { start: 15, length: 4 },
            growth: AtGrowth {
                ramp: 4,
                operator: OperatorKind::Masked,
                units: WidthInit::Copy,
                layers: DepthInit::Interpolate,
                lr: LrAtGrowth::RewarmNew,
                rewarm_steps: 2,
                state: StatePolicy::Reset,
            },
        };
        assert_eq!(plan.stages()[2].boundary, Some(expected));
        assert_eq!(plan.new_factor(16), NewFactor { factor: 0.55, since: 15 });
    }

    #[test]
    fn tokens_add_up_over_stages() {
        let plan = plan();
        let tokens = [0, 1, 10, 11, 15, 16, 26, 99].map(|step| plan.tokens_through(step));
        assert_eq!(tokens, [0, 64, 640, 704, 960, 1056, 2016, 2016]);
        assert_eq!(plan.stages().iter().map(Stage::tokens).sum::<u64>(), 2016);
    }
}
