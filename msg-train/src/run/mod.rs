//! A run from its configuration to its last checkpoint: folder, data, resume, the loop, what is saved when.

mod clock;
mod folder;
mod memory;
mod open;
mod session;
mod start;

pub use folder::{Resume, RunFolder};
pub use session::{Outcome, Session};

use crate::{
    config::Resolved,
    data::Prepared,
    error::Result,
    families::{
        family::Family,
        objective::{BatchOptions, Objective},
        registry::{ForFamily, Listed, with_family},
    },
    schedule::plan::Plan,
    step::fault_injection::Fault,
};
use msg_core::Backend;
use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

/// What a run takes.
pub struct Request<'a> {
    /// Its configuration.
    pub config: &'a Resolved,
    /// The plan of that configuration.
    pub plan: &'a Plan,
    /// Its data, from [`open_data`](crate::data::open::open_data).
    pub data: Arc<Prepared>,
    /// What to do with a run that exists.
    pub resume: Resume,
    /// Set from outside (Ctrl-C): the run saves after the current step and stops.
    pub stop: &'a AtomicBool,
    /// Whether to show progress on stderr.
    pub console: bool,
    /// A fault to make at every growth, for tests of the receipts; none in real runs.
    pub fault: Option<Fault>,
}

/// Refuses, before any work, what [`train`] would refuse about the run's folder.
///
/// # Errors
/// [`Error::Checkpoint`](crate::Error::Checkpoint) where another process uses it, or a run is there that is
/// not to be resumed.
pub fn check_folder(config: &Resolved, resume: Resume) -> Result<()> {
    let folder = config.run().folder();
    if folder.exists() { RunFolder::claim(folder, resume).map(drop) } else { Ok(()) }
}

/// Trains a run to its end, or until it is asked to stop.
///
/// # Errors
/// Whatever configuration, data, receipts, guard or system refuse; what was saved before stays whole.
pub fn train<D: Backend>(device: D, request: Request<'_>) -> Result<Outcome> {
    struct Train<'a, 'r, D>(D, &'a Request<'r>);
    impl<D: Backend> ForFamily<D> for Train<'_, '_, D> {
        type Out = Result<Outcome>;
        fn with<M: Listed<D>>(self) -> Result<Outcome> {
            train_as::<D, M>(self.0, self.1)
        }
    }
    let family = request.config.model().family.name;
    with_family(family, Path::new("configuration"), Train(device, &request))?
}

/// As [`train`], of the family `M`, which need not be in the list.
///
/// # Errors
/// As [`train`].
pub fn train_as<D: Backend, M: Family<D>>(device: D, request: &Request<'_>) -> Result<Outcome> {
    let options = BatchOptions::new(Some(request.config), request.plan.window());
    let batches = <M::Objective>::source(request.data.clone(), &options)?;
    Session::<D, M, _>::open(device, request, Arc::new(batches))?.run(request.stop)
}
