//! BERT batches: two segments, one of which may be from elsewhere, with tokens to predict.
//!
//! For sequences of some length, each document is cut into spans of nearly equal size that fit beside
//! `[CLS]` and two `[SEP]`; a span is the middle of one example an epoch. Its first tokens are segment A.
//! Segment B is the rest of the span, or the rest of another: examples are paired again each epoch, and a
//! fair coin for each pair says whether the two exchange their B. So half of the examples are no
//! neighbours, yet every token of every span comes exactly once an epoch. A partner from the same document
//! serves where the draw falls on one, as published: it never is the true continuation.
//!
//! The cursor counts examples. Example k is a pure function of (seed, k, length): a stage of another length
//! has its own spans and continues at the cursor's place in their order.

mod masking;
mod pairs;
mod spans;

use super::{Batches, BertSpecials, Part, Permutation, Prepared};
use crate::{
    config::MlmConfig,
    error::{Error, Result},
    files::names::DOCUMENTS,
};
use masking::Masking;
use msg_core::{ops::cross_entropy::IGNORED, random::Key};
use pairs::{Pairs, Segments};
use spans::Spans;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// `[CLS]` and two `[SEP]`.
const SPECIAL_POSITIONS: usize = 3;

/// A BERT batch on the host; all are row-major `(sequences, length)` but `next`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MlmBatch {
    /// Token ids, some hidden.
    pub ids: Vec<u32>,
    /// 0 up to the first `[SEP]`, 1 in the second segment, 0 in padding.
    pub segments: Vec<u32>,
    /// False where a position is padding.
    pub seen: Vec<bool>,
    /// The token to predict, or -100.
    pub labels: Vec<i64>,
    /// One per sequence: 0 where the second segment follows the first, 1 where it does not.
    pub next: Vec<i64>,
    /// Sequences and their length.
    pub shape: (usize, usize),
}

/// The batches of a BERT.
#[derive(Debug)]
pub struct Mlm {
    data: Arc<Prepared>,
    specials: BertSpecials,
    order: Key,
    train: Draws,
    held_out: Draws,
    /// Whether each epoch draws other tokens.
    dynamic: bool,
    /// Spans by part and length; 8 bytes a document each.
    spans: Mutex<HashMap<(bool, usize), Arc<Spans>>>,
}

/// The random choices within examples.
#[derive(Debug)]
struct Draws {
    pairs: Pairs,
    masking: Masking,
}

impl Mlm {
    /// The shortest sequence: shorter ones would cut documents into spans that are no two segments.
    pub const SHORTEST: usize = 8;

    /// Batches of a corpus that was prepared for BERT.
    ///
    /// # Errors
    /// Where it was prepared for another family, or the rate is no share.
    pub fn new(data: Arc<Prepared>, seed: u64, config: MlmConfig) -> Result<Self> {
        let refused = |key: &str, expected: &str, got: String| Error::Config {
            file: "configuration".into(),
            key: key.into(),
            expected: expected.into(),
            got,
        };
        let specials = data.tokenizer().specials();
        let Some(specials) = specials.bert() else {
            let got = format!("data prepared for {}", specials.kind().name());
            return Err(refused("model.family", "data prepared for bert", got));
        };
        if !(config.rate > 0.0 && config.rate < 1.0) {
            return Err(refused("data.mlm.rate", "a share between 0 and 1", config.rate.to_string()));
        }
        let words = config.whole_word.then(|| Arc::new(data.tokenizer().word_parts()));
        let draws = |seed| Draws {
            pairs: Pairs::new(seed),
            masking: Masking::new(seed, config.rate, words.clone(), specials, data.tokenizer().vocab()),
        };
        Ok(Mlm {
            specials,
            order: Key::new(seed, "data.mlm.order", 0),
            train: draws(seed),
            // Evaluations of different runs are to see the same examples.
            held_out: draws(0),
            dynamic: config.dynamic,
            spans: Mutex::default(),
            data,
        })
    }

    /// Examples of an epoch at a length.
    ///
    /// # Errors
    /// Where the length is too short, or no document makes an example.
    pub fn epoch_examples(&self, length: usize) -> Result<u64> {
        let count = self.spans(Part::Train, length)?.count();
        match count {
            0 => Err(Error::Data {
                path: DOCUMENTS.into(),
                message: "expected a training document of at least 2 tokens, got none".into(),
            }),
            count => Ok(count),
        }
    }

