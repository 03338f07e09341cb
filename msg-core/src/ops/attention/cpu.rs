//! Attention on host slices, a block of queries at a time: the score matrix is never whole in memory.
//!
//! Queries, keys and values lie side by side in rows of 3 x AttnDim. A task is one head of one sequence; its
//! result depends on that head alone. The backward pass recomputes the probabilities from the logsumexp of each row.
//! Under a causal mask, keys that no query of a block can see are skipped.

use crate::{
    float::Stored,
    ops::{dropout::Stream, math::exp, matmul::gemm::Matrix},
    simd::{largest, sum, sum2, vectorized},
};
use rayon::prelude::*;

mod bf16_path;
mod f32_path;

/// Queries of a block.
const QUERIES: usize = 64;

/// The shape of a batch of sequences, and what their queries may see.
#[derive(Clone, Debug)]
pub(crate) struct Sequences {
    pub(crate) length: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) causal: bool,
    /// Added to the scores of each key, by sequence.
    pub(crate) padding: Option<Vec<f32>>,
    /// Drops probabilities.
    pub(crate) dropout: Option<Stream>,
}

/// A head's part of each row.
type Pieces<'a, E> = Vec<&'a mut [E]>;

/// One head of one sequence.
pub(crate) struct Head<'a, E> {
    of: &'a Sequences,
    sequence: usize,
    head: usize,
    /// The sequence's rows, from this head's query on.
    queries: Matrix<'a, E>,
    keys: Matrix<'a, E>,
    values: Matrix<'a, E>,
}

/// Arithmetic in which one head is computed, on the calling thread.
pub(crate) trait Attend: Stored {
    /// Writes the attention output of every query to `out`, and the logarithms of the sums of exponentials.
    fn forward(head: &Head<'_, Self>, out: &mut [&mut [Self]], logsumexp: &mut [f32]);

    /// Writes the gradients of queries, keys and values, from the output (rows of AttnDim, from the sequence's first
    /// on), the logarithms and the output's gradient.
    fn backward(
        head: &Head<'_, Self>,
        kept: (&[Self], &[f32]),
        dout: &[Self],
        gradients: (&mut [&mut [Self]], &mut [&mut [Self]], &mut [&mut [Self]]),
    );
}

impl Sequences {
    fn inner(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The rows of every head, of a matrix of `parts` x AttnDim columns: by part, then head.
    fn pieces<'a, E: Stored>(&self, rows: &'a mut [E], parts: usize) -> Vec<Pieces<'a, E>> {
        let mut pieces: Vec<Pieces<'a, E>> = Vec::new();
        pieces.resize_with(parts * self.heads, || Vec::with_capacity(self.length));
        for row in rows.chunks_exact_mut(parts * self.inner()) {
            let columns = row.chunks_exact_mut(self.head_dim);
            pieces.iter_mut().zip(columns).for_each(|(piece, columns)| piece.push(columns));
        }
        pieces
    }

    fn head<'a, E>(&'a self, sequence: usize, head: usize, qkv: &'a [E]) -> Head<'a, E> {
        let inner = self.inner();
        let part = |part: usize| Matrix {
            data: &qkv[part * inner + head * self.head_dim..],
            row_stride: 3 * inner,
            col_stride: 1,
        };
        Head { of: self, sequence, head, queries: part(0), keys: part(1), values: part(2) }
    }

    /// Writes the attention output of every query to `out` (rows of AttnDim), and the logarithm of each query's
    /// sum of exponentials to `logsumexp` (by sequence, head, query).
    pub(crate) fn forward<E: Attend>(&self, qkv: &[E], out: &mut [E], logsumexp: &mut [f32]) {
        let rows = self.length * self.inner();
        let sequences = qkv.par_chunks(3 * rows).zip(out.par_chunks_mut(rows));
        let sequences = sequences.zip(logsumexp.par_chunks_mut(self.heads * self.length));
        sequences.enumerate().for_each(|(sequence, ((qkv, out), logsumexp))| {
            let heads = self.pieces(out, 1).into_par_iter().zip(logsumexp.par_chunks_mut(self.length));
            heads.enumerate().for_each(|(head, (mut out, logsumexp))| {
                E::forward(&self.head(sequence, head, qkv), &mut out, logsumexp);
            });
        });
    }

    /// Writes the gradients of queries, keys and values to `dqkv`, from those of `out`.
    pub(crate) fn backward<E: Attend>(
        &self,
        qkv: &[E],
        (out, logsumexp): (&[E], &[f32]),
        dout: &[E],
        dqkv: &mut [E],
    ) {
        let rows = self.length * self.inner();
        let operands = qkv.par_chunks(3 * rows).zip(out.par_chunks(rows)).zip(dout.par_chunks(rows));
        let operands = operands.zip(logsumexp.par_chunks(self.heads * self.length));
        let sequences = operands.zip(dqkv.par_chunks_mut(3 * rows)).enumerate();
        sequences.for_each(|(sequence, ((((qkv, out), dout), logsumexp), dqkv))| {
            let mut dq = self.pieces(dqkv, 3);
            let mut dk = dq.split_off(self.heads);
            let dv = dk.split_off(self.heads);
            let gradients = dq.into_par_iter().zip(dk).zip(dv);
            gradients.enumerate().for_each(|(head, ((mut dq, mut dk), mut dv))| {
                let logsumexp = &logsumexp[head * self.length..][..self.length];
                let gradients = (&mut dq[..], &mut dk[..], &mut dv[..]);
                E::backward(&self.head(sequence, head, qkv), (out, logsumexp), dout, gradients);
            });
        });
    }
}

