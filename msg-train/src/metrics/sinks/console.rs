//! What a person sees during a run: a bar on a terminal, plain lines elsewhere.
//!
//! The columns are those of [`columns`](crate::metrics::columns); the sentences are worded here. The time that is left
//! is measured in FLOPs, since the steps of later stages take longer than those of earlier ones.

use crate::{
    error::Result,
    metrics::{
        columns::{Cell, Column, EVAL_COLUMNS, Eval, STEP_COLUMNS, Step, StepTiming, TIMING_COLUMNS},
        plan::RunPlan,
        record::{Growth, Receipt, Record},
        sink::Sink,
    },
    text::quantity::{count, duration},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

/// Seconds between plain lines.
const LINE_EVERY: f64 = 10.0;
/// Share of the newest step in the smoothed speed.
const SPEED_WEIGHT: f64 = 0.1;

/// The display of one run.
pub struct Console {
    plan: RunPlan,
    out: Out,
    step: Option<Step>,
    eval: Option<Eval>,
    flops_per_second: Option<f64>,
    flops_before: Option<f64>,
    last_line: Option<f64>,
}

/// Where it goes.
enum Out {
    Bar(ProgressBar),
    Lines(Box<dyn Write + Send>),
}

impl Console {
    /// A bar if stderr is a terminal, else plain lines on stderr. `done` steps are done.
    pub fn stderr(plan: RunPlan, done: u64) -> Self {
        match std::io::stderr().is_terminal() {
            true => Self::bar(plan, done, ProgressDrawTarget::stderr()),
            false => Self::lines(plan, Box::new(std::io::stderr())),
        }
    }

    /// A bar on a target.
    pub fn bar(plan: RunPlan, done: u64, target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(Some(plan.total_steps), target);
        // The template is fixed and tested; without it indicatif's own serves.
        if let Ok(style) =
            ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {percent:>3} %\n{wide_msg}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_position(done);
        bar.enable_steady_tick(Duration::from_millis(500));
        Self::new(plan, Out::Bar(bar))
    }

    /// Plain lines with fixed columns, one in ten seconds of training and one for every event.
    pub fn lines(plan: RunPlan, out: Box<dyn Write + Send>) -> Self {
        let mut console = Self::new(plan, Out::Lines(out));
        console.print(&header());
        console
    }

    fn new(plan: RunPlan, out: Out) -> Self {
        Console {
            plan,
            out,
            step: None,
            eval: None,
            flops_per_second: None,
            flops_before: None,
            last_line: None,
        }
    }

    /// Shows a text, above the bar where there is one.
    fn say(&mut self, text: &str) {
        match &self.out {
            // indicatif drops the lines of a finished bar.
            Out::Bar(bar) if bar.is_finished() => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            Out::Bar(bar) => bar.println(text),
            Out::Lines(_) => self.print(text),
        }
    }

    /// Ignores errors: a display that cannot be written to (a closed pipe) must not end a run of days.
    fn print(&mut self, line: &str) {
        if let Out::Lines(out) = &mut self.out {
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }

    /// Smooths the speed in FLOPs a second, from which the time that is left follows.
    fn measure(&mut self, step: &Step, timing: &StepTiming) {
        let flops = match (self.flops_before, self.plan.stage_of(step.step)) {
            (Some(before), _) => step.flops - before,
            (None, Some(stage)) => stage.flops_per_step(),
            (None, None) => return,
        };
        let speed = flops / timing.step_seconds;
        if speed.is_finite() && speed > 0.0 {
            let before = self.flops_per_second.unwrap_or(speed);
            self.flops_per_second = Some(before + SPEED_WEIGHT * (speed - before));
        }
    }

    fn bar_message(&self, step: &Step, timing: &StepTiming, left: Option<f64>) -> String {
        let cell = |(cell, text): (Cell, String)| format!("{} {text}  ", cell.head);
        let cells: String = self.cells(step, timing).into_iter().map(cell).collect();
        format!("{cells}ETA {}", or_dash(left.map(duration)))
    }

    fn line(&self, step: &Step, timing: &StepTiming, left: Option<f64>) -> String {
        let stage = format!("{}/{}", step.stage, self.plan.stages.len());
        let at = format!("{}/{}", step.step, self.plan.total_steps);
        line(&stage, &at, self.cells(step, timing), &or_dash(left.map(duration)))
    }

    fn cells(&self, step: &Step, timing: &StepTiming) -> Vec<(Cell, String)> {
        cells(Some(step), self.eval.as_ref(), Some(timing))
    }
}

impl Sink for Console {
    fn record(&mut self, record: &Record) -> Result<()> {
        match record {
            Record::Start(start) => {
                let params = count(start.params as f64);
                self.say(&format!("{}: {params} parameters, {}", start.name, start.sizes));
            }
            Record::Step(step) => {
                if step.skipped {
                    self.say(&format!(
                        "step {}: update left out, loss {}, gradient norm {}",
                        step.step, step.loss, step.grad_norm
                    ));
                }
                self.flops_before = self.step.map(|before| before.flops);
                self.step = Some(*step);
            }
            Record::Eval(eval) => {
                self.eval = Some(*eval);
                let number = |column: &Column<Eval>| {
                    Some(format!("{} {}", column.name, column.format.text((column.value)(eval)?)))
                };
                let numbers: Vec<String> = EVAL_COLUMNS.iter().filter_map(number).collect();
                self.say(&format!("step {}: {}", eval.step, numbers.join(", ")));
            }
            Record::Growth(growth) => {
                // The next line is the first of its stage, so it is shown at once.
                self.last_line = None;
                self.say(&grown(growth));
            }
            Record::RampEnd(end) => {
                self.say(&format!("step {}: ramp ended; {}", end.step, receipt(&end.receipt)));
            }
            Record::End(end) => {
                if let Out::Bar(bar) = &self.out {
                    bar.finish();
                }
                let (tokens, flops) = (count(end.tokens as f64), count(end.flops));
                self.say(&format!("step {}: done; {tokens} tokens, {flops} FLOPs", end.step));
            }
        }
        Ok(())
    }

    /// Shows the step that was recorded last, with its speed.
    fn timing(&mut self, timing: &StepTiming) -> Result<()> {
        let Some(step) = self.step else { return Ok(()) };
        self.measure(&step, timing);
        let left = self.flops_per_second.map(|speed| self.plan.flops_after(step.step) / speed);
        match &self.out {
            Out::Bar(bar) => {
                bar.set_position(step.step);
                bar.set_prefix(format!("stage {}/{}", step.stage, self.plan.stages.len()));
                bar.set_message(self.bar_message(&step, timing, left));
            }
            Out::Lines(_) => {
                let last = step.step == self.plan.total_steps
                    || self.plan.stage_of(step.step).is_some_and(|stage| stage.last_step() == step.step);
                if last || self.last_line.is_none_or(|before| timing.seconds - before >= LINE_EVERY) {
                    self.last_line = Some(timing.seconds);
                    let line = self.line(&step, timing, left);
                    self.print(&line);
                }
            }
        }
        Ok(())
    }
}

/// The columns of a table that the console shows, with the numbers of a record.
fn shown<'a, R>(columns: &'a [Column<R>], record: Option<&'a R>) -> impl Iterator<Item = (Cell, String)> {
    let number = move |column: &Column<R>| Some(column.format.text((column.value)(record?)?));
    columns.iter().filter_map(move |column| Some((column.console?, or_dash(number(column)))))
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// The columns in their order with their numbers, as far as they are known. The loss of the last evaluation follows
/// that of the step.
fn cells(step: Option<&Step>, eval: Option<&Eval>, timing: Option<&StepTiming>) -> Vec<(Cell, String)> {
    let (loss, others) = STEP_COLUMNS.split_at(1);
    shown(loss, step)
        .chain(shown(EVAL_COLUMNS, eval))
        .chain(shown(others, step))
        .chain(shown(TIMING_COLUMNS, timing))
        .collect()
}

/// The heads of the columns.
fn header() -> String {
    let heads = cells(None, None, None).into_iter().map(|(cell, _)| (cell, cell.head.to_owned()));
    line("stage", "step", heads.collect(), "ETA")
}

fn line(stage: &str, step: &str, cells: Vec<(Cell, String)>, left: &str) -> String {
    let cells: String =
        cells.iter().map(|(cell, text)| format!(" {text:>width$}", width = cell.width)).collect();
    format!("{stage:>5} {step:>15}{cells} {left:>9}")
}

fn grown(growth: &Growth) -> String {
    format!(
        "step {}: stage {} of {} parameters; {}; {}",
        growth.step,
        growth.to_stage,
        count(growth.params as f64),
        growth.from.changes_in_words(growth.to).unwrap_or_else(|| "same sizes".to_owned()),
        receipt(&growth.receipt)
    )
}

fn receipt(receipt: &Receipt) -> String {
    format!(
        "max |dlogit| {:.1e} (tolerance {:.1e}), dloss {:+.1e}: {}",
        receipt.max_dlogit,
        receipt.tolerance,
        receipt.dloss,
        if receipt.function_preserving { "function preserved" } else { "FUNCTION NOT PRESERVED" }
    )
}

#[cfg(test)]
mod tests;
