//! Who listens to a run.

use super::{Record, StepTiming};
use crate::error::Result;

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
