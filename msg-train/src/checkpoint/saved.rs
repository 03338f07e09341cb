//! A checkpoint opened to be used: its model, its tokenizer, where its run stood.

use super::{TOKENIZER, config_of, family_of, find, load_model};
use crate::{
    config::{Resolved, SpecialTokens},
    data::Tokenizer,
    error::{Error, Result},
    families::{
        any::AnyModel,
        family::Family,
        registry::{ForFamily, Listed, with_family},
    },
    step::state::State,
};
use msg_core::Backend;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A checkpoint without the optimizer's part.
pub struct Saved<D: Backend> {
    /// Its folder.
    pub path: PathBuf,
    /// Its model, with its ramps.
    pub model: Box<dyn AnyModel<D>>,
    /// Its tokenizer, where it has one.
    pub tokenizer: Option<Tokenizer>,
    /// The resolved configuration that it was saved under, where it came from a run.
    pub config: Option<Resolved>,
    /// Where its run stood.
    pub state: State,
}

impl<D: Backend> fmt::Debug for Saved<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saved").field("path", &self.path).field("state", &self.state).finish_non_exhaustive()
    }
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
/// Where there is none, its family is not in the list, or a file of it is missing, cut or changed.
pub fn open<D: Backend>(path: &Path, device: &D) -> Result<Saved<D>> {
    struct Open<'a, D>(&'a Path, &'a D);
    impl<D: Backend> ForFamily<D> for Open<'_, D> {
        type Out = Result<Saved<D>>;
        fn with<M: Listed<D>>(self) -> Result<Saved<D>> {
            open_as::<D, M>(self.0, self.1)
        }
    }
    let path = find(path)?;
    with_family(&family_of(&path)?, &path, Open(&path, device))?
}

/// As [`open()`], of the family `M`, which need not be in the list.
///
/// # Errors
/// As [`open()`], and where it is of another family.
pub fn open_as<D: Backend, M: Family<D>>(path: &Path, device: &D) -> Result<Saved<D>> {
    let path = find(path)?;
    let (model, header) = load_model::<D, M>(&path, device)?;
    let (config, tokenizer) = (config_of(&path, &[M::RULES])?, tokenizer_of(&path, M::RULES.specials)?);
    Ok(Saved { path, model: Box::new(model), tokenizer, config, state: header.state })
}

/// The tokenizer of a checkpoint, where it has one.
///
/// # Errors
/// Where it cannot be read, or lacks a special token.
pub(crate) fn tokenizer_of(checkpoint: &Path, specials: SpecialTokens) -> Result<Option<Tokenizer>> {
    let path = checkpoint.join(TOKENIZER);
    path.exists().then(|| Tokenizer::read(&path, specials)).transpose()
}

/// The bytes of a checkpoint's tokenizer; empty without one.
pub(crate) fn tokenizer_bytes(checkpoint: &Path) -> Vec<u8> {
    std::fs::read(checkpoint.join(TOKENIZER)).unwrap_or_default()
}
