//! A batch for BERT: tokens, sentences, padding, labels of both heads.

use crate::bert::config::BertConfig;
use msg_core::{
    Backend,
    axis::{Batch, Class, Labelled, Position, Query, Rows, Segment, Vocab},
    error::Result,
    ops::{AttentionMask, Ids, Labels, cross_entropy::IGNORED},
};

/// Host values of a batch, row-major `(batch, length)`.
#[derive(Clone, Copy, Debug)]
pub struct BertInput<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// Token types.
    pub segments: &'a [u32],
    /// False where a position is padding.
    pub seen: &'a [bool],
    /// The token to predict; -100 asks for none.
    pub labels: &'a [i64],
    /// One per sequence: 0 where the second sentence follows the first, 1 where it does not.
    pub next_sentence: &'a [i64],
    /// Sequences and their length.
    pub shape: (usize, usize),
}

/// The labelled positions of a batch.
#[derive(Clone, Debug)]
pub(super) struct Targets<D: Backend> {
    /// Rows of the batch, in order.
    pub rows: Ids<Rows, (Labelled,), D>,
    /// The tokens to predict there.
    pub labels: Labels<Vocab, (Labelled,), f32, D>,
}

/// A batch on the device.
#[derive(Clone, Debug)]
pub struct BertBatch<D: Backend> {
    pub(super) ids: Ids<Vocab, (Batch, Query), D>,
    pub(super) segments: Ids<Segment, (Batch, Query), D>,
    pub(super) positions: Ids<Position, (Query,), D>,
    pub(super) attention_mask: AttentionMask<f32, D>,
    /// None if no position is labelled.
    pub(super) targets: Option<Targets<D>>,
    pub(super) next_sentence: Labels<Class, (Batch,), f32, D>,
}

impl<D: Backend> BertBatch<D> {
    /// Checks a batch and copies it to the device.
    ///
    /// # Errors
    /// Where the numbers do not fill the shape, or a token, type, position or label is out of range.
    pub fn new(device: &D, input: &BertInput<'_>, config: &BertConfig) -> Result<Self> {
        let (batch, query) = (Batch(input.shape.0), Query(input.shape.1));
        let positions: Vec<u32> = (0..query.0 as u32).collect();
        // All labels are checked, with their places in the batch; then only the labelled ones stay.
        Labels::<_, _, f32, D>::new(device, input.labels, (batch, query), config.vocab())?;
        let labelled: Vec<(u32, i64)> =
            (0..).zip(input.labels.iter().copied()).filter(|(_, label)| *label != IGNORED).collect();
        let targets = match labelled.len() {
            0 => None,
            count => {
                let (rows, labels): (Vec<u32>, Vec<i64>) = labelled.into_iter().unzip();
                let shape = (Labelled(count),);
                Some(Targets {
                    rows: Ids::new(device, "labelled row", &rows, shape, Rows(batch.0 * query.0))?,
                    labels: Labels::new(device, &labels, shape, config.vocab())?,
                })
            }
        };
        Ok(BertBatch {
            ids: Ids::new(device, "token", input.ids, (batch, query), config.vocab())?,
            segments: Ids::new(device, "token type", input.segments, (batch, query), config.segments())?,
            positions: Ids::new(device, "position", &positions, (query,), config.positions())?,
            attention_mask: AttentionMask::full().with_padding(device, input.seen, batch, query)?,
            targets,
            next_sentence: Labels::new(device, input.next_sentence, (batch,), Class(2))?,
        })
    }

    /// How many positions are labelled.
    pub fn labelled(&self) -> usize {
        self.targets.as_ref().map_or(0, |targets| targets.labels.counted())
    }

    /// How many sequences have a next-sentence label.
    pub fn pairs(&self) -> usize {
        self.next_sentence.counted()
    }
}
