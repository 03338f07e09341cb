//! Attention on host slices, a block of queries at a time: the score matrix is never whole in memory.
//!
//! Queries, keys and values lie side by side in rows of 3 x Inner. A task is one head of one sequence; what
//! it computes depends on that head alone. The backward pass computes the probabilities again from the
//! logarithms of their sums. A causal mask leaves out what no query of a block can see.

use crate::{
    device::buffers::Buffer,
    ops::{
        dropout::Stream,
        elementary::exp,
        matmul::gemm::{Matrix, Mode, Size, gemm_rows, gemm_serial},
    },
    simd::{largest, sum, sum2, vectorized},
};
use rayon::prelude::*;

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
type Pieces<'a> = Vec<&'a mut [f32]>;

/// One head of one sequence.
struct Head<'a> {
    of: &'a Sequences,
    sequence: usize,
    head: usize,
    /// The sequence's rows, from this head's query on.
    queries: Matrix<'a, f32>,
    keys: Matrix<'a, f32>,
    values: Matrix<'a, f32>,
}

impl Sequences {
    fn inner(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The rows of every head, of a matrix of `parts` x Inner columns: by part, then head.
    fn pieces<'a>(&self, rows: &'a mut [f32], parts: usize) -> Vec<Pieces<'a>> {
        let mut pieces: Vec<Pieces<'a>> = Vec::new();
        pieces.resize_with(parts * self.heads, || Vec::with_capacity(self.length));
        for row in rows.chunks_exact_mut(parts * self.inner()) {
            let columns = row.chunks_exact_mut(self.head_dim);
            pieces.iter_mut().zip(columns).for_each(|(piece, columns)| piece.push(columns));
        }
        pieces
    }

    fn head<'a>(&'a self, sequence: usize, head: usize, qkv: &'a [f32]) -> Head<'a> {
        let inner = self.inner();
        let part = |part: usize| Matrix {
            data: &qkv[part * inner + head * self.head_dim..],
            row_stride: 3 * inner,
            col_stride: 1,
        };
        Head { of: self, sequence, head, queries: part(0), keys: part(1), values: part(2) }
    }

    /// Writes the mix of values of every query to `out` (rows of Inner), and the logarithm of each query's
    /// sum of exponentials to `log_sums` (by sequence, head, query).
    pub(crate) fn forward(&self, qkv: &[f32], out: &mut [f32], log_sums: &mut [f32]) {
        let rows = self.length * self.inner();
        let sequences = qkv.par_chunks(3 * rows).zip(out.par_chunks_mut(rows));
        let sequences = sequences.zip(log_sums.par_chunks_mut(self.heads * self.length));
        sequences.enumerate().for_each(|(sequence, ((qkv, out), log_sums))| {
            let heads = self.pieces(out, 1).into_par_iter().zip(log_sums.par_chunks_mut(self.length));
            heads.enumerate().for_each(|(head, (mut out, log_sums))| {
                self.head(sequence, head, qkv).forward(&mut out, log_sums);
            });
        });
    }

    /// Writes the gradients of queries, keys and values to `dqkv`, from those of `out`.
    pub(crate) fn backward(
        &self,
        qkv: &[f32],
        (out, log_sums): (&[f32], &[f32]),
        dout: &[f32],
        dqkv: &mut [f32],
    ) {
        let rows = self.length * self.inner();
        let operands = qkv.par_chunks(3 * rows).zip(out.par_chunks(rows)).zip(dout.par_chunks(rows));
        let operands = operands.zip(log_sums.par_chunks(self.heads * self.length));
        let sequences = operands.zip(dqkv.par_chunks_mut(3 * rows)).enumerate();
        sequences.for_each(|(sequence, ((((qkv, out), dout), log_sums), dqkv))| {
            let mut dq = self.pieces(dqkv, 3);
            let mut dk = dq.split_off(self.heads);
            let dv = dk.split_off(self.heads);
            let gradients = dq.into_par_iter().zip(dk).zip(dv);
            gradients.enumerate().for_each(|(head, ((mut dq, mut dk), mut dv))| {
                let log_sums = &log_sums[head * self.length..][..self.length];
                let gradients = (&mut dq[..], &mut dk[..], &mut dv[..]);
                self.head(sequence, head, qkv).backward((out, log_sums), dout, gradients);
            });
        });
    }
}

