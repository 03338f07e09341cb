//! What the trainer needs of a model family. A new family implements [`Task`] and is registered in one place.

use crate::{config::Family, error::Result};
use dfdx::tensor::{Tape, Tensor};
use msg_core::{
    device::Backend,
    ops::{Dropout, Gelu},
    params::Init,
};
use msg_models::{Growable, Masks, Sizes, hf::Naming};
use serde::{Deserialize, Serialize};

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

    /// Everything that the model puts out, for receipts.
    ///
    /// # Errors
    /// Where the device fails.
    fn outputs(&self, batch: &Self::Batch, masks: &Masks<D>) -> Result<Vec<f32>>;

    /// Its dropout rate.
    fn dropout(&self) -> f32;

    /// A model of these sizes that draws its first weights from `init`.
    ///
    /// # Errors
    /// Where the sizes cannot be, or the device fails.
    fn build(device: &D, setup: &Setup, init: Init) -> Result<Self>;
}

/// What a model is made from, with everything that the run's configuration left open filled in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// Entries of the token table.
    pub vocab: usize,
    /// Longest sequence.
    pub positions: usize,
    /// Size of one head.
    pub head_dim: usize,
    /// First sizes.
    pub sizes: Sizes,
    /// Added to the variance in every norm; the family's own where none.
    pub eps: Option<f64>,
    /// Form of the activation; the family's own where none.
    pub gelu: Option<Gelu>,
    /// Dropout rate; the family's own where none.
    pub dropout: Option<f32>,
}
