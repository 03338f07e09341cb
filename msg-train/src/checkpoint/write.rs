//! Writing a checkpoint: everything under a temporary name, the marker last, then the rename.

use super::{
    CONFIG, FORMAT, Header, MARKER, MODEL, Marker, REPLACED, SAVING, STATE, TOKENIZER, files, folder_name,
    slots,
};
use crate::{
    error::{AtPath, Error, Result},
    families::family::Family,
    files::atomic::{sync_folder, write_synced},
    step::state::State,
};
use msg_core::{
    Backend,
    optim::{AnyOptimizer, Rule},
};
use msg_models::hf;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

/// What is saved.
#[derive(Debug)]
pub struct Snapshot<'a, D: Backend, M> {
    /// The model.
    pub model: &'a M,
    /// Its optimizer.
    pub optimizer: &'a AnyOptimizer<D>,
    /// Where the run stands.
    pub state: &'a State,
    /// The resolved configuration, as TOML.
    pub config: &'a str,
    /// The tokenizer's file, where there is one.
    pub tokenizer: Option<&'a Path>,
}

/// Writes a checkpoint into the folder `all` and returns its path. One of the same step is replaced.
///
/// # Errors
/// Where the system refuses (the folder is then as it was), or a value is not finite.
pub fn save<D: Backend, M: Family<D>>(all: &Path, snapshot: &Snapshot<'_, D, M>) -> Result<PathBuf> {
    fs::create_dir_all(all).at(all)?;
    let target = all.join(folder_name(snapshot.state.step));
    let temporary = tempfile::Builder::new().prefix(SAVING).tempdir_in(all).at(all)?;
    let folder = temporary.path();
    write_files(folder, snapshot)?;
    write_marker(folder, snapshot.state.step)?;
    // What stands under the same step gives way; until the second rename it has a hidden name, from which
    // `mend` brings it back, so that no moment has neither.
    let replaced = all.join(format!("{REPLACED}{}", snapshot.state.step));
    if target.exists() {
        let _ = fs::remove_dir_all(&replaced);
        fs::rename(&target, &replaced).at(&target)?;
    }
    let renamed = fs::rename(folder, &target).at(&target);
    if renamed.is_err() && replaced.exists() {
        fs::rename(&replaced, &target).at(&target)?;
    }
    renamed?;
    // The folder has its name now; there is nothing left to clean up.
    let _ = temporary.keep();
    let _ = fs::remove_dir_all(&replaced);
    sync_folder(all)?;
    Ok(target)
}

fn write_files<D: Backend, M: Family<D>>(folder: &Path, snapshot: &Snapshot<'_, D, M>) -> Result<()> {
    let Snapshot { model, optimizer, state, config, tokenizer } = snapshot;
    let notes = BTreeMap::from([("step".to_owned(), state.step.to_string())]);
    hf::save(*model, &M::NAMING, &notes, folder.join(MODEL))?;
    slots::write(folder, *model, optimizer, &notes)?;
    let malformed =
        |error: serde_json::Error| Error::Checkpoint { path: folder.join(STATE), message: error.to_string() };
    let header = Header {
        family: Some(M::RULES.name.to_owned()),
        state: (*state).clone(),
        growing: model.growing().clone(),
        model: serde_json::to_value(model.config_now()).map_err(malformed)?,
        births: optimizer.birth_steps().clone(),
        applied: optimizer.applied(),
        optimizer: Some(optimizer.rule().kind().to_owned()).filter(|kind| kind != slots::UNSAID),
    };
    let json = serde_json::to_vec_pretty(&header).map_err(malformed)?;
    write_synced(&folder.join(STATE), &json)?;
    write_synced(&folder.join(CONFIG), config.as_bytes())?;
    if let Some(tokenizer) = tokenizer {
        write_synced(&folder.join(TOKENIZER), &fs::read(tokenizer).at(*tokenizer)?)?;
    }
    Ok(())
}

pub(super) fn write_marker(folder: &Path, step: u64) -> Result<()> {
    let mut hashes = BTreeMap::new();
    for name in files() {
        let path = folder.join(&name);
        if path.exists() {
            hashes.insert(name, hash(&path)?);
        }
    }
    let marker = Marker { format: FORMAT, step, files: hashes };
    let path = folder.join(MARKER);
    let json = serde_json::to_vec_pretty(&marker)
        .map_err(|error| Error::Checkpoint { path: path.clone(), message: error.to_string() })?;
    write_synced(&path, &json)?;
    sync_folder(folder)
}

/// The hash of a file's bytes, in hexadecimal.
pub(crate) fn hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).at(path)?;
    hasher.update_reader(&mut file).at(path)?;
    Ok(hasher.finalize().to_hex().to_string())
}
