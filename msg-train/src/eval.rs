//! What a model is worth on the held-out sequences.
//!
//! The loss is what training minimises: for BERT the mean over all labelled tokens of the evaluated set plus
//! the mean over all its sentence pairs, each by its own count; perplexity is of the tokens alone. Every
//! label is added by itself, in order and in f64, so the figures do not depend on how sequences are put into
//! batches (on the Cpu to the bit), and no logits outlive their batch.

use crate::{
    checkpoint::{Model, Saved},
    data::{Batches, Causal, MANIFEST, Mlm, Prepared},
    error::{Error, Result},
    families::family::{HeadScores, Task},
    metrics::Heads,
    run::data_folder,
    schedule::plan::Plan,
};
use msg_core::{Backend, ops::Scores};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// One loss term, summed over labels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Term {
    /// Sum of the losses, in nats.
    pub sum: f64,
    /// Labels.
    pub labels: u64,
    /// Labels whose logit was the largest.
    pub right: u64,
}

impl Term {
    fn add(&mut self, scores: &Scores) {
        self.sum = scores.losses.iter().fold(self.sum, |sum, &loss| sum + f64::from(loss));
        self.labels += scores.losses.len() as u64;
        self.right += scores.right.iter().filter(|right| **right).count() as u64;
    }

    /// Mean loss in nats; 0 without labels.
    pub fn loss(&self) -> f64 {
        self.sum / self.labels.max(1) as f64
    }

    /// Share of right answers, from 0 to 1; 0 without labels.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.labels.max(1) as f64
    }
}

/// What the held-out sequences say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeldOut {
    /// Sequences evaluated.
    pub sequences: usize,
    /// Tokens: the next one of every position (GPT), the masked ones (BERT).
    pub tokens: Term,
    /// Sentence pairs (BERT).
    pub pairs: Term,
}

impl HeldOut {
    /// Mean loss in nats, all terms, each by its own count.
    pub fn loss(&self) -> f64 {
        self.tokens.loss() + self.pairs.loss()
    }

    /// e to the mean loss of the tokens alone.
    pub fn perplexity(&self) -> f64 {
        self.tokens.loss().exp()
    }

    /// Shares of right answers of both heads, where there are two.
    pub fn accuracy(&self) -> Option<Heads> {
        let heads = Heads { mlm: self.tokens.accuracy(), nsp: self.pairs.accuracy() };
        (self.pairs.labels > 0).then_some(heads)
    }
}

/// Which held-out sequences, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Sequences at most, the first ones.
    pub sequences: usize,
    /// Tokens of each.
    pub length: usize,
    /// Sequences of one forward pass; it changes no figure.
    pub micro_batch: usize,
}

/// Evaluates a model under the masks of a step; none where nothing is held out.
///
/// # Errors
/// Where data or device fail.
pub fn evaluate<D: Backend, M: Task<D>, B: Batches<Batch = M::Host>>(
    model: &M,
    batches: &B,
    step: u64,
    span: Span,
) -> Result<Option<HeldOut>> {
    let masks = model.masks(step)?;
    let total = span.sequences.min(batches.held_out_sequences(span.length)?);
    let mut held_out = HeldOut::default();
    while held_out.sequences < total {
        let sequences = span.micro_batch.max(1).min(total - held_out.sequences);
        let Some(host) = batches.held_out(held_out.sequences, sequences, span.length)? else { break };
        let HeadScores { tokens, pairs } = model.scores(&model.upload(&host)?, &masks)?;
        held_out.tokens.add(&tokens);
        held_out.pairs.add(&pairs);
        held_out.sequences += sequences;
    }
    Ok((held_out.sequences > 0).then_some(held_out))
}

/// What to evaluate a checkpoint on; what is left out comes from its run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// A folder of prepared data.
    pub data: Option<PathBuf>,
    /// Held-out sequences at most; by default all.
    pub sequences: Option<usize>,
    /// Tokens of a sequence; by default those of the checkpoint's stage.
    pub length: Option<usize>,
}

/// Sequences evaluated at a time for a model without a run.
const MICRO_BATCH: usize = 8;

/// A checkpoint's figures and what they were taken on.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The figures.
    pub held_out: HeldOut,
    /// The folder of the data.
    pub data: PathBuf,
    /// Tokens of a sequence.
    pub length: usize,
}

