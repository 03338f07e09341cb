//! The list of all families: the only place that names them. Everything else works on any [`Family`].

use super::family::Family;
use crate::{
    config::{self, FamilyRules, Resolved, RunConfig},
    error::{Error, Result},
};
use dfdx::tensor::Cpu;
use msg_core::Backend;
use msg_models::{Cost, bert::Bert, function_preserving::Architecture, gpt::Gpt};
use std::path::Path;

/// Work on a family that is known by its name only.
pub trait ForFamily<D: Backend> {
    /// What comes of it.
    type Out;

    /// Does it for the family `M`.
    fn with<M: Listed<D>>(self) -> Self::Out;
}

/// What the families of the list have: they can also grow without masks and be folded.
pub trait Listed<D: Backend>: Family<D> + Architecture<D> {}

impl<D: Backend, M: Family<D> + Architecture<D>> Listed<D> for M {}

macro_rules! families {
    ($($family:ident),*) => {
        /// Does `work` for the family of that name, which the file `path` has.
        ///
        /// # Errors
        /// [`Error::Family`] where no family has the name.
        pub fn with_family<D: Backend, W: ForFamily<D>>(name: &str, path: &Path, work: W) -> Result<W::Out> {
            $(if name == <$family<D> as Family<D>>::RULES.name {
                return Ok(work.with::<$family<D>>());
            })*
            Err(Error::Family { path: path.to_owned(), known: names(), got: name.to_owned() })
        }

        /// What configurations need to know of every family.
        pub const RULES: &[FamilyRules] = &[$(<$family<Cpu> as Family<Cpu>>::RULES),*];

        /// The `model_type` of every family in `config.json`, where transformers knows it.
        const MODEL_TYPES: &[Option<&str>] = &[$(<$family<Cpu> as Family<Cpu>>::MODEL_TYPE),*];
    };
}

families!(Gpt, Bert);

/// The names of all families.
pub fn names() -> Vec<&'static str> {
    RULES.iter().map(|family| family.name).collect()
}

/// The family of a published model by its `model_type`.
pub fn of_model_type(model_type: &str) -> Option<&'static str> {
    let known = RULES.iter().zip(MODEL_TYPES).find(|(_, known)| **known == Some(model_type));
    known.map(|(family, _)| family.name)
}

/// The values of `model_type` that can be imported.
pub fn model_types() -> Vec<&'static str> {
    MODEL_TYPES.iter().copied().flatten().collect()
}

/// Reads a run of any family of the list from a file; see [`config::read`].
///
/// # Errors
/// As [`config::read`].
pub fn read(path: impl AsRef<Path>, overrides: &[String]) -> Result<Resolved> {
    config::read(path, overrides, RULES)
}

/// As [`read`], from text; `file` is its name in errors.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, file: &str, overrides: &[String]) -> Result<Resolved> {
    config::parse(text, file, overrides, RULES)
}

/// As [`parse`], for a configuration that a checkpoint or a run's folder holds; see [`config::parse_saved`].
///
/// # Errors
/// As [`read`].
pub fn parse_saved(text: &str, file: &str) -> Result<Resolved> {
    config::parse_saved(text, file, RULES)
}

/// Checks and fills in a configuration that was made in code; see [`Resolved::new`].
///
/// # Errors
/// As [`Resolved::new`].
pub fn resolve(config: RunConfig) -> Result<Resolved> {
    Resolved::new(config, RULES)
}

/// What the model of a run costs, with a vocabulary of `vocab`.
///
/// # Errors
/// [`Error::Family`] where its family is not in the list.
pub fn cost_of(run: &Resolved, vocab: usize) -> Result<Cost> {
    struct CostOf<'a>(&'a Resolved, usize);
    impl ForFamily<Cpu> for CostOf<'_> {
        type Out = Cost;
        fn with<M: Listed<Cpu>>(self) -> Cost {
            M::cost(&M::config_of(self.0, self.1))
        }
    }
    with_family(run.model().family.name, Path::new("configuration"), CostOf(run, vocab))
}
