//! GPT batches.
//!
//! The training documents, each followed by its end token, are one text; it is cut into windows of the
//! plan's largest sequence length. An epoch is the stream of all windows in an order shuffled by (seed,
//! epoch), at its end the last window, which may be shorter: every token comes exactly once an epoch, and
//! epochs follow one another without a gap. The cursor counts tokens of that stream, and sequences are
//! consecutive pieces of it, whatever their length. The label of a position is the token that follows in
//! the text, also where a window ends; only the text's last token has none.

use super::{Batches, Part, Permutation, Prepared};
use crate::error::{Error, Result};
use msg_core::{ops::cross_entropy::IGNORED, random::Key};
use std::sync::Arc;

/// A GPT batch on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CausalBatch {
    /// Token ids, row-major.
    pub ids: Vec<u32>,
    /// The token after each, or -100.
    pub labels: Vec<i64>,
    /// Sequences and their length.
    pub shape: (usize, usize),
}

/// The batches of a GPT.
#[derive(Clone, Debug)]
pub struct Causal {
    data: Arc<Prepared>,
    key: Key,
    /// Tokens of a window.
    window: u64,
    /// Tokens of an epoch.
    tokens: u64,
    /// What fills the held-out part's last sequence up.
    fill: u32,
}

impl Causal {
    /// Batches from windows of the plan's `longest` sequence.
    ///
    /// # Errors
    /// Where the training part is shorter than one such sequence.
    pub fn new(data: Arc<Prepared>, seed: u64, longest: usize) -> Result<Self> {
        let tokens = data.documents(Part::Train).tokens();
        let window = longest as u64;
        if window == 0 || tokens < window {
            return Err(Error::Config {
                file: "configuration".into(),
                key: "stage.sequence".into(),
                expected: format!("from 1 to the {tokens} tokens of the training documents"),
                got: longest.to_string(),
            });
        }
        let fill = data.tokenizer().specials().padding();
        Ok(Causal { data, key: Key::new(seed, "data.causal.order", 0), window, tokens, fill })
    }

    /// Tokens of an epoch.
    pub fn epoch_tokens(&self) -> u64 {
        self.tokens
    }

    /// Where the stream's token number `at` lies in the text, and how many follow it there without a jump.
    fn place(&self, at: u64) -> (u64, u64) {
        let (epoch, within) = (at / self.tokens, at % self.tokens);
        let (turn, offset) = (within / self.window, within % self.window);
        let whole = self.tokens / self.window;
        let window = if turn < whole { Permutation::new(self.key, epoch, whole).at(turn) } else { whole };
        let start = window * self.window;
        let end = (start + self.window).min(self.tokens);
        (start + offset, end - start - offset)
    }

    /// Fills a row from a stretch of a part's text.
    fn stretch(&self, part: Part, at: u64, ids: &mut [u32], labels: &mut [i64]) -> Result<()> {
        self.data.read(part, at, ids)?;
        let mut after = [0];
        let next = at + ids.len() as u64;
        let last = if next < self.data.documents(part).tokens() {
            self.data.read(part, next, &mut after)?;
            i64::from(after[0])
        } else {
            IGNORED
        };
        let following = ids[1..].iter().map(|&id| i64::from(id)).chain([last]);
        for (label, following) in labels.iter_mut().zip(following) {
            *label = following;
        }
        Ok(())
    }
}

impl Batches for Causal {
    type Batch = CausalBatch;

    fn batch(&self, cursor: u64, sequences: usize, length: usize) -> Result<CausalBatch> {
        let mut batch = CausalBatch::new(sequences, length, self.fill);
        let (mut ids, mut labels) = (&mut batch.ids[..], &mut batch.labels[..]);
        let mut at = cursor;
        while !ids.is_empty() {
            let (place, follow) = self.place(at);
            let now = follow.min(ids.len() as u64);
            let (ids_now, ids_later) = ids.split_at_mut(now as usize);
            let (labels_now, labels_later) = labels.split_at_mut(now as usize);
            self.stretch(Part::Train, place, ids_now, labels_now)?;
            (ids, labels, at) = (ids_later, labels_later, at + now);
        }
        Ok(batch)
    }

    fn advance(&self, cursor: u64, sequences: usize, length: usize) -> u64 {
        cursor + sequences as u64 * length as u64
    }

    /// The held-out documents in order. The last sequence is filled up with positions without a label.
    fn held_out(&self, first: usize, sequences: usize, length: usize) -> Result<Option<CausalBatch>> {
        let sequences = sequences.min(self.held_out_sequences(length)?.saturating_sub(first));
        if sequences == 0 {
            return Ok(None);
        }
        let mut batch = CausalBatch::new(sequences, length, self.fill);
        let at = first as u64 * length as u64;
        let there = self.data.documents(Part::HeldOut).tokens() - at;
        let there = there.min(batch.ids.len() as u64) as usize;
        self.stretch(Part::HeldOut, at, &mut batch.ids[..there], &mut batch.labels[..there])?;
        Ok(Some(batch))
    }

