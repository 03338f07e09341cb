//! What the trainer needs of a model family. A new family implements [`Task`] and is registered in one place.

use crate::{
    config::{Family, Resolved},
    data::{Prepared, Specials},
    error::Result,
};
use dfdx::tensor::{Tape, Tensor};
use msg_core::{
    Backend,
    growth::Init,
    ops::{Compute, Dropout, Scores},
};
use msg_models::{
    Masks,
    function_preserving::Architecture,
    hf::{Naming, Unrepresentable, Unsupported},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::sync::Arc;

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
    pub config: Map<String, Value>,
    /// `generation_config.json`, for families that generate.
    pub generation: Option<Map<String, Value>>,
}

/// Why a `config.json` is none of a family.
#[derive(Debug, thiserror::Error)]
pub enum NoModel {
    /// A key of another type.
    #[error("{0}")]
    Malformed(#[from] serde_json::Error),
    /// A key that asks for another function.
    #[error("{0}")]
    Unsupported(#[from] Unsupported),
}

/// A model family as the trainer sees it.
pub trait Task<D: Backend>: Architecture<D> + Sized {
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

    /// The longest sequence.
    fn positions(&self) -> usize;

    /// Its dropout rate.
    fn dropout(&self) -> f32;

    /// Computes in another way from now on.
    fn set_compute(&mut self, compute: Compute);

    /// Trains with another dropout rate from now on.
    ///
    /// # Errors
    /// For a rate out of range.
    fn set_dropout(&mut self, rate: f32) -> Result<()>;

    /// A batch of given ids, for receipts: `(sequences, length)`, row-major.
    fn of_ids(&self, ids: Vec<u32>, shape: (usize, usize)) -> Self::Host;

    /// A batch of `(sequences, length)` drawn from `seed` alone, for receipts where there is no text.
    fn drawn(&self, shape: (usize, usize), seed: u64) -> Self::Host;

    /// The fixed batch of receipts from prepared data, for a run of that configuration.
    ///
    /// # Errors
    /// Where the data are too short or cannot be read.
    fn receipt_host(data: Arc<Prepared>, config: &Resolved, length: usize) -> Result<Self::Host>;

    /// What transformers calls the model as it stands.
    ///
    /// # Errors
    /// Where it has no class for it.
    fn hugging_face(&self, specials: Option<Specials>) -> Result<HfConfig, Unrepresentable>;

    /// What a `config.json` makes a model from, and remarks on what training here cannot keep of it.
    ///
    /// # Errors
    /// The first key that is malformed or asks for another function.
    fn published(config: &Map<String, Value>) -> Result<(Self::Config, Vec<String>), NoModel>;

    /// The matrices of a model of that configuration, by name and shape in files.
    fn outline(config: &Self::Config) -> impl Iterator<Item = (String, Vec<usize>)>;

    /// What a model of this family is made from.
    type Config: Copy + Serialize + DeserializeOwned;

    /// The configuration of a run's first stage, with a vocabulary of `vocab`.
    fn config_of(run: &Resolved, vocab: usize) -> Self::Config;

    /// The configuration that the model was made from, at its present sizes.
    fn config_now(&self) -> Self::Config;

    /// A model that draws its first weights from `init`.
    ///
    /// # Errors
    /// Where the sizes cannot be, or the device fails.
    fn build(device: &D, config: Self::Config, init: Init) -> Result<Self>;
}