    fn spans(&self, part: Part, length: usize) -> Result<Arc<Spans>> {
        if length < Self::SHORTEST {
            return Err(Error::Config {
                file: "configuration".into(),
                key: "stage.sequence".into(),
                expected: format!("at least {} for sentence pairs", Self::SHORTEST),
                got: length.to_string(),
            });
        }
        // A thread that panicked left the map whole: entries are inserted in one move.
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let spans = spans.entry((part == Part::HeldOut, length)).or_insert_with(|| {
            Arc::new(Spans::new(self.data.documents(part), (length - SPECIAL_POSITIONS) as u64))
        });
        Ok(spans.clone())
    }

    /// Writes an example to a row of the batch.
    fn example(&self, part: Part, spans: &Spans, index: u64, epoch: u64, row: Row<'_>) -> Result<()> {
        let draws = match part {
            Part::Train => &self.train,
            Part::HeldOut => &self.held_out,
        };
        let documents = self.data.documents(part);
        let Segments { first, second, random } = draws.pairs.segments(spans, documents, index, epoch);
        let (a, b) = (first.tokens as usize, second.tokens as usize);
        let used = a + b + SPECIAL_POSITIONS;
        self.data.read(part, first.start, &mut row.ids[1..=a])?;
        self.data.read(part, second.start, &mut row.ids[a + 2..a + 2 + b])?;
        row.ids[0] = self.specials.cls;
        row.ids[a + 1] = self.specials.sep;
        row.ids[used - 1] = self.specials.sep;
        row.segments[a + 2..used].fill(1);
        row.seen[..used].fill(true);
        *row.next = i64::from(random);
        draws.masking.apply([1..a + 1, a + 2..a + 2 + b], index, epoch, row.ids, row.labels);
        Ok(())
    }

    /// The examples that `choose` names: index and epoch.
    fn rows(
        &self,
        part: Part,
        spans: &Spans,
        (sequences, length): (usize, usize),
        choose: impl Fn(u64) -> (u64, u64),
    ) -> Result<MlmBatch> {
        let positions = sequences * length;
        let mut batch = MlmBatch {
            ids: vec![self.specials.pad; positions],
            segments: vec![0; positions],
            seen: vec![false; positions],
            labels: vec![IGNORED; positions],
            next: vec![0; sequences],
            shape: (sequences, length),
        };
        let ids = batch.ids.chunks_exact_mut(length).zip(batch.labels.chunks_exact_mut(length));
        let marks = batch.segments.chunks_exact_mut(length).zip(batch.seen.chunks_exact_mut(length));
        let rows = ids.zip(marks).zip(&mut batch.next);
        for (sequence, (((ids, labels), (segments, seen)), next)) in (0..).zip(rows) {
            let (index, epoch) = choose(sequence);
            self.example(part, spans, index, epoch, Row { ids, labels, segments, seen, next })?;
        }
        Ok(batch)
    }
}

/// One sequence of a batch.
struct Row<'a> {
    ids: &'a mut [u32],
    labels: &'a mut [i64],
    segments: &'a mut [u32],
    seen: &'a mut [bool],
    next: &'a mut i64,
}

impl Batches for Mlm {
    type Batch = MlmBatch;

    fn batch(&self, cursor: u64, sequences: usize, length: usize) -> Result<MlmBatch> {
        let spans = self.spans(Part::Train, length)?;
        let count = self.epoch_examples(length)?;
        self.rows(Part::Train, &spans, (sequences, length), |sequence| {
            let (epoch, place) = ((cursor + sequence) / count, (cursor + sequence) % count);
            let index = Permutation::new(self.order, epoch, count).at(place);
            (index, if self.dynamic { epoch } else { 0 })
        })
    }

    fn advance(&self, cursor: u64, sequences: usize, _length: usize) -> u64 {
        cursor + sequences as u64
    }

    /// The held-out spans in order, paired and masked the same for every run.
    fn held_out(&self, first: usize, sequences: usize, length: usize) -> Result<Option<MlmBatch>> {
        let sequences = sequences.min(self.held_out_sequences(length)?.saturating_sub(first));
        if sequences == 0 {
            return Ok(None);
        }
        let spans = self.spans(Part::HeldOut, length)?;
        let choose = |sequence| (first as u64 + sequence, 0);
        self.rows(Part::HeldOut, &spans, (sequences, length), choose).map(Some)
    }

    fn held_out_sequences(&self, length: usize) -> Result<usize> {
        Ok(self.spans(Part::HeldOut, length)?.count() as usize)
    }
}

#[cfg(test)]
mod tests;
