//! Evaluates a checkpoint on the held-out part of its run's data, or of data given.

use crate::{
    checkpoint::Saved,
    data::{MANIFEST, Prepared, open::data_folder},
    error::{Error, Result},
    families::{
        held_out::{HeldOut, Span},
        objective::BatchOptions,
    },
    schedule::plan::Plan,
};
use msg_core::Backend;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What to evaluate a checkpoint on; what is left out comes from its run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// A folder of prepared data.
    pub data: Option<PathBuf>,
    /// Held-out sequences at most; by default all.
    pub sequences: Option<usize>,
    /// Tokens of a sequence; by default those of the checkpoint's stage.
    pub length: Option<usize>,
}

/// Sequences evaluated at a time for a model without a run.
const MICRO_BATCH: usize = 8;

/// A checkpoint's figures and what they were taken on.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The figures.
    pub held_out: HeldOut,
    /// The folder of the data.
    pub data: PathBuf,
    /// Tokens of a sequence.
    pub length: usize,
}

/// Evaluates a checkpoint, under the masks of its step.
///
/// # Errors
/// Where the data are missing, of another tokenizer or hold nothing out, a number is out of range, or the
/// device fails.
pub fn evaluate_saved<D: Backend>(saved: &Saved<D>, choice: &Choice) -> Result<Evaluation> {
    let state = &saved.state;
    // An imported model has no run; what its run would say has to be given.
    let config = saved.config.as_ref();
    let stage = config.map(Plan::new).map(|plan| *plan.stage_at(state.step.max(1)));
    let (shortest, positions) = saved.model.lengths();
    let length = choice.length.or(stage.map(|stage| stage.sequence)).unwrap_or(positions);
    if !(shortest..=positions).contains(&length) {
        let expected = format!("from {shortest} to the model's {positions} positions");
        return Err(Error::Argument { name: "sequence", expected, got: length.to_string() });
    }
    let sequences = choice.sequences.unwrap_or(usize::MAX);
    if sequences == 0 {
        let expected = "at least 1".into();
        return Err(Error::Argument { name: "sequences", expected, got: "0".into() });
    }
    let folder = choice.data.clone().or_else(|| config.map(data_folder)).ok_or_else(|| Error::Argument {
        name: "data",
        expected: "a folder of prepared data for a model that has no run".into(),
        got: "none".into(),
    })?;
    let data = open_data(saved, &folder)?;
    let micro_batch = config.and_then(|config| config.train().micro_batch);
    let micro_batch = micro_batch.or(stage.map(|stage| stage.batch)).unwrap_or(MICRO_BATCH);
    let span = Span { sequences, length, micro_batch };
    // Windows are of training alone.
    let options = BatchOptions::new(config, 1);
    match saved.model.held_out(data, &options, state.step, span)? {
        Some(held_out) => Ok(Evaluation { held_out, data: folder, length }),
        None => Err(Error::Data { path: folder, message: "expected held-out sequences, got none".into() }),
    }
}

/// Opens prepared data that hold the checkpoint's tokens.
fn open_data<D: Backend>(saved: &Saved<D>, folder: &Path) -> Result<Arc<Prepared>> {
    let refuse = |message: &str| Err(Error::Data { path: folder.to_owned(), message: message.into() });
    if !folder.join(MANIFEST).is_file() {
        return refuse("expected prepared data (`msg data prepare`, or another folder by --data), got none");
    }
    let data = Prepared::open(folder)?;
    if data.tokenizer().json() != saved.tokenizer()?.json() {
        return refuse("expected data of the checkpoint's tokenizer, got those of another");
    }
    Ok(Arc::new(data))
}
