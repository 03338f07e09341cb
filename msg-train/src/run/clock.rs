//! How long steps take.

use crate::{
    error::Result,
    metrics::{Record, RunLog, Step, StepTiming},
    schedule::plan::Plan,
    step::events::Event,
};
use std::time::Instant;

/// Times steps from record to record.
pub(super) struct Clock {
    /// Seconds of training before `since`.
    seconds: f64,
    /// When the last step was done, or training continued.
    since: Instant,
}

impl Clock {
    /// A clock that starts now, after `seconds` of training.
    pub(super) fn start(seconds: f64) -> Self {
        Clock { seconds, since: Instant::now() }
    }

    /// Leaves out the time since the last step.
    pub(super) fn skip(&mut self) {
        self.since = Instant::now();
    }

    /// Logs an event, and after that of a step its time.
    pub(super) fn log(&mut self, log: &mut RunLog, plan: &Plan, event: &Event) -> Result<()> {
        log.record(&event.record)?;
        let Record::Step(Step { step, .. }) = event.record else { return Ok(()) };
        let step_seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        self.seconds += step_seconds;
        log.timing(&StepTiming {
            step,
            seconds: self.seconds,
            step_seconds,
            data_seconds: event.waited.as_secs_f64(),
            tokens_per_second: plan.stage_at(step).tokens_per_step() as f64 / step_seconds,
        })
    }
}
