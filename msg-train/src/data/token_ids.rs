//! Token ids in memory as batches: for training without files.

use super::{Batches, CausalBatch};
use crate::error::{Error, Result};
use msg_core::ops::cross_entropy::IGNORED;

/// Token ids to train on, and others to evaluate on. Training goes through them in order, again and again; the label of
/// a position is the id that follows, the first one after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIds {
    train: Vec<u32>,
    held_out: Vec<u32>,
}

impl TokenIds {
    /// Batches of these ids; the held-out ones may be none.
    ///
    /// # Errors
    /// [`Error::Argument`] without any id to train on.
    pub fn new(train: Vec<u32>, held_out: Vec<u32>) -> Result<Self> {
        if train.is_empty() {
            return Err(Error::Argument { name: "train", expected: "token ids".into(), got: "none".into() });
        }
        Ok(TokenIds { train, held_out })
    }
}

impl Batches for TokenIds {
    type Batch = CausalBatch;

    fn batch(&self, cursor: u64, sequences: usize, length: usize) -> Result<CausalBatch> {
        let id = |at: u64| self.train[((cursor + at) % self.train.len() as u64) as usize];
        let count = sequences as u64 * length as u64;
        let (ids, labels) = ((0..count).map(id), (1..=count).map(|at| i64::from(id(at))));
        Ok(CausalBatch { ids: ids.collect(), labels: labels.collect(), shape: (sequences, length) })
    }

    fn advance(&self, cursor: u64, sequences: usize, length: usize) -> u64 {
        cursor + sequences as u64 * length as u64
    }

    fn held_out(&self, first: usize, sequences: usize, length: usize) -> Result<Option<CausalBatch>> {
        let sequences = sequences.min(self.held_out_sequences(length)?.saturating_sub(first));
        if sequences == 0 {
            return Ok(None);
        }
        let (from, count) = (first * length, sequences * length);
        let ids = self.held_out[from..from + count].to_vec();
        let label = |at| self.held_out.get(at).map_or(IGNORED, |id| i64::from(*id));
        let labels = (from + 1..=from + count).map(label).collect();
        Ok(Some(CausalBatch { ids, labels, shape: (sequences, length) }))
    }

    /// Whole ones only: a rest that is shorter is left out.
    fn held_out_sequences(&self, length: usize) -> Result<usize> {
        Ok(self.held_out.len() / length.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_follow_each_other_and_begin_again_after_the_last_id() {
        let data = TokenIds::new((0..5).collect(), (10..15).collect()).unwrap();
        let batch = data.batch(3, 2, 2).unwrap();
        assert_eq!((batch.ids, batch.labels, batch.shape), (vec![3, 4, 0, 1], vec![4, 0, 1, 2], (2, 2)));
        assert_eq!(data.advance(3, 2, 2), 7);
        assert_eq!(data.batch(7, 1, 2).unwrap().ids, [2, 3]);

        assert_eq!(data.held_out_sequences(2).unwrap(), 2);
        let batch = data.held_out(1, 9, 2).unwrap().unwrap();
        assert_eq!((batch.ids, batch.labels, batch.shape), (vec![12, 13], vec![13, 14], (1, 2)));
        assert_eq!(data.held_out(2, 1, 2).unwrap(), None);
        assert!(TokenIds::new(Vec::new(), vec![1]).is_err());
    }
}
