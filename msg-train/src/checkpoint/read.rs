//! Reading a checkpoint: hashes first, then the header, then a model of its sizes, then the tensors.

use super::{CONFIG, FIRST, FORMAT, Header, MARKER, MODEL, Marker, SECOND, STATE, write::hash};
use crate::{
    error::{AtPath, Error, Result},
    task::Task,
};
use msg_core::{
    device::Backend,
    optim::{AdamW, AdamWConfig},
    params::Init,
};
use msg_models::hf::{self, TensorFile};
use serde::de::DeserializeOwned;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A checkpoint in memory.
#[derive(Debug)]
pub struct Loaded<D: Backend, M> {
    /// The model, with its ramps.
    pub model: M,
    /// Its optimizer.
    pub optimizer: AdamW<D>,
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
        let step = name.to_str().and_then(|name| name.strip_prefix("step-")?.parse().ok());
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
/// [`Error::Checkpoint`] where a file is missing, cut or changed, or of another format or family.
pub fn load<D: Backend, M: Task<D>>(path: &Path, device: &D, adamw: AdamWConfig) -> Result<Loaded<D, M>> {
    let (model, header, config): (M, _, _) = load_model(path, device)?;
    let moments = (read(path, FIRST, &model)?.tensors(), read(path, SECOND, &model)?.tensors());
    let optimizer = AdamW::restored(adamw, moments, header.births.clone(), header.applied)?;
    Ok(Loaded { model, optimizer, header, config })
}

/// The model of a checkpoint with its ramps, where the run stood, and the resolved configuration that it was
/// saved under, as TOML. The optimizer's moments are checked but not kept in memory.
///
/// # Errors
/// As [`load`].
pub fn load_model<D: Backend, M: Task<D>>(path: &Path, device: &D) -> Result<(M, Header, String)> {
    check(path)?;
    let header: Header = parse(&path.join(STATE))?;
    let config_path = path.join(CONFIG);
    let config = fs::read_to_string(&config_path).at(config_path)?;
    let made_from = serde_json::from_value(header.model.clone()).map_err(|error| Error::Checkpoint {
        path: path.join(STATE),
        message: format!("is of another family or version: {error}"),
    })?;
    let mut model = read(path, MODEL, &M::build(device, made_from, Init::default())?)?;
    *model.growing_mut() = header.growing.clone();
    Ok((model, header, config))
}

/// The tensors of one file in a model of the same sizes as `like`.
fn read<D: Backend, M: Task<D>>(path: &Path, file: &str, like: &M) -> Result<M> {
    let file = TensorFile::open(path.join(file))?;
    Ok(hf::load(like, &file.tensors(), &M::NAMING)?)
}

/// Compares every file with the marker.
fn check(path: &Path) -> Result<()> {
    let refuse = |message: String| Error::Checkpoint { path: path.to_owned(), message };
    let marker_path = path.join(MARKER);
    if !marker_path.is_file() {
        return Err(refuse(format!("is no checkpoint: it holds no {MARKER}")));
    }
    let marker: Marker = parse(&marker_path)?;
    if marker.format != FORMAT {
        return Err(refuse(format!("expected format {FORMAT}, got {}", marker.format)));
    }
    for (name, expected) in &marker.files {
        let got = hash(&path.join(name))?;
        if got != *expected {
            return Err(refuse(format!("{name} is damaged: expected hash {expected}, got {got}")));
        }
    }
    match [MODEL, FIRST, SECOND, STATE, CONFIG].iter().find(|name| !marker.files.contains_key(**name)) {
        Some(name) => Err(refuse(format!("{MARKER} does not list {name}"))),
        None => Ok(()),
    }
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).at(path)?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::Checkpoint { path: path.to_owned(), message: error.to_string() })
}