    fn held_out_sequences(&self, length: usize) -> Result<usize> {
        Ok(self.data.documents(Part::HeldOut).tokens().div_ceil(length.max(1) as u64) as usize)
    }
}

impl CausalBatch {
    fn new(sequences: usize, length: usize, fill: u32) -> Self {
        let positions = sequences * length;
        CausalBatch {
            ids: vec![fill; positions],
            labels: vec![IGNORED; positions],
            shape: (sequences, length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::SpecialTokens, data::testing::prepared};

    fn causal(folder: &tempfile::TempDir, seed: u64, longest: usize) -> Causal {
        Causal::new(prepared(folder.path(), SpecialTokens::EndOfText, 40, 0.1), seed, longest).unwrap()
    }

    #[test]
    fn the_stream_is_the_same_for_every_batch_size_and_length() {
        let folder = tempfile::tempdir().unwrap();
        let causal = causal(&folder, 5, 64);
        let total = 4 * causal.epoch_tokens() as usize / 3 / 192 * 192;
        let whole = causal.batch(0, 1, total).unwrap();
        for (sequences, length) in [(1, 64), (3, 64), (3, 32), (12, 16), (6, 32), (1, 3)] {
            let (mut ids, mut labels, mut cursor) = (Vec::new(), Vec::new(), 0);
            while ids.len() < total {
                let batch = causal.batch(cursor, sequences, length).unwrap();
                assert_eq!(batch.shape, (sequences, length));
                ids.extend(batch.ids);
                labels.extend(batch.labels);
                cursor = causal.advance(cursor, sequences, length);
            }
            assert!(ids[..total] == whole.ids && labels[..total] == whole.labels, "{sequences} x {length}");
        }
    }

    #[test]
    fn every_token_comes_once_an_epoch_with_the_next_one_of_the_text_as_its_label() {
        let folder = tempfile::tempdir().unwrap();
        let causal = causal(&folder, 5, 64);
        let tokens = causal.epoch_tokens();
        assert_ne!(tokens % 64, 0, "the last window is a short one");
        let mut text = vec![0; tokens as usize];
        causal.data.read(Part::Train, 0, &mut text).unwrap();
        let mut orders = Vec::new();
        for epoch in 0..2 {
            let mut seen = vec![false; text.len()];
            let mut order = Vec::new();
            for at in epoch * tokens..(epoch + 1) * tokens {
                let place = causal.place(at).0 as usize;
                assert!(!std::mem::replace(&mut seen[place], true), "token {place} twice");
                order.push(place);
                let batch = causal.batch(at, 1, 1).unwrap();
                let label = text.get(place + 1).map_or(IGNORED, |&id| i64::from(id));
                assert_eq!((batch.ids[0], batch.labels[0]), (text[place], label));
            }
            orders.push(order);
        }
        assert_ne!(orders[0], orders[1]);
    }

    #[test]
    fn a_stream_resumed_anywhere_goes_on_as_it_would_have() {
        let folder = tempfile::tempdir().unwrap();
        let first = causal(&folder, 9, 32);
        let mut cursor = 0;
        let again =
            Causal::new(Arc::new(Prepared::open(&folder.path().join("data")).unwrap()), 9, 32).unwrap();
        for _ in 0..200 {
            assert_eq!(first.batch(cursor, 2, 32).unwrap(), again.batch(cursor, 2, 32).unwrap());
            cursor = first.advance(cursor, 2, 32);
        }
        let other = Causal::new(first.data.clone(), 10, 32).unwrap();
        assert_ne!(first.batch(0, 4, 32).unwrap(), other.batch(0, 4, 32).unwrap());
    }

    #[test]
    fn held_out_sequences_are_the_held_out_text_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let causal = causal(&folder, 5, 64);
        let documents = causal.data.documents(Part::HeldOut);
        let mut text = vec![0; documents.tokens() as usize];
        causal.data.read(Part::HeldOut, 0, &mut text).unwrap();
        let (mut ids, mut labels, mut first) = (Vec::new(), Vec::new(), 0);
        while let Some(batch) = causal.held_out(first, 3, 50).unwrap() {
            first += batch.shape.0;
            ids.extend(batch.ids);
            labels.extend(batch.labels);
        }
        assert_eq!(first, causal.held_out_sequences(50).unwrap());
        assert!(text.len() > 100 && !text.len().is_multiple_of(50));
        assert_eq!(ids[..text.len()], text);
        let next: Vec<i64> = text[1..].iter().map(|&id| i64::from(id)).collect();
        assert_eq!(labels[..next.len()], next);
        assert!(labels[next.len()..].iter().all(|&label| label == IGNORED));
    }

    #[test]
    fn a_text_shorter_than_a_sequence_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let data = prepared(folder.path(), SpecialTokens::EndOfText, 2, 0.0);
        let tokens = data.manifest().counts.tokens;
        let error = Causal::new(data, 0, 5000).unwrap_err().to_string();
        let expected = format!("expected from 1 to the {tokens} tokens of the training documents, got 5000");
        assert_eq!(error, format!("configuration: stage.sequence: {expected}"));
    }
}
