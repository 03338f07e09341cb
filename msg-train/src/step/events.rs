//! What a trainer reports while it runs.

use crate::{error::Result, metrics::Record};
use std::time::Duration;

/// A record, as it is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub record: Record,
    /// How long a step waited for its data; zero for what is no step.
    pub waited: Duration,
}

impl From<Record> for Event {
    fn from(record: Record) -> Self {
        Event { record, waited: Duration::ZERO }
    }
}

/// Takes every event of a trainer. An error ends the run.
pub type OnEvent<'a> = dyn FnMut(Event) -> Result<()> + 'a;
