//! BERT's pre-training: fill in masked tokens, and tell whether the second sentence follows the first.

use super::{BatchOptions, FillIn, Objective, Text, draw};
use crate::{
    data::{Mlm, MlmBatch, Prepared},
    error::Result,
};
use dfdx::tensor::{Tape, Tensor};
use msg_core::{
    Backend,
    ops::{Dropout, Scores, cross_entropy::IGNORED},
};
use msg_models::Masks;
use std::{ops::Add, sync::Arc};

/// In a batch of given ids, one position in so many has a label.
const LABELLED: usize = 3;

/// Fills in masked tokens and tells sentence pairs apart.
#[derive(Clone, Copy, Debug)]
pub struct MaskedLmWithPairs;

/// The labels of both losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaskedCounts {
    /// Positions with a label.
    pub tokens: usize,
    /// Sentence pairs with a label.
    pub pairs: usize,
}

impl Add for MaskedCounts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        MaskedCounts { tokens: self.tokens + other.tokens, pairs: self.pairs + other.pairs }
    }
}

/// What [`MaskedLmWithPairs`] needs of a model.
pub trait MaskedPairModel<D: Backend>: FillIn<D> {
    /// A batch on the device.
    type Batch;

    /// Entries of the token table.
    fn vocab(&self) -> usize;

    /// Entries of the segment table.
    fn segments(&self) -> usize;

    /// Checks a batch and copies it to the device.
    ///
    /// # Errors
    /// Where an id or label is out of range.
    fn batch(&self, host: &MlmBatch) -> Result<Self::Batch>;

    /// The sums of the batch's losses, each divided by its count.
    ///
    /// # Errors
    /// Where the batch was made for another model.
    fn masked_loss<T: Tape<f32, D>>(
        &self,
        batch: &Self::Batch,
        counts: MaskedCounts,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>>;

    /// Loss and right answers of every token label and of every pair, without dropout.
    ///
    /// # Errors
    /// As [`MaskedPairModel::masked_loss`].
    fn masked_scores(&self, batch: &Self::Batch, masks: &Masks<D>) -> Result<(Scores, Scores)>;

    /// The logits of all tokens, then those of all pairs, without dropout.
    ///
    /// # Errors
    /// As [`MaskedPairModel::masked_loss`].
    fn masked_logits(&self, batch: &Self::Batch, masks: &Masks<D>) -> Result<Vec<f32>>;
}

impl<D: Backend, M: MaskedPairModel<D>> Objective<D, M> for MaskedLmWithPairs {
    type Host = MlmBatch;
    type Batch = M::Batch;
    type Counts = MaskedCounts;
    type Source = Mlm;
    const TERMS: &'static [&'static str] = &["masked tokens", "sentence pairs"];
    const SHORTEST: usize = Mlm::SHORTEST;

    fn upload(model: &M, host: &MlmBatch) -> Result<M::Batch> {
        model.batch(host)
    }

    fn counts(host: &MlmBatch) -> MaskedCounts {
        let counted = |labels: &[i64]| labels.iter().filter(|label| **label >= 0).count();
        MaskedCounts { tokens: counted(&host.labels), pairs: counted(&host.next) }
    }

    fn loss<T: Tape<f32, D>>(
        model: &M,
        batch: &M::Batch,
        step: MaskedCounts,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>> {
        model.masked_loss(batch, step, masks, dropout, tape)
    }

    fn scores(model: &M, batch: &M::Batch, masks: &Masks<D>) -> Result<Vec<Scores>> {
        let (tokens, pairs) = model.masked_scores(batch, masks)?;
        Ok(vec![tokens, pairs])
    }

    fn outputs(model: &M, batch: &M::Batch, masks: &Masks<D>) -> Result<Vec<f32>> {
        model.masked_logits(batch, masks)
    }

    /// Two segments of equal length; every third position has its own id as label.
    fn of_ids(model: &M, ids: Vec<u32>, shape: (usize, usize)) -> MlmBatch {
        let (sequences, length) = shape;
        let label = |(at, &id): (usize, &u32)| if at % LABELLED == 0 { i64::from(id) } else { IGNORED };
        let segment = |at| u32::from(at % length >= length / 2 && model.segments() > 1);
        MlmBatch {
            segments: (0..ids.len()).map(segment).collect(),
            seen: vec![true; ids.len()],
            labels: ids.iter().enumerate().map(label).collect(),
            next: (0..sequences).map(|at| (at % 2) as i64).collect(),
            ids,
            shape,
        }
    }

    /// As [`Objective::of_ids`], with drawn labels; the last position of every second sequence is padding.
    fn drawn(model: &M, shape: (usize, usize), seed: u64) -> MlmBatch {
        let (sequences, length) = shape;
        let (count, vocab) = (sequences * length, model.vocab());
        let mut batch = Self::of_ids(model, draw(seed, "ids", count, vocab), shape);
        let drawn = draw(seed, "labels", count, vocab);
        let labelled = batch.labels.iter_mut().zip(drawn).filter(|(label, _)| **label != IGNORED);
        labelled.for_each(|(label, drawn)| *label = i64::from(drawn));
        batch.seen = (0..count).map(|at| length == 1 || at % (2 * length) != 2 * length - 1).collect();
        batch
    }

    fn source(data: Arc<Prepared>, options: &BatchOptions) -> Result<Mlm> {
        Mlm::new(data, options.seed, options.mlm)
    }

    fn text(model: &M) -> Text<'_, D> {
        Text::Fills(model)
    }
}
