//! A run as its folder tells it.

use crate::{
    error::{AtPath, Result},
    files::names::{CONFIG, METRICS, TIMING},
    metrics::{
        End, Growth, RampEnd, Receipt, Record, RunPlan, StagePlan, Start,
        columns::{Column, Eval, Quantity, STEP_COLUMNS, Step, StepTiming, TIMING_COLUMNS},
        sinks::jsonl,
    },
    text::quantity::grouped,
};
use msg_models::Sizes;
use std::{fs, io::ErrorKind, iter, path::Path};

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
#[derive(Clone, Copy, Debug)]
pub(super) enum Against {
    /// The optimizer steps.
    Steps,
    /// A number of each step.
    Step(&'static Column<Step>),
    /// A clock reading of each step.
    Timing(&'static Column<StepTiming>),
}

impl Against {
    /// Everything, the steps first.
    pub(super) fn all() -> impl Iterator<Item = Against> {
        let step = STEP_COLUMNS.iter().filter(|column| column.axis().is_some()).map(Against::Step);
        let timing = TIMING_COLUMNS.iter().filter(|column| column.axis().is_some()).map(Against::Timing);
        iter::once(Against::Steps).chain(step).chain(timing)
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Against::Steps => "steps",
            Against::Step(column) => column.name,
            Against::Timing(column) => column.name,
        }
    }

    /// What its axis shows, and its name in full.
    pub(super) fn axis(self) -> (Quantity, &'static str) {
        let axis = match self {
            Against::Steps => None,
            Against::Step(column) => column.axis(),
            Against::Timing(column) => column.axis(),
        };
        axis.unwrap_or((Quantity::Count, "optimizer steps"))
    }

    /// A value on it as text.
    pub(super) fn text(self, value: f64) -> String {
        match self {
            Against::Steps => grouped(value as u64),
            Against::Step(column) => column.format.text(value),
            Against::Timing(column) => column.format.text(value),
        }
    }
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
        // The last record up to the step counts; before the first one there is nothing.
        match against {
            Against::Steps => Some(step as f64),
            Against::Step(column) => {
                let until = self.steps.partition_point(|record| record.step <= step);
                until.checked_sub(1).map_or(Some(0.0), |last| (column.value)(&self.steps[last]))
            }
            Against::Timing(_) if self.timings.is_empty() => None,
            Against::Timing(column) => {
                let until = self.timings.partition_point(|timing| timing.step <= step);
                until.checked_sub(1).map_or(Some(0.0), |last| (column.value)(&self.timings[last]))
            }
        }
    }

    /// Training losses over an axis, as they were recorded.
    pub(super) fn training(&self, against: Against) -> Vec<(f64, f64)> {
        let point = |step: &Step| Some((self.at(step.step, against)?, f64::from(step.loss)));
        self.steps.iter().filter_map(point).collect()
    }

    /// A number over the steps, where the run has it.
    pub(super) fn numbers(&self, column: &Column<Step>) -> Vec<(f64, f64)> {
        let point = |step: &Step| Some((step.step as f64, (column.value)(step)?));
        self.steps.iter().filter_map(point).collect()
    }

    /// Held-out losses over an axis.
    pub(super) fn validation(&self, against: Against) -> Vec<(f64, f64)> {
        self.evals.iter().filter_map(|eval| Some((self.at(eval.step, against)?, eval.loss))).collect()
    }

    /// Whether the plan of its stages is on file.
    pub(super) fn is_planned(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| !plan.stages.is_empty())
    }

    /// The stages, first to last; none where neither plan nor growths tell. What only a plan tells is 0 without one.
    pub(super) fn stages(&self) -> Vec<StagePlan> {
        if let Some(plan) = self.plan.as_ref().filter(|_| self.is_planned()) {
            return plan.stages.clone();
        }
        let starts = self.start.iter().map(|start| (1, 1, start.sizes, start.params));
        let growths = self.growths.iter();
        let growths = growths.map(|growth| (growth.to_stage, growth.step, growth.to, growth.params));
        let begun: Vec<(usize, u64, Sizes, u64)> = starts.chain(growths).collect();
        let ends = begun.iter().skip(1).map(|(_, first_step, ..)| *first_step);
        let ends = ends.chain([self.last_step() + 1]);
        let stage =
            |(&(number, first_step, sizes, params), end): (&(usize, u64, Sizes, u64), u64)| StagePlan {
                number,
                first_step,
                steps: end.saturating_sub(first_step),
                sizes,
                sequence: 0,
                batch: 0,
                params,
                flops_per_token: 0.0,
                ramp: 0,
            };
        begun.iter().zip(ends).map(stage).collect()
    }

    /// Of each stage after the first that the run has reached: the last step before it, its number, what changed.
    pub(super) fn boundaries(&self) -> Vec<(u64, usize, String)> {
        let stages = self.stages();
        let reached = stages.windows(2).filter(|pair| pair[1].first_step <= self.last_step());
        let boundary = |pair: &[StagePlan]| {
            let (before, after) = (&pair[0], &pair[1]);
            let mut parts: Vec<String> = before.sizes.changes_in_words(after.sizes).into_iter().collect();
            if before.sequence != after.sequence {
                parts.push(format!("sequence {} → {}", before.sequence, after.sequence));
            }
            if before.batch != after.batch {
                parts.push(format!("batch {} → {}", before.batch, after.batch));
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
