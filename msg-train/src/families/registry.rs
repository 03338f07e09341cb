//! The list of all families: the only place that names them. Everything else works on any [`Family`].

use super::family::Family;
use crate::{
    config::Family as Name,
    error::{Error, Result},
};
use dfdx::tensor::Cpu;
use msg_core::device::Backend;
use msg_models::{bert::Bert, function_preserving::Architecture, gpt::Gpt};

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
        /// Does `work` for the family of that name.
        pub fn with_family<D: Backend, W: ForFamily<D>>(name: Name, work: W) -> Result<W::Out> {
            $(if name == <$family<D> as Family<D>>::FAMILY {
                return Ok(work.with::<$family<D>>());
            })*
            Err(unknown(name.name()))
        }

        /// The family of a published model by its `model_type`.
        pub fn of_model_type(model_type: &str) -> Option<Name> {
            let known = [$((<$family<Cpu> as Family<Cpu>>::MODEL_TYPE, <$family<Cpu> as Family<Cpu>>::FAMILY)),*];
            known.into_iter().find(|(known, _)| *known == Some(model_type)).map(|(_, family)| family)
        }

        /// The values of `model_type` that can be imported.
        pub fn model_types() -> Vec<&'static str> {
            [$(<$family<Cpu> as Family<Cpu>>::MODEL_TYPE),*].into_iter().flatten().collect()
        }
    };
}

families!(Gpt, Bert);

fn unknown(name: &str) -> Error {
    Error::Argument { name: "family", expected: "a known family".into(), got: name.into() }
}
