//! What the trainer needs of a model family. A new family implements [`Task`] and is registered in one place.

use crate::{
    config::{Family, RunConfig},
    data::Specials,
    error::Result,
};
use dfdx::tensor::{Tape, Tensor};
use msg_core::{
    device::Backend,
    ops::{Dropout, Scores},
    params::Init,
};
use msg_models::{
    Growable, Masks,
    hf::{Naming, Unrepresentable},
};
use serde::{Serialize, de::DeserializeOwned};

/// How many labels of each loss term a batch, or all micro-batches of a step, hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Positions with a label.
    pub labels: usize,
    /// Sequences with a sentence-level label (BERT).
    pub pairs: usize,
}

impl std::ops::Add for Counts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Counts { labels: self.labels + other.labels, pairs: self.pairs + other.pairs }
    }
}

/// Losses and right answers of one batch, for every label of each loss term.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeadScores {
    /// Of positions with a label.
    pub tokens: Scores,
    /// Of sequences with a sentence-level label; a family without any has none.
    pub pairs: Scores,
}

/// A model's configurations for transformers.
#[derive(Clone, Debug, PartialEq)]
pub struct HfConfig {
    /// `config.json`.
    pub config: serde_json::Value,
    /// `generation_config.json`, for families that generate.
    pub generation: Option<serde_json::Value>,
}

/// A model family as the trainer sees it.
pub trait Task<D: Backend>: Growable<D> + Sized {
    /// A batch on the host, as data makes it.
    type Host: Send + 'static;
    /// A batch on the device.
    type Batch;
    /// Its name in configurations.
    const FAMILY: Family;
    /// How it lies in Hugging Face files.
    const NAMING: Naming;

    /// Checks a batch and hands it to the device.
    ///
    /// # Errors
    /// Where an id or label is out of range, or the device fails.
    fn upload(&self, host: &Self::Host) -> Result<Self::Batch>;

    /// The labels of a batch.
    fn counts(host: &Self::Host) -> Counts;

    /// This batch's share of the step's loss: each term's sum divided by its count over the whole step.
    ///
    /// # Errors
    /// Where the device fails.
    fn loss<T: Tape<f32, D>>(
        &self,
        batch: &Self::Batch,
        step: Counts,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>>;

    /// Losses and right answers of a batch without dropout, in one pass.
    ///
    /// # Errors
    /// Where the device fails.
    fn scores(&self, batch: &Self::Batch, masks: &Masks<D>) -> Result<HeadScores>;

    /// Everything that the model puts out, for receipts.
    ///
    /// # Errors
    /// Where the device fails.
    fn outputs(&self, batch: &Self::Batch, masks: &Masks<D>) -> Result<Vec<f32>>;

    /// Its dropout rate.
    fn dropout(&self) -> f32;

    /// Whether each block keeps its input alone from now on and makes the rest again for the backward pass.
    fn set_recompute(&mut self, recompute: bool);

    /// Trains with another dropout rate from now on.
    ///
    /// # Errors
    /// For a rate out of range.
    fn set_dropout(&mut self, rate: f32) -> Result<()>;

    /// A batch of `(sequences, length)` drawn from `seed` alone, for receipts where there is no text.
    fn drawn(&self, shape: (usize, usize), seed: u64) -> Self::Host;

    /// What transformers calls the model as it stands.
    ///
    /// # Errors
    /// Where it has no class for it.
    fn hugging_face(&self, specials: Specials) -> Result<HfConfig, Unrepresentable>;

    /// What a model of this family is made from.
    type Config: Copy + Serialize + DeserializeOwned;

    /// The configuration of a run's first stage, with a vocabulary of `vocab`.
    fn config_of(run: &RunConfig, vocab: usize) -> Self::Config;

    /// The configuration that the model was made from, at its present sizes.
    fn config_now(&self) -> Self::Config;

    /// A model that draws its first weights from `init`.
    ///
    /// # Errors
    /// Where the sizes cannot be, or the device fails.
    fn build(device: &D, config: Self::Config, init: Init) -> Result<Self>;
}
