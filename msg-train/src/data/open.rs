//! The prepared data of a run: where they are, and how they are made and opened.

use super::{Phase, Prepare, Prepared, Progress, prepare};
use crate::{config::Resolved, error::Result, files::names};
use std::{path::PathBuf, sync::Arc};

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
    let request = Prepare::new(config.data(), config.model().family.specials, &folder);
    prepare(&request, &mut |Progress { phase, done, total }| progress(phase, done, total))?;
    Ok(Arc::new(Prepared::open(&folder)?))
}
