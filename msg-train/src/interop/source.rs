//! The one door through which models come in: a checkpoint, a run's last one, or a published folder.

use super::{
    hf_folder,
    provenance::{self, Step},
};
use crate::{
    checkpoint::{self, MODEL, Origin},
    config::Resolved,
    data::Tokenizer,
    error::{Error, Result},
    families::family::Family,
    step::state::State,
};
use msg_core::Backend;
use msg_models::hf::{InFile, StoredType, TensorFile};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A checkpoint's folder.
    Checkpoint(PathBuf),
    /// A folder as transformers writes it.
    Published(PathBuf),
}

impl Place {
    /// Looks what `path` is; of a run's folder its last checkpoint.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn find(path: &Path) -> Result<Place> {
        match checkpoint::find(path) {
            Ok(path) => Ok(Place::Checkpoint(path)),
            Err(_) if hf_folder::is_published(path) => Ok(Place::Published(path.to_owned())),
            Err(Error::Checkpoint { path, .. }) => Err(Error::Checkpoint {
                path,
                message:
                    "expected a checkpoint, a run's folder with one, or a published folder with config.json, \
                          got none"
                        .into(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        match self {
            Place::Checkpoint(path) | Place::Published(path) => path,
        }
    }

    /// The name of the family of its model.
    ///
    /// # Errors
    /// Where its description cannot be read, or is of no family.
    pub fn family(&self) -> Result<String> {
        match self {
            Place::Checkpoint(path) => checkpoint::family_of(path),
            Place::Published(path) => {
                hf_folder::family(&path.join(hf_folder::CONFIG), &hf_folder::config(path)?)
            }
        }
    }
}

/// A model and all that comes with it.
#[derive(Debug)]
pub struct Source<M> {
    /// Where it lies.
    pub place: Place,
    /// The model, with its ramps; zeros where its values are still in the file.
    pub model: M,
    /// Heads that a published model lacks, by the beginnings of their names: these are in the model.
    absent: Vec<&'static str>,
    /// The file with the values, where the model does not hold them.
    file: Option<TensorFile>,
    /// Where its run stood; of a published model the start.
    pub state: State,
    /// The resolved configuration of its run, and the same as TOML.
    pub config: Option<(Resolved, String)>,
    /// Its tokenizer, where it has one.
    pub tokenizer: Option<Tokenizer>,
    /// What its published files say, where it had some.
    pub origin: Option<Origin>,
    /// Tensors that are not stored as f32, by the names that the model has for them.
    pub stored: BTreeMap<String, StoredType>,
    /// BLAKE3 of its weights' file; of several files of their hashes, in order.
    pub hash: String,
    /// What was done to it so far.
    pub steps: Vec<Step>,
    /// What the user should know.
    pub remarks: Vec<String>,
}

impl<M> Source<M> {
    /// Opens a model of the family `M`; `seed` is for heads that a published one lacks.
    ///
    /// # Errors
    /// What the files or the device refuse.
    pub fn open<D: Backend>(device: &D, place: Place, seed: u64) -> Result<Self>
    where
        M: Family<D>,
    {
        Self::open_in_file(device, place, seed)?.loaded::<D>()
    }

    /// As [`Source::open`], but the values stay in the file: what copies them needs no room for a model.
    ///
    /// # Errors
    /// As [`Source::open`]; [`Source::values`] checks the values.
    pub fn open_in_file<D: Backend>(device: &D, place: Place, seed: u64) -> Result<Self>
    where
        M: Family<D>,
    {
        match &place {
            Place::Published(folder) => {
                let published = hf_folder::read::<D, M>(device, folder, seed)?;
                let file = published.file;
                Ok(Source {
                    model: published.model,
                    absent: published.absent,
                    state: State { stage: 1, ..State::default() },
                    config: None,
                    tokenizer: published.tokenizer,
                    origin: Some(published.origin),
                    stored: stored::<D, M>(&file)?,
                    hash: hash(&hf_folder::weight_files(&file))?,
                    steps: provenance::read(&file),
                    remarks: published.remarks,
                    file: Some(file),
                    place,
                })
            }
            Place::Checkpoint(path) => {
                let (model, header, file) = checkpoint::blank_model::<D, M>(path, device)?;
                let config = match checkpoint::config_of(path, &[M::RULES])? {
                    Some(config) => {
                        let text = config.to_toml()?;
                        Some((config, text))
                    }
                    None => None,
                };
                Ok(Source {
                    model,
                    absent: Vec::new(),
                    state: header.state,
                    config,
                    tokenizer: checkpoint::tokenizer_of(path, M::RULES.specials)?,
                    origin: checkpoint::origin_of(path)?,
                    stored: stored::<D, M>(&file)?,
                    hash: checkpoint::marked_hash(path, MODEL)?.unwrap_or_default(),
                    steps: provenance::read(&file),
                    remarks: Vec::new(),
                    file: Some(file),
                    place,
                })
            }
        }
    }

    /// The same with the values in the model.
    ///
    /// # Errors
    /// As [`Source::values`], or where the device fails.
    pub fn loaded<D: Backend>(mut self) -> Result<Self>
    where
        M: Family<D>,
    {
        if let Some(file) = self.file.take() {
            let values = InFile::check(&self.model, &file.tensors(), &M::NAMING, &self.absent)?;
            self.model = values.into(self.model)?;
        }
        Ok(self)
    }

    /// The values that are still in the file, checked.
    ///
    /// # Errors
    /// Where the file does not hold exactly the model's tensors, or one that is not finite.
    pub fn values<D: Backend>(&self) -> Result<Option<InFile<'_>>>
    where
        M: Family<D>,
    {
        let Some(file) = &self.file else { return Ok(None) };
        Ok(Some(InFile::check(&self.model, &file.tensors(), &M::NAMING, &self.absent)?))
    }

    /// Its name in notes: the folder's name only, to keep local paths out of published files.
    pub fn name(&self) -> String {
        self.place.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The type that a tensor is stored as.
    pub fn stored_as(&self, tensor: &str) -> StoredType {
        self.stored.get(tensor).copied().unwrap_or_default()
    }
}

/// The types of tensors that are not f32.
fn stored<D: Backend, M: Family<D>>(file: &TensorFile) -> Result<BTreeMap<String, StoredType>> {
    let tensors = file.tensors();
    let mut stored = BTreeMap::new();
    for name in tensors.names() {
        // What holds no parameters may hold anything.
        let Some(spelled) = (M::NAMING.spelling)(&name) else { continue };
        let of = tensors.stored(&name)?;
        if of != StoredType::F32 {
            stored.insert(spelled.into_owned(), of);
        }
    }
    Ok(stored)
}

/// The hash of one file, or of the hashes of several.
fn hash(files: &[PathBuf]) -> Result<String> {
    match files {
        [file] => checkpoint::hash(file),
        files => {
            let hashes = files.iter().map(|file| checkpoint::hash(file)).collect::<Result<Vec<String>>>()?;
            Ok(blake3::hash(hashes.concat().as_bytes()).to_hex().to_string())
        }
    }
}
