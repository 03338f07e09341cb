//! What training needs of a model, and what files and configurations need of its family.
//!
//! [`Trainable`] is enough for a [`Trainer`](crate::Trainer): a growing model with an objective. [`Family`] adds a name,
//! a configuration and a file layout, which runs, checkpoints, evaluation and verification need. Neither has to be in
//! the [registry](super::registry): that one only serves commands that find the family in a file.

use super::objective::Objective;
use crate::{
    config::{FamilyRules, Resolved},
    data::Specials,
    error::Result,
};
use msg_core::{Backend, growth::Init, ops::Compute};
use msg_models::{
    Cost, GrowingModel,
    hf::{Naming, Unrepresentable, Unsupported},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// A model that can be trained.
pub trait Trainable<D: Backend>: GrowingModel<D> + 'static {
    /// What it is trained for.
    type Objective: Objective<D, Self>;

    /// The longest sequence.
    fn positions(&self) -> usize;

    /// Its dropout rate.
    fn dropout(&self) -> f32 {
        0.0
    }

    /// Sets its dropout rate. A model without dropout ignores it.
    ///
    /// # Errors
    /// For a rate out of range.
    fn set_dropout(&mut self, _rate: f32) -> Result<()> {
        Ok(())
    }

    /// Sets the precision and whether activations are recomputed. A model that knows one way ignores it.
    fn set_compute(&mut self, _compute: Compute) {}
}

/// A batch of a model's objective on the host.
pub type HostOf<D, M> = <<M as Trainable<D>>::Objective as Objective<D, M>>::Host;
/// The label counts of a model's objective.
pub type CountsOf<D, M> = <<M as Trainable<D>>::Objective as Objective<D, M>>::Counts;
/// The batches of prepared text for a model's objective.
pub type SourceOf<D, M> = <<M as Trainable<D>>::Objective as Objective<D, M>>::Source;

/// A model's configurations for transformers.
#[derive(Clone, Debug, PartialEq)]
pub struct HfConfig {
    /// `config.json`.
    pub config: Map<String, Value>,
    /// `generation_config.json`, for families that generate.
    pub generation: Option<Map<String, Value>>,
}

/// Why a `config.json` describes no model of a family.
#[derive(Debug, thiserror::Error)]
pub enum NoModel {
    /// A key of another type.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
    /// A key that asks for another function.
    #[error("{0}")]
    Unsupported(#[from] Unsupported),
}

/// How a model card describes a family.
#[derive(Clone, Copy, Debug)]
pub struct CardWords {
    /// The architecture, such as `GPT-2`.
    pub class: &'static str,
    /// The hub's pipeline tag.
    pub pipeline: &'static str,
    /// Where its norms are.
    pub norms: &'static str,
}

/// A family of models: what runs and files need besides training.
pub trait Family<D: Backend>: Trainable<D> {
    /// Its name, the values of `[model]` that a run leaves out, its special tokens.
    const RULES: FamilyRules;
    /// How its tensors are stored in files.
    const NAMING: Naming;
    /// Its `model_type` in `config.json`, where transformers knows it.
    const MODEL_TYPE: Option<&'static str> = None;
    /// How a model card describes it.
    const CARD: CardWords;

    /// What a model of this family is made from.
    type Config: Copy + Serialize + DeserializeOwned;

    /// The configuration of a run's first stage, with a vocabulary of `vocab`.
    fn config_of(run: &Resolved, vocab: usize) -> Self::Config;

    /// The configuration that the model was made from, at its present sizes.
    fn config_now(&self) -> Self::Config;

    /// What a model of that configuration costs, at any sizes.
    fn cost(config: &Self::Config) -> Cost;

    /// A model with first weights from `init`.
    ///
    /// # Errors
    /// Where the sizes cannot be.
    fn build(device: &D, config: Self::Config, init: Init) -> Result<Self>;

    /// The matrices of a model of that configuration, by name and shape in files. They are looked up in a file before
    /// a model of that size is made.
    fn outline(config: &Self::Config) -> impl Iterator<Item = (String, Vec<usize>)>;

    /// The `transformers` class and `config.json` for the model at its present sizes.
    ///
    /// # Errors
    /// Where no class computes the same function.
    fn hugging_face(&self, _specials: Option<Specials>) -> Result<HfConfig, Unrepresentable> {
        Err(Unrepresentable::Family { family: Self::RULES.name })
    }

    /// Parses a `config.json`; also returns remarks about settings that training does not preserve.
    ///
    /// # Errors
    /// The first key that is malformed or asks for another function.
    fn published(_config: &Map<String, Value>) -> Result<(Self::Config, Vec<String>), NoModel> {
        Err(NoModel::Unsupported(Unsupported {
            key: "model_type".into(),
            expected: "a family that transformers knows".into(),
            got: Self::RULES.name.into(),
        }))
    }
}