/// Evaluates a checkpoint, under the masks of its step.
///
/// # Errors
/// Where the data are missing, of another tokenizer or hold nothing out, a number is out of range, or the
/// device fails.
pub fn evaluate_saved<D: Backend>(saved: &Saved<D>, choice: &Choice) -> Result<Evaluation> {
    let state = &saved.state;
    // An imported model has no run; what its run would say has to be given.
    let config = saved.config.as_ref();
    let stage = config.map(Plan::new).map(|plan| *plan.stage_at(state.step.max(1)));
    let (shortest, positions) = match &saved.model {
        Model::Gpt(model) => (1, model.config().positions),
        Model::Bert(model) => (Mlm::SHORTEST, model.config().positions),
    };
    let length = choice.length.or(stage.map(|stage| stage.sequence)).unwrap_or(positions);
    if !(shortest..=positions).contains(&length) {
        let expected = format!("from {shortest} to the model's {positions} positions");
        return Err(Error::Argument { name: "sequence", expected, got: length.to_string() });
    }
    let sequences = choice.sequences.unwrap_or(usize::MAX);
    if sequences == 0 {
        let expected = "at least 1".into();
        return Err(Error::Argument { name: "sequences", expected, got: "0".into() });
    }
    let folder = choice.data.clone().or_else(|| config.map(data_folder)).ok_or_else(|| Error::Argument {
        name: "data",
        expected: "a folder of prepared data (`msg data prepare`) for a model that has no run".into(),
        got: "none".into(),
    })?;
    let data = open_data(saved, &folder)?;
    let micro_batch = config.and_then(|config| config.train().micro_batch);
    let micro_batch = micro_batch.or(stage.map(|stage| stage.batch)).unwrap_or(MICRO_BATCH);
    let (seed, mlm) = config.map_or_else(Default::default, |config| (config.run().seed, config.data().mlm));
    let span = Span { sequences, length, micro_batch };
    let held_out = match &saved.model {
        // Windows are of training alone.
        Model::Gpt(model) => evaluate(model, &Causal::new(data, seed, 1)?, state.step, span)?,
        Model::Bert(model) => evaluate(model, &Mlm::new(data, seed, mlm)?, state.step, span)?,
    };
    match held_out {
        Some(held_out) => Ok(Evaluation { held_out, data: folder, length }),
        None => Err(Error::Data { path: folder, message: "expected held-out sequences, got none".into() }),
    }
}

/// Opens prepared data that hold the checkpoint's tokens.
fn open_data<D: Backend>(saved: &Saved<D>, folder: &Path) -> Result<Arc<Prepared>> {
    let refuse = |message: &str| Err(Error::Data { path: folder.to_owned(), message: message.into() });
    if !folder.join(MANIFEST).is_file() {
        return refuse("expected prepared data (`msg data prepare`, or another folder by --data), got none");
    }
    let data = Prepared::open(folder)?;
    if data.tokenizer().json() != saved.tokenizer()?.json() {
        return refuse("expected data of the checkpoint's tokenizer, got those of another");
    }
    Ok(Arc::new(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(losses: &[f32], right: &[bool]) -> Scores {
        Scores { losses: losses.to_vec(), right: right.to_vec() }
    }

    #[test]
    fn each_term_is_a_mean_by_its_own_count_however_labels_are_batched() {
        let mut held_out = HeldOut::default();
        held_out.tokens.add(&scores(&[1.0, 2.0, 3.0], &[true, false, true]));
        held_out.tokens.add(&scores(&[], &[]));
        held_out.tokens.add(&scores(&[6.0], &[false]));
        held_out.pairs.add(&scores(&[0.5], &[true]));
        held_out.pairs.add(&scores(&[1.0], &[false]));
        held_out.pairs.add(&scores(&[0.0], &[true]));
        assert_eq!((held_out.tokens.loss(), held_out.pairs.loss()), (3.0, 0.5));
        assert_eq!((held_out.loss(), held_out.perplexity()), (3.5, 3f64.exp()));
        assert_eq!(held_out.accuracy(), Some(Heads { mlm: 0.5, nsp: 2.0 / 3.0 }));

        let mut at_once = Term::default();
        at_once.add(&scores(&[0.1, 0.2, 0.3, 1e-9], &[true; 4]));
        let mut one_by_one = Term::default();
        [0.1, 0.2, 0.3, 1e-9].iter().for_each(|&loss| one_by_one.add(&scores(&[loss], &[true])));
        assert_eq!(at_once, one_by_one);
    }

    #[test]
    fn without_pairs_there_is_no_accuracy_of_two_heads_and_a_nan_is_seen() {
        let mut held_out = HeldOut::default();
        assert_eq!((held_out.loss(), held_out.accuracy()), (0.0, None));
        held_out.tokens.add(&scores(&[1.0, f32::NAN], &[true, false]));
        assert!(held_out.loss().is_nan() && held_out.perplexity().is_nan());
    }
}
