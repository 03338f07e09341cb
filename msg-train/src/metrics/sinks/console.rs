//! What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere.
//!
//! The only module that words these. Everything shown is taken from records; the time that is left is
//! reckoned in FLOPs, since the steps of later stages take longer than those of earlier ones.

use crate::{
    metrics::{Growth, Receipt, Record, RunPlan, Step, StepTiming},
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
    validation: Option<f64>,
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
    /// A bar where stderr is a terminal, plain lines on stderr elsewhere. `done` steps lie behind.
    pub fn stderr(plan: RunPlan, done: u64) -> Self {
        match std::io::stderr().is_terminal() {
            true => Self::bar(plan, done, ProgressDrawTarget::stderr()),
            false => Self::lines(plan, Box::new(std::io::stderr())),
        }
    }

    /// A bar on a target.
    pub fn bar(plan: RunPlan, done: u64, target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(Some(plan.total_steps), target);
        // The template is fixed and tested; were it refused, indicatif's own would do.
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
        console.print(HEADER);
        console
    }

    fn new(plan: RunPlan, out: Out) -> Self {
        Console {
            plan,
            out,
            step: None,
            validation: None,
            flops_per_second: None,
            flops_before: None,
            last_line: None,
        }
    }

    /// Shows a record.
    pub fn record(&mut self, record: &Record) {
        match record {
            Record::Start(start) => {
                let text =
                    format!("{}: {} parameters, {}", start.name, count(start.params as f64), start.sizes);
                self.say(&text);
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
                self.validation = Some(eval.loss);
                let accuracy = eval.accuracy.map_or(String::new(), |heads| {
                    format!(", MLM {:.1} %, NSP {:.1} %", heads.mlm * 100.0, heads.nsp * 100.0)
                });
                self.say(&format!(
                    "step {}: validation loss {:.4}, perplexity {:.2}{accuracy}",
                    eval.step, eval.loss, eval.perplexity
                ));
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
                let text = format!(
                    "step {}: done; {} tokens, {} FLOPs",
                    end.step,
                    count(end.tokens as f64),
                    count(end.flops)
                );
                self.say(&text);
            }
        }
    }

    /// Shows the step that was recorded last, with its speed.
    pub fn timing(&mut self, timing: &StepTiming) {
        let Some(step) = self.step else { return };
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
    }

    /// Shows a text, above the bar where there is one.
    pub fn say(&mut self, text: &str) {
        match &self.out {
            // indicatif drops lines of a bar that is not drawn any more.
            Out::Bar(bar) if bar.is_finished() => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
            Out::Bar(bar) => bar.println(text),
            Out::Lines(_) => self.print(text),
        }
    }

    /// A display that cannot be written to (a closed pipe) must not end a run of days, so its errors go.
    fn print(&mut self, line: &str) {
        if let Out::Lines(out) = &mut self.out {
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }

    /// Smooths the speed in FLOPs a second, which tells the time that is left across stages.
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
        format!(
            "loss {:.4}  val {}  lr {:.2e}  |g| {:.2}  mask {:.3}  {} tok/s  ETA {}",
            step.loss,
            self.validation.map_or("-".to_owned(), |loss| format!("{loss:.4}")),
            step.lr,
            step.grad_norm,
            step.mask,
            count(timing.tokens_per_second),
            left.map_or("-".to_owned(), duration),
        )
    }

    fn line(&self, step: &Step, timing: &StepTiming, left: Option<f64>) -> String {
        format!(
            "{:>5} {:>15} {:>8.4} {:>8} {:>9.2e} {:>8.3} {:>6.3} {:>7} {:>9}",
            format!("{}/{}", step.stage, self.plan.stages.len()),
            format!("{}/{}", step.step, self.plan.total_steps),
            step.loss,
            self.validation.map_or("-".to_owned(), |loss| format!("{loss:.4}")),
            step.lr,
            step.grad_norm,
            step.mask,
            count(timing.tokens_per_second),
            left.map_or("-".to_owned(), duration),
        )
    }
}

/// The heads of [`Console::line`]'s columns.
const HEADER: &str = "stage            step     loss      val        lr     norm   mask   tok/s       ETA";

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
