//! What a model is trained for: batches, the loss on them, what is counted and shown of it.
//!
//! An [`Objective`] is apart from the family: every causal model is trained by [`CausalLm`](causal::CausalLm), every
//! encoder with BERT's two heads by [`MaskedLmWithPairs`](masked::MaskedLmWithPairs). An own one is a type that
//! implements the trait for its models; nothing has to be registered.

pub mod causal;
pub mod masked;

use crate::{
    config::{MlmConfig, Resolved},
    data::{Batches, Prepared},
    error::Result,
};
use dfdx::tensor::{Tape, Tensor};
use msg_core::{
    Backend,
    ops::{Dropout, Scores},
    random::{Key, bits_at},
};
use msg_models::Masks;
use std::{fmt::Debug, ops::Add, sync::Arc};

/// A training objective for models of the type `M`.
pub trait Objective<D: Backend, M> {
    /// A batch on the host, as data makes it.
    type Host: Send + 'static;
    /// The same on the device.
    type Batch;
    /// How many labels of each loss term a batch, or all micro-batches of a step, hold.
    type Counts: Copy + Debug + Default + Add<Output = Self::Counts>;
    /// The batches of prepared text.
    type Source: Batches<Batch = Self::Host>;
    /// The loss terms, in the order of [`Objective::scores`]; perplexity is that of the first.
    const TERMS: &'static [&'static str];
    /// Tokens of the shortest sequence.
    const SHORTEST: usize = 1;

    /// Checks a batch and copies it to the device.
    ///
    /// # Errors
    /// Where an id or label is out of range.
    fn upload(model: &M, host: &Self::Host) -> Result<Self::Batch>;

    /// The labels of a batch.
    fn counts(host: &Self::Host) -> Self::Counts;

    /// This batch's share of the step's loss: each term's sum divided by its count over the whole step.
    ///
    /// # Errors
    /// Where the batch does not fit the model.
    fn loss<T: Tape<f32, D>>(
        model: &M,
        batch: &Self::Batch,
        step: Self::Counts,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>>;

    /// Loss and right answers of every label without dropout, in one pass; one entry a loss term.
    ///
    /// # Errors
    /// As [`Objective::loss`].
    fn scores(model: &M, batch: &Self::Batch, masks: &Masks<D>) -> Result<Vec<Scores>>;

    /// All outputs of the model, to be compared before and after a growth.
    ///
    /// # Errors
    /// As [`Objective::loss`].
    fn outputs(model: &M, batch: &Self::Batch, masks: &Masks<D>) -> Result<Vec<f32>>;

    /// A batch of these token ids, `(sequences, length)`, row-major.
    fn of_ids(model: &M, ids: Vec<u32>, shape: (usize, usize)) -> Self::Host;

    /// A batch of `(sequences, length)` drawn from `seed` alone, for comparisons where there is no text.
    fn drawn(model: &M, shape: (usize, usize), seed: u64) -> Self::Host;

    /// The batches of prepared text.
    ///
    /// # Errors
    /// Where the data are too short or of another kind.
    fn source(data: Arc<Prepared>, options: &BatchOptions) -> Result<Self::Source>;

    /// What the model can do with a text.
    fn text(_model: &M) -> Text<'_, D> {
        Text::Neither
    }
}

/// What decides about the batches of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchOptions {
    /// The run's seed.
    pub seed: u64,
    /// The longest sequence that training asks for.
    pub longest: usize,
    /// How tokens are masked.
    pub mlm: MlmConfig,
}

impl BatchOptions {
    /// Those of a run, or the defaults of a model without one.
    pub fn new(run: Option<&Resolved>, longest: usize) -> Self {
        let (seed, mlm) = run.map_or_else(Default::default, |run| (run.run().seed, run.data().mlm));
        BatchOptions { seed, longest, mlm }
    }
}

/// What a model can do with a text.
#[derive(Clone, Copy)]
pub enum Text<'a, D: Backend> {
    /// It continues it.
    Continues(&'a dyn NextToken<D>),
    /// It fills in masked tokens.
    Fills(&'a dyn FillIn<D>),
    /// Neither.
    Neither,
}

/// A model that predicts the token after a text.
pub trait NextToken<D: Backend> {
    /// The logits of the token after `ids`.
    ///
    /// # Errors
    /// Where there are more ids than positions, or one is out of range.
    fn next_token_logits(&self, ids: &[u32], masks: &Masks<D>) -> Result<Vec<f32>>;
}

/// A model that fills in masked tokens.
pub trait FillIn<D: Backend> {
    /// The logits at every place where `ids` has the token `mask`, one row of the vocabulary each.
    ///
    /// # Errors
    /// As [`NextToken::next_token_logits`].
    fn fill_in_logits(&self, ids: &[u32], mask: u32, masks: &Masks<D>) -> Result<Vec<Vec<f32>>>;
}

/// `count` numbers below `limit`, a pure function of seed and name.
fn draw(seed: u64, name: &str, count: usize, limit: usize) -> Vec<u32> {
    let key = Key::new(seed, name, 0);
    let one = |at| ((u64::from(bits_at(key, [0, 0, 0, at])) * limit as u64) >> 32) as u32;
    (0..count as u32).map(one).collect()
}
