//! What a run reports, and who can listen: a listener is a [`Sink`].

use super::{Record, StepTiming};
use crate::error::Result;

/// What a run reports at once: a record, and what only a clock knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub record: Record,
    /// Seconds that a step waited for its data; 0 for any other record.
    pub waited_seconds: f64,
}

impl From<Record> for Event {
    /// An event that waited for nothing.
    fn from(record: Record) -> Self {
        Event { record, waited_seconds: 0.0 }
    }
}

/// A listener of a run: a file, a display. It gets everything in the order of the steps.
pub trait Sink: Send {
    /// Takes a record.
    ///
    /// # Errors
    /// Where the system refuses; the run then stops.
    fn record(&mut self, record: &Record) -> Result<()>;

    /// Takes a step's clock readings, after the step's record.
    ///
    /// # Errors
    /// As [`Sink::record`].
    fn timing(&mut self, timing: &StepTiming) -> Result<()>;

    /// Waits until everything is on the disk. A checkpoint is written only after that.
    ///
    /// # Errors
    /// As [`Sink::record`].
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}