impl<E> Head<'_, E> {
    /// The blocks of queries: first query, how many, and how many keys they can see.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<E> {
        let (length, causal) = (self.of.length, self.of.causal);
        (0..length).step_by(QUERIES).map(move |first| {
            let queries = QUERIES.min(length - first);
            (first, queries, if causal { first + queries } else { length })
        })
    }

    /// The most keys that a query can see.
    fn visible(&self, query: usize) -> usize {
        if self.of.causal { query + 1 } else { self.of.length }
    }

    /// This head's part of a matrix of rows of AttnDim, from a query's row on.
    fn part<'r, R>(&self, rows: &'r [R], query: usize) -> Matrix<'r, R> {
        let inner = self.of.inner();
        let data = &rows[query * inner + self.head * self.of.head_dim..];
        Matrix { data, row_stride: inner, col_stride: 1 }
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.of.head_dim as f64).sqrt()) as f32
    }

    fn padding(&self) -> Option<&[f32]> {
        self.of.padding.as_ref().map(|all| &all[self.sequence * self.of.length..][..self.of.length])
    }

    /// The factors of a query's probabilities, where some are dropped.
    fn drop<'s>(&self, query: usize, factors: &'s mut [f32]) -> Option<&'s [f32]> {
        let stream = self.of.dropout.as_ref()?;
        stream.row([self.sequence, self.head, query], factors);
        Some(factors)
    }

    /// Turns a block's scores into probabilities, rows of as many keys as it sees.
    fn probabilities(
        &self,
        (first, _, keys): (usize, usize, usize),
        scores: &mut [f32],
        logsumexp: &mut [f32],
        factors: &mut [f32],
    ) {
        for (query, scores) in (first..).zip(scores.chunks_exact_mut(keys)) {
            let (seen, hidden) = scores.split_at_mut(self.visible(query).min(keys));
            hidden.fill(0.0);
            logsumexp[query] = vectorized(
                #[inline(always)]
                || softmax(seen, self.scale(), self.padding()),
            );
            if let Some(factors) = self.drop(query, factors) {
                vectorized(
                    #[inline(always)]
                    || scores.iter_mut().zip(factors).for_each(|(p, factor)| *p *= factor),
                );
            }
        }
    }
}

impl<E: Stored> Head<'_, E> {
    /// Turns a block's scores and its gradients of probabilities into probabilities (dropped ones as 0) and
    /// gradients of scores.
    fn slopes(
        &self,
        (first, _, keys): (usize, usize, usize),
        (scores, gradients): (&mut [f32], &mut [f32]),
        (out, logsumexp): (&[E], &[f32]),
        dout: &[E],
        factors: &mut [f32],
    ) {
        let head_dim = self.of.head_dim;
        let rows = scores.chunks_exact_mut(keys).zip(gradients.chunks_exact_mut(keys));
        for (query, (p, ds)) in (first..).zip(rows) {
            let (o, d) = (&self.part(out, query).data[..head_dim], &self.part(dout, query).data[..head_dim]);
            let factors = self.drop(query, factors);
            let seen = self.visible(query).min(keys);
            p[seen..].fill(0.0);
            ds[seen..].fill(0.0);
            let (p, ds) = (&mut p[..seen], &mut ds[..seen]);
            vectorized(
                #[inline(always)]
                || {
                    let mean = sum2(o, d, |o, d| o * d);
                    softmax_back(p, ds, (self.scale(), logsumexp[query], mean), self.padding(), factors);
                },
            );
        }
    }
}

/// Turns scores into probabilities; gives the logarithm of the sum of their exponentials.
#[inline(always)]
fn softmax(scores: &mut [f32], scale: f32, padding: Option<&[f32]>) -> f32 {
    match padding {
        None => scores.iter_mut().for_each(|score| *score *= scale),
        Some(padding) => {
            scores.iter_mut().zip(padding).for_each(|(score, bias)| *score = score.mul_add(scale, *bias));
        }
    }
    let most = largest(scores);
    scores.iter_mut().for_each(|score| *score = exp(*score - most));
    let total = sum(scores, |share| share);
    let share = 1.0 / total;
    scores.iter_mut().for_each(|score| *score *= share);
    most + total.ln()
}

/// Scores and gradients of probabilities in; probabilities (dropped ones as 0) and gradients of scores out.
#[inline(always)]
fn softmax_back(
    p: &mut [f32],
    ds: &mut [f32],
    (scale, row_logsumexp, mean): (f32, f32, f32),
    padding: Option<&[f32]>,
    factors: Option<&[f32]>,
) {
    match padding {
        None => p.iter_mut().for_each(|p| *p = exp(p.mul_add(scale, -row_logsumexp))),
        Some(padding) => p.iter_mut().zip(padding).for_each(|(p, bias)| {
            *p = exp(p.mul_add(scale, *bias) - row_logsumexp);
        }),
    }
    match factors {
        None => ds.iter_mut().zip(&*p).for_each(|(ds, p)| *ds = p * (*ds - mean) * scale),
        Some(factors) => ds.iter_mut().zip(p).zip(factors).for_each(|((ds, p), factor)| {
            *ds = *p * (*ds * factor - mean) * scale;
            *p *= factor;
        }),
    }
}
