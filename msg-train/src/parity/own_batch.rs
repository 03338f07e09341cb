//! The batch on which a checkpoint is compared with what becomes of it: text of its own run, or random ids.

use crate::{
    config::Resolved,
    data::{
        Prepared,
        fixed_batch::{FIXED_SEQUENCES, fixed_batch},
        open::data_folder,
    },
    families::{
        family::{HostOf, Trainable},
        objective::{BatchOptions, Objective},
    },
};
use msg_core::Backend;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Seed of drawn batches.
const SEED: u64 = 0;
/// Tokens of a drawn sequence for a model that has no run.
const DRAWN: usize = 32;

/// What a batch is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchOf {
    /// The first held-out sequences (or, where none are held out, training sequences) of prepared data.
    Text(PathBuf),
    /// Random ids, and why no text.
    Drawn(String),
}

impl fmt::Display for BatchOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchOf::Text(folder) => write!(f, "text of {}", folder.display()),
            BatchOf::Drawn(why) => write!(f, "random ids ({why})"),
        }
    }
}

/// A batch with what it is of.
#[derive(Debug)]
pub struct OwnBatch<H> {
    /// What it is of.
    pub of: BatchOf,
    /// The batch.
    pub host: H,
    /// Sequences, and their length.
    pub shape: (usize, usize),
}

/// A checkpoint, as far as its batch depends on it.
#[derive(Clone, Copy, Debug)]
pub struct CheckpointOf<'a> {
    /// Its folder.
    pub path: &'a Path,
    /// The configuration of its run, where it had one.
    pub run: Option<&'a Resolved>,
    /// Its stage, from 1.
    pub stage: usize,
    /// Its tokenizer.json; empty without one.
    pub tokenizer: &'a [u8],
}

/// The fixed batch of a checkpoint's own run, or a drawn one.
pub fn own_batch<D: Backend, M: Trainable<D>>(
    checkpoint: CheckpointOf<'_>,
    model: &M,
) -> OwnBatch<HostOf<D, M>> {
    let CheckpointOf { run, stage, .. } = checkpoint;
    let length = match run {
        Some(run) => {
            let stage = run.stages().get(stage.saturating_sub(1));
            stage.map_or(1, |stage| stage.sequence)
        }
        None => DRAWN.min(model.positions()),
    };
    let text = run.ok_or_else(|| "the model has no run".to_owned()).and_then(|run| {
        let (folder, data) = data_of(checkpoint, run)?;
        let source = <M::Objective>::source(data, &BatchOptions::new(Some(run), length));
        let host = source.and_then(|source| fixed_batch(&source, length));
        Ok((folder, host.map_err(|error| error.to_string())?))
    });
    let shape = (FIXED_SEQUENCES, length);
    match text {
        Ok((folder, host)) => OwnBatch { of: BatchOf::Text(folder), host, shape },
        Err(why) => {
            let host = <M::Objective>::drawn(model, shape, SEED);
            OwnBatch { of: BatchOf::Drawn(why), host, shape }
        }
    }
}

/// The data that the run trained on, where they are still there; or why not.
fn data_of(checkpoint: CheckpointOf<'_>, run: &Resolved) -> Result<(PathBuf, Arc<Prepared>), String> {
    // Where the configuration says, or beside the checkpoints of a run that was moved.
    let beside = checkpoint.path.parent().and_then(Path::parent).map(|run| run.join("data"));
    let folders = [Some(data_folder(run)), beside];
    let folder = folders.into_iter().flatten().find(|folder| folder.is_dir());
    let folder = folder.ok_or_else(|| format!("no data in {}", data_folder(run).display()))?;
    let data = Prepared::open(&folder).map_err(|error| error.to_string())?;
    if checkpoint.tokenizer != data.tokenizer().json() {
        return Err(format!("{} has another tokenizer", folder.display()));
    }
    Ok((folder, Arc::new(data)))
}
