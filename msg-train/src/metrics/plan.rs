//! The plan of a run for its readers: the run writes it once, the report draws it.

use crate::{
    error::{AtPath, Error, Result},
    files::{atomic::replace_file, names::PLAN},
};
use msg_models::Sizes;
use serde::{Deserialize, Serialize};
use std::{fs, path::Path};

/// `plan.json` in a run's folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunPlan {
    /// The run's name.
    pub name: String,
    /// The architecture, in the configuration's word.
    pub family: String,
    /// First to last.
    pub stages: Vec<StagePlan>,
    /// Optimizer steps of all stages.
    pub total_steps: u64,
}

/// A stretch of steps with the same sizes, sequence length and batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePlan {
    /// From 1.
    pub number: usize,
    /// Its first step; steps count from 1.
    pub first_step: u64,
    /// How many steps it has.
    pub steps: u64,
    /// The model's sizes, a key for each axis.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// Tokens of a sequence.
    pub sequence: usize,
    /// Sequences of a step.
    pub batch: usize,
    /// Parameters.
    pub params: u64,
    /// Floating-point operations of training on one token, forward and backward.
    pub flops_per_token: f64,
    /// Steps over which what is new rises to 1; 0 where nothing does.
    pub ramp: u64,
}

impl StagePlan {
    /// Its last step.
    pub fn last_step(&self) -> u64 {
        (self.first_step + self.steps).saturating_sub(1)
    }

    /// Tokens of one step.
    pub fn tokens_per_step(&self) -> u64 {
        (self.batch * self.sequence) as u64
    }

    /// Floating-point operations of one step.
    pub fn flops_per_step(&self) -> f64 {
        self.tokens_per_step() as f64 * self.flops_per_token
    }
}

impl RunPlan {
    /// The stage of a step; none for steps beyond the plan.
    pub fn stage_of(&self, step: u64) -> Option<&StagePlan> {
        self.stages.iter().find(|stage| (stage.first_step..=stage.last_step()).contains(&step))
    }

    /// Floating-point operations of the steps after `step`.
    pub fn flops_after(&self, step: u64) -> f64 {
        let left = |stage: &StagePlan| {
            stage.last_step().saturating_sub(step.max(stage.first_step.saturating_sub(1)))
        };
        self.stages.iter().map(|stage| left(stage) as f64 * stage.flops_per_step()).sum()
    }

    /// Floating-point operations of training the last stage's model from the start on the same tokens,
    /// each counted at the last stage's cost; none where a cost is missing.
    pub fn flops_at_full_size(&self) -> Option<f64> {
        let last = self.stages.last()?;
        let tokens: u64 = self.stages.iter().map(|stage| stage.steps * stage.tokens_per_step()).sum();
        Some(tokens as f64 * last.flops_per_token).filter(|flops| *flops > 0.0)
    }

    /// Writes `plan.json`.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(PLAN);
        let mut text = serde_json::to_string_pretty(self).map_err(std::io::Error::from).at(&path)?;
        text.push('\n');
        replace_file(&path, text.as_bytes())
    }

    /// Reads `plan.json`; none where the folder has none.
    ///
    /// # Errors
    /// Where it cannot be read or is no plan.
    pub fn read(folder: &Path) -> Result<Option<RunPlan>> {
        let path = folder.join(PLAN);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at(&path)?,
        };
        let plan: RunPlan = serde_json::from_str(&text)
            .map_err(|error| Error::Data { path: path.clone(), message: error.to_string() })?;
        let mut next = 1;
        for stage in &plan.stages {
            if stage.first_step != next {
                let message =
                    format!("stage {}: expected first_step {next}, got {}", stage.number, stage.first_step);
                return Err(Error::Data { path, message });
            }
            next += stage.steps;
        }
        Ok(Some(plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use msg_models::sizes;

    fn plan() -> RunPlan {
        let first = StagePlan {
            number: 1,
            first_step: 1,
            steps: 10,
            sizes: sizes! { layers: 1, hidden: 8, ffn: 12, heads: 2 },
            sequence: 4,
            batch: 2,
            params: 100,
            flops_per_token: 3.0,
            ramp: 0,
        };
        let sizes = Sizes { hidden: 16, ..first.sizes };
        let second = StagePlan { number: 2, first_step: 11, steps: 5, sizes, flops_per_token: 5.0, ..first };
        RunPlan { name: "a".into(), family: "gpt".into(), stages: vec![first, second], total_steps: 15 }
    }

    #[test]
    fn the_work_that_is_left_counts_each_stage_at_its_own_cost() {
        let plan = plan();
        assert_eq!(plan.flops_after(0), 10.0 * 24.0 + 5.0 * 40.0);
        assert_eq!(plan.flops_after(9), 24.0 + 5.0 * 40.0);
        assert_eq!(plan.flops_after(12), 3.0 * 40.0);
        assert_eq!(plan.flops_after(15), 0.0);
        assert_eq!(plan.flops_at_full_size(), Some(15.0 * 40.0));
        assert_eq!(plan.stage_of(10).map(|stage| stage.number), Some(1));
        assert_eq!(plan.stage_of(11).map(|stage| stage.number), Some(2));
        assert_eq!(plan.stage_of(16), None);
    }

    #[test]
    fn a_stage_is_one_flat_object_with_these_keys_and_no_others() {
        let stage = plan().stages[0];
        let text = r#"{"number":1,"first_step":1,"steps":10,"layers":1,"hidden":8,"ffn":12,"heads":2,"sequence":4,"batch":2,"params":100,"flops_per_token":3.0,"ramp":0}"#;
        assert_eq!(serde_json::to_string(&stage).unwrap(), text);
        let read = |text: &str| serde_json::from_str::<StagePlan>(text);
        assert_eq!(read(text).unwrap(), stage);
        for (change, to) in [
            (r#""ffn":12,"#, ""),
            (r#""batch":2,"#, ""),
            (r#""ffn":12,"#, r#""ffn":12,"ffm":12,"#),
            (r#""ffn":12,"#, r#""ffn":12,"ffn":13,"#),
            (r#""ffn":12,"#, r#""ffn":-1,"#),
        ] {
            assert!(read(&text.replace(change, to)).is_err(), "{change} to {to}");
        }
    }

    #[test]
    fn a_plan_comes_back_from_its_file_and_one_with_holes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RunPlan::read(folder.path()).unwrap(), None);
        let mut plan = plan();
        plan.write(folder.path()).unwrap();
        assert_eq!(RunPlan::read(folder.path()).unwrap(), Some(plan.clone()));
        plan.stages[1].first_step = 13;
        plan.write(folder.path()).unwrap();
        let text = RunPlan::read(folder.path()).unwrap_err().to_string();
        assert!(text.contains("stage 2: expected first_step 11, got 13"), "{text}");
    }
}