impl Head<'_> {
    /// The blocks of queries: first query, how many, and how many keys they can see.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (length, causal) = (self.of.length, self.of.causal);
        (0..length).step_by(QUERIES).map(move |first| {
            let queries = QUERIES.min(length - first);
            (first, queries, if causal { first + queries } else { length })
        })
    }

    /// How many keys a query can see at the most.
    fn visible(&self, query: usize) -> usize {
        if self.of.causal { query + 1 } else { self.of.length }
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.of.head_dim as f64).sqrt()) as f32
    }

    fn padding(&self) -> Option<&[f32]> {
        self.of.padding.as_ref().map(|all| &all[self.sequence * self.of.length..][..self.of.length])
    }

    /// `q k^T` of a block of queries.
    fn scores(&self, (first, queries, keys): (usize, usize, usize), scores: &mut [f32]) {
        let size = Size { m: queries, n: keys, k: self.of.head_dim };
        gemm_serial(size, self.queries.at(first, 0), self.keys.transposed(), scores, Mode::Overwrite);
    }

    /// The factors of a query's probabilities, where some are dropped.
    fn drop<'s>(&self, query: usize, factors: &'s mut [f32]) -> Option<&'s [f32]> {
        let stream = self.of.dropout.as_ref()?;
        stream.row([self.sequence, self.head, query], factors);
        Some(factors)
    }

    fn forward(&self, out: &mut [&mut [f32]], log_sums: &mut [f32]) {
        let length = self.of.length;
        let mut scores = Buffer::of(QUERIES * length);
        let mut factors = Buffer::of(length);
        for block @ (first, queries, keys) in self.blocks() {
            let scores = &mut scores[..queries * keys];
            self.scores(block, scores);
            for (query, scores) in (first..).zip(scores.chunks_exact_mut(keys)) {
                let (seen, hidden) = scores.split_at_mut(self.visible(query).min(keys));
                hidden.fill(0.0);
                log_sums[query] = vectorized(
                    #[inline(always)]
                    || softmax(seen, self.scale(), self.padding()),
                );
                if let Some(factors) = self.drop(query, &mut factors) {
                    vectorized(
                        #[inline(always)]
                        || scores.iter_mut().zip(factors).for_each(|(p, factor)| *p *= factor),
                    );
                }
            }
            let size = Size { m: queries, n: self.of.head_dim, k: keys };
            let probabilities = Matrix::row_major(scores, keys);
            gemm_rows(size, probabilities, self.values, &mut out[first..first + queries], Mode::Overwrite);
        }
    }

    fn backward(
        &self,
        (out, log_sums): (&[f32], &[f32]),
        dout: &[f32],
        (dq, dk, dv): (&mut [&mut [f32]], &mut [&mut [f32]], &mut [&mut [f32]]),
    ) {
        let (length, head_dim, inner) = (self.of.length, self.of.head_dim, self.of.inner());
        let part = |rows: &'_ [f32], query: usize| query * inner + self.head * head_dim..rows.len();
        dk.iter_mut().for_each(|row| row.fill(0.0));
        dv.iter_mut().for_each(|row| row.fill(0.0));
        let mut probabilities = Buffer::of(QUERIES * length);
        let mut slopes = Buffer::of(QUERIES * length);
        let mut factors = Buffer::of(length);
        for block @ (first, queries, keys) in self.blocks() {
            let probabilities = &mut probabilities[..queries * keys];
            let slopes = &mut slopes[..queries * keys];
            self.scores(block, probabilities);
            let dout = Matrix { data: &dout[part(dout, first)], row_stride: inner, col_stride: 1 };
            let size = Size { m: queries, n: keys, k: head_dim };
            gemm_serial(size, dout, self.values.transposed(), slopes, Mode::Overwrite);
            let rows = probabilities.chunks_exact_mut(keys).zip(slopes.chunks_exact_mut(keys));
            for (query, (p, ds)) in (first..).zip(rows) {
                let at = (query - first) * inner;
                let (o, d) = (&out[part(out, query)][..head_dim], &dout.data[at..at + head_dim]);
                let factors = self.drop(query, &mut factors);
                let seen = self.visible(query).min(keys);
                p[seen..].fill(0.0);
                ds[seen..].fill(0.0);
                let (p, ds) = (&mut p[..seen], &mut ds[..seen]);
                vectorized(
                    #[inline(always)]
                    || {
                        let mean = sum2(o, d, |o, d| o * d);
                        softmax_back(p, ds, (self.scale(), log_sums[query], mean), self.padding(), factors);
                    },
                );
            }
            let (queries_now, p) = (first..first + queries, Matrix::row_major(probabilities, keys));
            let ds = Matrix::row_major(slopes, keys);
            let to_queries = Size { m: queries, n: head_dim, k: keys };
            gemm_rows(to_queries, ds, self.keys, &mut dq[queries_now], Mode::Overwrite);
            let to_keys = Size { m: keys, n: head_dim, k: queries };
            let queries = self.queries.at(first, 0);
            gemm_rows(to_keys, ds.transposed(), queries, &mut dk[..keys], Mode::Accumulate);
            gemm_rows(to_keys, p.transposed(), dout, &mut dv[..keys], Mode::Accumulate);
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
    (scale, log_sum, mean): (f32, f32, f32),
    padding: Option<&[f32]>,
    factors: Option<&[f32]>,
) {
    match padding {
        None => p.iter_mut().for_each(|p| *p = exp(p.mul_add(scale, -log_sum))),
        Some(padding) => p.iter_mut().zip(padding).for_each(|(p, bias)| {
            *p = exp(p.mul_add(scale, *bias) - log_sum);
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
