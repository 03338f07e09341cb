//! A run as its folder tells it.

use crate::{
    error::{AtPath, Result},
    files::names::{CONFIG, METRICS, TIMING},
    metrics::{End, Eval, Growth, RampEnd, Receipt, Record, RunPlan, Start, Step, StepTiming, sinks::jsonl},
};
use msg_models::Sizes;
use std::{fs, io::ErrorKind, path::Path};

/// Everything that a report shows of one run.
#[derive(Default)]
pub(super) struct Run {
    /// Unlike those of the other runs.
    pub name: String,
    /// As the run itself says.
    pub given_name: String,
    pub start: Option<Start>,
    pub steps: Vec<Step>,
    pub evals: Vec<Eval>,
    pub growths: Vec<Growth>,
    pub ramp_ends: Vec<RampEnd>,
    pub end: Option<End>,
    pub timings: Vec<StepTiming>,
    pub plan: Option<RunPlan>,
}

/// What the loss is drawn against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    Steps,
    Tokens,
    Flops,
    Seconds,
}

/// A stage as far as it is known: from the plan, else from the growths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stage {
    pub number: usize,
    pub first_step: u64,
    pub last_step: u64,
    pub sizes: Sizes,
    pub params: u64,
    /// Sequence length, batch, ramp and FLOPs a token, which only a plan tells.
    pub planned: Option<(usize, usize, u64, f64)>,
}

impl Run {
    /// Reads a folder.
    pub(super) fn load(folder: &Path) -> Result<Run> {
        let mut run = Run { plan: RunPlan::read(folder)?, ..Run::default() };
        for record in jsonl::read::<Record>(&folder.join(METRICS))? {
            match record {
                Record::Start(record) => run.start = Some(record),
                Record::Step(record) => run.steps.push(record),
                Record::Eval(record) => run.evals.push(record),
                Record::Growth(record) => run.growths.push(record),
                Record::RampEnd(record) => run.ramp_ends.push(record),
                Record::End(record) => run.end = Some(record),
            }
        }
        let timing = folder.join(TIMING);
        if timing.exists() {
            run.timings = jsonl::read(&timing)?;
        }
        run.given_name = run.own_name(folder)?;
        run.name.clone_from(&run.given_name);
        Ok(run)
    }

    fn own_name(&self, folder: &Path) -> Result<String> {
        if let Some(plan) = &self.plan {
            return Ok(plan.name.clone());
        }
        if let Some(start) = &self.start {
            return Ok(start.name.clone());
        }
        let from_folder =
            || folder.file_name().map_or("run".into(), |name| name.to_string_lossy().into_owned());
        let path = folder.join(CONFIG);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(from_folder()),
            other => other.at(&path)?,
        };
        // Only the name is wanted: a config of another version must not keep a report from being made.
        let name = text
            .parse::<toml::Table>()
            .ok()
            .and_then(|table| Some(table.get("run")?.get("name")?.as_str()?.to_owned()));
        Ok(name.unwrap_or_else(from_folder))
    }

    /// The last step that was made.
    pub(super) fn last_step(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.step)
    }

    /// Where a step ends on an axis; none where nothing up to the step tells.
    pub(super) fn at(&self, step: u64, against: Against) -> Option<f64> {
        if against == Against::Seconds {
            if self.timings.is_empty() {
                return None;
            }
            let until = self.timings.partition_point(|timing| timing.step <= step);
            return Some(until.checked_sub(1).map_or(0.0, |last| self.timings[last].seconds));
        }
        let until = self.steps.partition_point(|record| record.step <= step);
        let record = until.checked_sub(1).map(|last| &self.steps[last]);
        Some(match against {
            Against::Steps | Against::Seconds => step as f64,
            Against::Tokens => record.map_or(0.0, |record| record.tokens as f64),
            Against::Flops => record.map_or(0.0, |record| record.flops),
        })
    }

    /// Training losses over an axis, as they were recorded.
    pub(super) fn training(&self, against: Against) -> Vec<(f64, f64)> {
        let point = |step: &Step| Some((self.at(step.step, against)?, f64::from(step.loss)));
        self.steps.iter().filter_map(point).collect()
    }

    /// Held-out losses over an axis.
    pub(super) fn validation(&self, against: Against) -> Vec<(f64, f64)> {
        self.evals.iter().filter_map(|eval| Some((self.at(eval.step, against)?, eval.loss))).collect()
    }

    /// The stages, first to last; none where neither plan nor growths tell.
    pub(super) fn stages(&self) -> Vec<Stage> {
        if let Some(plan) = self.plan.as_ref().filter(|plan| !plan.stages.is_empty()) {
            let stage = |stage: &crate::metrics::StagePlan| Stage {
                number: stage.number,
                first_step: stage.first_step,
                last_step: stage.last_step(),
                sizes: stage.sizes,
                params: stage.params,
                planned: Some((stage.sequence, stage.batch, stage.ramp, stage.flops_per_token)),
            };
            return plan.stages.iter().map(stage).collect();
        }
        let last_step = self.last_step();
        let stage = |number, first_step, sizes, params| Stage {
            number,
            first_step,
            last_step,
            sizes,
            params,
            planned: None,
        };
        let mut stages = Vec::new();
        if let Some(start) = &self.start {
            stages.push(stage(1, 1, start.sizes, start.params));
        }
        for growth in &self.growths {
            if let Some(before) = stages.last_mut() {
                before.last_step = growth.step.saturating_sub(1);
            }
            stages.push(stage(growth.to_stage, growth.step, growth.to, growth.params));
        }
        stages
    }

    /// What becomes different at the beginnings of the stages that the run has reached, with the last
    /// step before.
    pub(super) fn boundaries(&self) -> Vec<(u64, usize, String)> {
        let stages = self.stages();
        let reached = stages.windows(2).filter(|pair| pair[1].first_step <= self.last_step());
        let boundary = |pair: &[Stage]| {
            let (before, after) = (&pair[0], &pair[1]);
            let mut parts: Vec<String> = before.sizes.changes_in_words(after.sizes).into_iter().collect();
            if let (Some(before), Some(after)) = (before.planned, after.planned) {
                if before.0 != after.0 {
                    parts.push(format!("sequence {} → {}", before.0, after.0));
                }
                if before.1 != after.1 {
                    parts.push(format!("batch {} → {}", before.1, after.1));
                }
            }
            (after.first_step.saturating_sub(1), after.number, parts.join(", "))
        };
        reached.map(boundary).collect()
    }

    /// Every growth and every end of a ramp in the order of steps: the step, what happened, the receipt.
    pub(super) fn receipts(&self) -> Vec<(u64, String, Receipt)> {
        let growths = self.growths.iter().map(|growth| {
            let grown = growth.from.changes_in_words(growth.to);
            let what = format!("stage {}: {}", growth.to_stage, grown.unwrap_or_else(|| "same sizes".into()));
            (growth.step, what, growth.receipt)
        });
        let ends = self.ramp_ends.iter().map(|end| (end.step, "end of a ramp".to_owned(), end.receipt));
        let mut receipts: Vec<(u64, String, Receipt)> = growths.chain(ends).collect();
        receipts.sort_by_key(|(step, ..)| *step);
        receipts
    }

    /// The first evaluation at or under a loss.
    pub(super) fn reached(&self, loss: f64) -> Option<&Eval> {
        self.evals.iter().find(|eval| eval.loss <= loss)
    }

    /// The lowest held-out loss.
    pub(super) fn best(&self) -> Option<&Eval> {
        self.evals.iter().filter(|eval| eval.loss.is_finite()).min_by(|a, b| a.loss.total_cmp(&b.loss))
    }
}
