//! A checkpoint opened to be used: its model, its tokenizer, where its run stood.

use super::{TOKENIZER, config_of, family_of, find, load_model};
use crate::{
    config::{Family, Resolved},
    data::Tokenizer,
    error::{Error, Result},
    step::state::State,
};
use msg_core::{device::Backend, params::Module};
use msg_models::{GrowingModel, GrowthState, bert::Bert, gpt::Gpt};
use std::path::{Path, PathBuf};

/// A model of either family.
#[expect(clippy::large_enum_variant, reason = "there is one of them, and it is not moved about")]
#[derive(Debug)]
pub enum Model<D: Backend> {
    /// Predicts the next token.
    Gpt(Gpt<D>),
    /// Fills masked tokens in.
    Bert(Bert<D>),
}

impl<D: Backend> Model<D> {
    /// Its present sizes and ramps.
    pub fn growing(&self) -> &GrowthState {
        match self {
            Model::Gpt(model) => model.growing(),
            Model::Bert(model) => model.growing(),
        }
    }

    /// How many parameters it has.
    pub fn num_params(&self) -> usize {
        match self {
            Model::Gpt(model) => model.num_params(),
            Model::Bert(model) => model.num_params(),
        }
    }

    /// How many axes and layers are masked in a step.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn masks_in_force(&self, step: u64) -> Result<usize> {
        Ok(match self {
            Model::Gpt(model) => model.masks(step)?.active(),
            Model::Bert(model) => model.masks(step)?.active(),
        })
    }
}

/// A checkpoint without the optimizer's part.
#[derive(Debug)]
pub struct Saved<D: Backend> {
    /// Its folder.
    pub path: PathBuf,
    /// Its model, with its ramps.
    pub model: Model<D>,
    /// Its tokenizer, where it has one.
    pub tokenizer: Option<Tokenizer>,
    /// The resolved configuration that it was saved under, where it came from a run.
    pub config: Option<Resolved>,
    /// Where its run stood.
    pub state: State,
}

impl<D: Backend> Saved<D> {
    /// Its tokenizer.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where it has none.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| Error::Checkpoint {
            path: self.path.clone(),
            message: format!("expected a checkpoint with a tokenizer, got none: it holds no {TOKENIZER}"),
        })
    }
}

/// Opens the checkpoint that `path` means: itself, or the latest one of a run's folder.
///
/// # Errors
/// Where there is none, or a file of it is missing, cut or changed.
pub fn open<D: Backend>(path: &Path, device: &D) -> Result<Saved<D>> {
    let path = find(path)?;
    let family = family_of(&path)?;
    let (model, header) = match family {
        Family::Gpt => {
            let (model, header) = load_model(&path, device)?;
            (Model::Gpt(model), header)
        }
        Family::Bert => {
            let (model, header) = load_model(&path, device)?;
            (Model::Bert(model), header)
        }
    };
    let (config, tokenizer) = (config_of(&path)?, tokenizer_of(&path, family)?);
    Ok(Saved { path, model, tokenizer, config, state: header.state })
}

/// The tokenizer of a checkpoint, where it has one.
///
/// # Errors
/// Where it cannot be read, or is none of the family.
pub(crate) fn tokenizer_of(checkpoint: &Path, family: Family) -> Result<Option<Tokenizer>> {
    let path = checkpoint.join(TOKENIZER);
    path.exists().then(|| Tokenizer::read(&path, family)).transpose()
}
