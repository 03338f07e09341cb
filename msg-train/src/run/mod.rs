//! A run from its configuration to its last checkpoint: folder, data, resume, the loop, what is saved when.

mod folder;
mod memory;
mod session;
mod start;

pub use folder::RunFolder;
pub use session::{Outcome, Session};

use crate::{
    config::{Family, Resolved},
    data::{Batches, Causal, Mlm, Phase, Prepare, Prepared, Progress, prepare},
    error::Result,
    families::family::Task,
    files::names,
    schedule::plan::Plan,
    step::fault_injection::Fault,
};
use msg_core::Backend;
use msg_models::{bert::Bert, gpt::Gpt};
use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

/// What to do with a run that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Refuse to touch it.
    Never,
    /// Go on after its last checkpoint, or start it where there is none.
    Auto,
}

/// What a run takes.
pub struct Request<'a> {
    /// Its configuration.
    pub config: &'a Resolved,
    /// The plan of that configuration.
    pub plan: &'a Plan,
    /// Its data, from [`open_data`].
    pub data: Arc<Prepared>,
    /// What to do with a run that exists.
    pub resume: Resume,
    /// Set from outside (Ctrl-C): the run saves after the step under way and stops.
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

/// The folder of a run's prepared data.
pub fn data_folder(config: &Resolved) -> PathBuf {
    config.data().shards.clone().unwrap_or_else(|| config.run().folder().join(names::DATA))
}

/// Prepares a run's data where that is not done yet, and opens it.
///
/// # Errors
/// What sources, tokenizer or shards refuse.
pub fn open_data(config: &Resolved, progress: &mut dyn FnMut(Phase, u64, u64)) -> Result<Arc<Prepared>> {
    let folder = data_folder(config);
    let request = Prepare::new(config.data(), config.model().family, &folder);
    prepare(&request, &mut |Progress { phase, done, total }| progress(phase, done, total))?;
    Ok(Arc::new(Prepared::open(&folder)?))
}

/// Trains a run to its end, or until it is asked to stop.
///
/// # Errors
/// Whatever configuration, data, receipts, guard or system refuse; what was saved before stays whole.
pub fn train<D: Backend>(device: D, request: Request<'_>) -> Result<Outcome> {
    let Request { config, data, .. } = &request;
    match config.model().family {
        Family::Gpt => {
            let batches = Causal::new(data.clone(), config.run().seed, request.plan.window())?;
            train_on::<D, Gpt<D>, _>(device, &request, batches)
        }
        Family::Bert => {
            let batches = Mlm::new(data.clone(), config.run().seed, config.data().mlm)?;
            train_on::<D, Bert<D>, _>(device, &request, batches)
        }
    }
}

fn train_on<D: Backend, M: Task<D>, B: Batches<Batch = M::Host> + 'static>(
    device: D,
    request: &Request<'_>,
    batches: B,
) -> Result<Outcome> {
    Session::<D, M, B>::open(device, request, Arc::new(batches))?.run(request.stop)
}
