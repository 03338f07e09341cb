//! Reading a checkpoint: hashes first, then the header, then a model of its sizes, then the tensors.

use super::{
    CONFIG, FORMAT, Header, MARKER, MODEL, Marker, REQUIRED, STATE, config_of, files, slot_file, slots,
    write::hash,
};
use crate::{
    error::{AtPath, Error, Result},
    families::family::Family,
    files::{bounded_json, names::checkpoint_step},
};
use msg_core::{
    Backend,
    growth::Init,
    ops::Compute,
    optim::{AnyOptimizer, OptimizerConfig, Rule, all_slots},
};
use msg_models::hf::{self, InFile, TensorFile};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Loaded<D: Backend, M> {
    /// The model, with its ramps.
    pub model: M,
    /// Its optimizer.
    pub optimizer: AnyOptimizer<D>,
    /// Where the run stood.
    pub header: Header,
    /// The resolved configuration that it was saved under, as TOML.
    pub config: String,
}

/// The steps of the whole checkpoints in a folder, ascending. What has no marker is none.
///
/// # Errors
/// Where the system refuses.
pub fn steps(all: &Path) -> Result<Vec<u64>> {
    if !all.exists() {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    for entry in fs::read_dir(all).at(all)? {
        let entry = entry.at(all)?;
        let name = entry.file_name();
        let step = name.to_str().and_then(checkpoint_step);
        if let Some(step) = step.filter(|_| entry.path().join(MARKER).is_file()) {
            steps.push(step);
        }
    }
    steps.sort_unstable();
    Ok(steps)
}

/// The latest whole checkpoint in a folder.
///
/// # Errors
/// Where the system refuses.
pub fn latest(all: &Path) -> Result<Option<PathBuf>> {
    Ok(steps(all)?.last().map(|&step| all.join(super::folder_name(step))))
}

/// Reads a checkpoint whose bytes are those that were written.
///
/// # Errors
/// [`Error::Checkpoint`] where a file is missing, cut or changed, or of another format or family, and where it
/// holds a model without an optimizer.
pub fn load<D: Backend, M: Family<D>>(
    path: &Path,
    device: &D,
    rule: impl Into<OptimizerConfig>,
) -> Result<Loaded<D, M>> {
    let rule = rule.into();
    let refuse = |message: String| Error::Checkpoint { path: path.to_owned(), message };
    let (model, header): (M, _) = load_model(path, device)?;
    let saved = header.optimizer.as_deref().unwrap_or(slots::UNSAID);
    let has_slots = all_slots().any(|slot| path.join(slot_file(slot)).exists());
    if has_slots && saved != rule.kind() {
        return Err(refuse(format!("expected the optimizer {:?}, got the state of {saved:?}", rule.kind())));
    }
    let needed = rule.slots().iter().map(|slot| slot_file(slot)).chain([CONFIG.to_owned()]);
    if let Some(name) = needed.into_iter().find(|name| !path.join(name).exists()) {
        return Err(refuse(format!(
            "expected a run's checkpoint, got a model without an optimizer: no {name}"
        )));
    }
    let config = bounded_json::text(&path.join(CONFIG))?;
    let slots = slots::read(path, &model, rule)?;
    let optimizer = AnyOptimizer::restored(rule, slots, header.births.clone(), header.applied)?;
    Ok(Loaded { model, optimizer, header, config })
}

/// The model of a checkpoint with its ramps, and where its run stood. The optimizer's slots are checked but
/// not kept in memory.
///
/// # Errors
/// As [`load`].
pub fn load_model<D: Backend, M: Family<D>>(path: &Path, device: &D) -> Result<(M, Header)> {
    let (model, header, file) = blank_model::<D, M>(path, device)?;
    let values = InFile::check(&model, &file.tensors(), &M::NAMING, &[])?;
    Ok((values.into(model)?, header))
}

/// As [`load_model`], with the values left in the file; the model holds zeros.
pub(crate) fn blank_model<D: Backend, M: Family<D>>(
    path: &Path,
    device: &D,
) -> Result<(M, Header, TensorFile)> {
    check(path)?;
    let at = path.join(STATE);
    let refuse = |message: String| Error::Checkpoint { path: at.clone(), message };
    let header: Header = bounded_json::read(&at)?;
    let made_from: M::Config = serde_json::from_value(header.model.clone())
        .map_err(|error| refuse(format!("is of another family or version: {error}")))?;
    // Sizes are a claim until the file has tensors of them: only then is a model made.
    let file = TensorFile::open(path.join(MODEL))?;
    hf::check_outline(&file.tensors(), &M::NAMING, &[], M::outline(&made_from))?;
    let mut model = M::build(device, made_from, Init::BLANK)?;
    let (growing, built) = (&header.growing, model.growing());
    let same = (growing.sizes, growing.head_dim, growing.layer_ids.len())
        == (built.sizes, built.head_dim, built.sizes.layers);
    if !same {
        return Err(refuse(format!(
            "expected the sizes {:?} twice, got {:?}, too",
            built.sizes, growing.sizes
        )));
    }
    *model.growing_mut() = header.growing.clone();
    model.masks(header.state.step)?;
    // As its run computed, so that figures and receipts are the run's own.
    let precision =
        config_of(path, &[M::RULES])?.map_or_else(Default::default, |config| config.train().precision);
    model.set_compute(Compute { precision, ..Compute::default() });
    Ok((model, header, file))
}

/// Compares every file with the marker.
fn check(path: &Path) -> Result<()> {
    let refuse = |message: String| Error::Checkpoint { path: path.to_owned(), message };
    let marker = marker(path)?;
    for (name, expected) in &marker.files {
        let got = hash(&path.join(name))?;
        if got != *expected {
            return Err(refuse(format!("{name} is damaged: expected hash {expected}, got {got}")));
        }
    }
    let mut held = files().filter(|name| REQUIRED.contains(&name.as_str()) || path.join(name).exists());
    match held.find(|name| !marker.files.contains_key(name)) {
        Some(name) => Err(refuse(format!("{MARKER} does not list {name}"))),
        None => Ok(()),
    }
}

/// The marker, where it is of this format.
fn marker(path: &Path) -> Result<Marker> {
    let refuse = |message: String| Error::Checkpoint { path: path.to_owned(), message };
    let marker_path = path.join(MARKER);
    if !marker_path.is_file() {
        return Err(refuse(format!("is no checkpoint: it holds no {MARKER}")));
    }
    let marker: Marker = bounded_json::read(&marker_path)?;
    if marker.format != FORMAT {
        return Err(refuse(format!("expected format {FORMAT}, got {}", marker.format)));
    }
    // What a marker may not name: a device that never ends, say.
    match marker.files.keys().find(|name| !files().any(|known| known == **name)) {
        Some(name) => Err(refuse(format!("{MARKER} lists {name:?}, which is no file of a checkpoint"))),
        None => Ok(marker),
    }
}

/// The hashes that a checkpoint's marker has, by file.
///
/// # Errors
/// Where the marker cannot be read.
pub(crate) fn marked(path: &Path) -> Result<BTreeMap<String, String>> {
    Ok(marker(path)?.files)
}

/// The hash that a checkpoint's marker has for one of its files.
///
/// # Errors
/// Where the marker cannot be read.
pub(crate) fn marked_hash(path: &Path, file: &str) -> Result<Option<String>> {
    Ok(marker(path)?.files.remove(file))
}
