//! A model's figures on held-out sequences.
//!
//! The loss is the one that training minimises: for each term the mean over all labels of the evaluated set, each by
//! its own count; perplexity is of the first term, tokens. Every label is added by itself, in order and in f64, so the
//! figures do not depend on how sequences are put into batches (on the Cpu to the bit), and no logits outlive their
//! batch.

use super::{
    family::{HostOf, Trainable},
    objective::Objective,
};
use crate::{data::Batches, error::Result, metrics::Heads};
use msg_core::{Backend, ops::Scores};

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

/// The figures of the held-out sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOut {
    /// Sequences evaluated.
    pub sequences: usize,
    /// The loss terms of the objective.
    pub terms: Vec<Term>,
}

impl HeldOut {
    /// Without any label.
    fn new(terms: usize) -> Self {
        HeldOut { sequences: 0, terms: vec![Term::default(); terms] }
    }

    /// The term that perplexity is of: tokens.
    pub fn tokens(&self) -> Term {
        self.terms.first().copied().unwrap_or_default()
    }

    /// Mean loss in nats, all terms, each by its own count.
    pub fn loss(&self) -> f64 {
        self.terms.iter().map(Term::loss).sum()
    }

    /// e to the mean loss of the tokens alone.
    pub fn perplexity(&self) -> f64 {
        self.tokens().loss().exp()
    }

    /// Shares of right answers of both heads, where there are two.
    pub fn accuracy(&self) -> Option<Heads> {
        let [tokens, pairs] = self.terms.as_slice() else { return None };
        let heads = Heads { mlm: tokens.accuracy(), nsp: pairs.accuracy() };
        (pairs.labels > 0).then_some(heads)
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

/// Evaluates a model under the masks of a step; `None` where nothing is held out.
///
/// # Errors
/// Where the data cannot be read.
pub fn evaluate<D: Backend, M: Trainable<D>, B: Batches<Batch = HostOf<D, M>>>(
    model: &M,
    batches: &B,
    step: u64,
    span: Span,
) -> Result<Option<HeldOut>> {
    let masks = model.masks(step)?;
    let total = span.sequences.min(batches.held_out_sequences(span.length)?);
    let mut held_out = HeldOut::new(<M::Objective>::TERMS.len());
    while held_out.sequences < total {
        let sequences = span.micro_batch.max(1).min(total - held_out.sequences);
        let Some(host) = batches.held_out(held_out.sequences, sequences, span.length)? else { break };
        let batch = <M::Objective>::upload(model, &host)?;
        let scores = <M::Objective>::scores(model, &batch, &masks)?;
        held_out.terms.iter_mut().zip(&scores).for_each(|(term, scores)| term.add(scores));
        held_out.sequences += sequences;
    }
    Ok((held_out.sequences > 0).then_some(held_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(losses: &[f32], right: &[bool]) -> Scores {
        Scores { losses: losses.to_vec(), right: right.to_vec() }
    }

    #[test]
    fn each_term_is_a_mean_by_its_own_count_however_labels_are_batched() {
        let mut held_out = HeldOut::new(2);
        held_out.terms[0].add(&scores(&[1.0, 2.0, 3.0], &[true, false, true]));
        held_out.terms[0].add(&scores(&[], &[]));
        held_out.terms[0].add(&scores(&[6.0], &[false]));
        held_out.terms[1].add(&scores(&[0.5], &[true]));
        held_out.terms[1].add(&scores(&[1.0], &[false]));
        held_out.terms[1].add(&scores(&[0.0], &[true]));
        assert_eq!((held_out.terms[0].loss(), held_out.terms[1].loss()), (3.0, 0.5));
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
        let mut held_out = HeldOut::new(2);
        assert_eq!((held_out.loss(), held_out.accuracy()), (0.0, None));
        held_out.terms[0].add(&scores(&[1.0, f32::NAN], &[true, false]));
        assert!(held_out.loss().is_nan() && held_out.perplexity().is_nan());
    }
}
