//! Causal language modelling: predict the next token.

use super::{BatchOptions, NextToken, Objective, Text, draw};
use crate::{
    data::{Causal, CausalBatch, Prepared},
    error::Result,
};
use dfdx::tensor::{Tape, Tensor};
use msg_core::{
    Backend,
    ops::{Dropout, Scores, cross_entropy::IGNORED},
};
use msg_models::Masks;
use std::sync::Arc;

/// Predicts the next token at every position.
#[derive(Clone, Copy, Debug)]
pub struct CausalLm;

/// What [`CausalLm`] needs of a model.
pub trait CausalModel<D: Backend>: NextToken<D> {
    /// A batch on the device.
    type Batch;

    /// Entries of the token table.
    fn vocab(&self) -> usize;

    /// Checks a batch and copies it to the device.
    ///
    /// # Errors
    /// Where an id or label is out of range.
    fn batch(&self, host: &CausalBatch) -> Result<Self::Batch>;

    /// The sum of the batch's losses, divided by `labels`.
    ///
    /// # Errors
    /// Where the batch was made for another model.
    fn causal_loss<T: Tape<f32, D>>(
        &self,
        batch: &Self::Batch,
        labels: usize,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>>;

    /// Loss and right answers of every label, without dropout.
    ///
    /// # Errors
    /// As [`CausalModel::causal_loss`].
    fn causal_scores(&self, batch: &Self::Batch, masks: &Masks<D>) -> Result<Scores>;

    /// The logits of every position, without dropout.
    ///
    /// # Errors
    /// As [`CausalModel::causal_loss`].
    fn causal_logits(&self, batch: &Self::Batch, masks: &Masks<D>) -> Result<Vec<f32>>;
}

impl<D: Backend, M: CausalModel<D>> Objective<D, M> for CausalLm {
    type Host = CausalBatch;
    type Batch = M::Batch;
    type Counts = usize;
    type Source = Causal;
    const TERMS: &'static [&'static str] = &["next tokens"];

    fn upload(model: &M, host: &CausalBatch) -> Result<M::Batch> {
        model.batch(host)
    }

    fn counts(host: &CausalBatch) -> usize {
        host.labels.iter().filter(|label| **label >= 0).count()
    }

    fn loss<T: Tape<f32, D>>(
        model: &M,
        batch: &M::Batch,
        labels: usize,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>> {
        model.causal_loss(batch, labels, masks, dropout, tape)
    }

    fn scores(model: &M, batch: &M::Batch, masks: &Masks<D>) -> Result<Vec<Scores>> {
        Ok(vec![model.causal_scores(batch, masks)?])
    }

    fn outputs(model: &M, batch: &M::Batch, masks: &Masks<D>) -> Result<Vec<f32>> {
        model.causal_logits(batch, masks)
    }

    /// The label of each position is the next id; the last one of a sequence has none.
    fn of_ids(_: &M, ids: Vec<u32>, shape: (usize, usize)) -> CausalBatch {
        let last = |at: usize| (at + 1).is_multiple_of(shape.1);
        let label = |at: usize| if last(at) { IGNORED } else { i64::from(ids[at + 1]) };
        let labels = (0..ids.len()).map(label).collect();
        CausalBatch { ids, labels, shape }
    }

    fn drawn(model: &M, shape: (usize, usize), seed: u64) -> CausalBatch {
        let (count, vocab) = (shape.0 * shape.1, model.vocab());
        let labels = draw(seed, "labels", count, vocab).into_iter().map(i64::from).collect();
        CausalBatch { ids: draw(seed, "ids", count, vocab), labels, shape }
    }

    fn source(data: Arc<Prepared>, options: &BatchOptions) -> Result<Causal> {
        Causal::new(data, options.seed, options.longest)
    }

    fn text(model: &M) -> Text<'_, D> {
        Text::Continues(model)
    }
}
