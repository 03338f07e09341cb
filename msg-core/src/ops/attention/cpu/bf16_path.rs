//! One head in bf16: operands rounded, sums and softmax in f32.

use super::{Attend, Head, QUERIES};
use crate::{
    device::buffers::Buffer,
    float::Stored,
    ops::matmul::{
        gemm::{Matrix, Size},
        mixed::{Accumulate, Output, Overwrite, Right},
    },
    simd::vectorized,
};
use half::bf16;

/// Rows that lie anywhere.
struct Pieces<'p, 'r>(&'p mut [&'r mut [bf16]]);

impl Output for Pieces<'_, '_> {
    fn split(self, rows: usize) -> (Self, Self) {
        let (first, rest) = self.0.split_at_mut(rows);
        (Pieces(first), Pieces(rest))
    }

    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, elements: &[f32]) {
        let row = &mut self.0[row][column..][..elements.len()];
        row.iter_mut().zip(elements).for_each(|(to, x)| *to = bf16::of(*x));
    }
}

impl Attend for bf16 {
    fn forward(head: &Head<'_, bf16>, out: &mut [&mut [bf16]], logsumexp: &mut [f32]) {
        let (length, head_dim) = (head.of.length, head.of.head_dim);
        let keys_across = Right::packed_here(head.keys.transposed(), head_dim, length);
        let values = Right::packed_here(head.values, length, head_dim);
        let mut all_scores = Buffer::<f32>::of(QUERIES * length);
        let mut factors = Buffer::<f32>::of(length);
        for block @ (first, queries, keys) in head.blocks() {
            let p = &mut all_scores[..queries * keys];
            let to_scores = Size { m: queries, n: keys, k: head_dim };
            let scores = Overwrite { c: &mut *p, columns: keys };
            keys_across.times(to_scores, head.queries.at(first, 0), scores);
            head.probabilities(block, p, logsumexp, &mut factors);
            let to_out = Size { m: queries, n: head_dim, k: keys };
            values.times(to_out, Matrix::row_major(p, keys), Pieces(&mut out[first..first + queries]));
        }
    }

    fn backward(
        head: &Head<'_, bf16>,
        kept: (&[bf16], &[f32]),
        dout: &[bf16],
        (dq, dk, dv): (&mut [&mut [bf16]], &mut [&mut [bf16]], &mut [&mut [bf16]]),
    ) {
        let (length, head_dim) = (head.of.length, head.of.head_dim);
        let keys_across = Right::packed_here(head.keys.transposed(), head_dim, length);
        let values_across = Right::packed_here(head.values.transposed(), head_dim, length);
        let keys_down = Right::packed_here(head.keys, length, head_dim);
        let mut all_scores = Buffer::<f32>::of(QUERIES * length);
        let mut all_slopes = Buffer::<f32>::of(QUERIES * length);
        let mut factors = Buffer::<f32>::of(length);
        let mut sums = [Buffer::<f32>::zeros(length * head_dim), Buffer::<f32>::zeros(length * head_dim)];
        for block @ (first, queries, keys) in head.blocks() {
            let (p, ds) = (&mut all_scores[..queries * keys], &mut all_slopes[..queries * keys]);
            let to_scores = Size { m: queries, n: keys, k: head_dim };
            let (queries_now, dout_now) = (head.queries.at(first, 0), head.part(dout, first));
            keys_across.times(to_scores, queries_now, Overwrite { c: &mut *p, columns: keys });
            values_across.times(to_scores, dout_now, Overwrite { c: &mut *ds, columns: keys });
            head.slopes(block, (p, ds), kept, dout, &mut factors);
            let (p, ds) = (Matrix::row_major(p, keys), Matrix::row_major(ds, keys));
            let to_queries = Size { m: queries, n: head_dim, k: keys };
            keys_down.times(to_queries, ds, Pieces(&mut dq[first..first + queries]));
            let to_keys = Size { m: keys, n: head_dim, k: queries };
            for ((left, right), sums) in [(ds, queries_now), (p, dout_now)].into_iter().zip(&mut sums) {
                let sums = Accumulate { c: &mut sums[..keys * head_dim], columns: head_dim };
                Right::packed_here(right, queries, head_dim).times(to_keys, left.transposed(), sums);
            }
        }
        store(dk, &sums[0], head_dim);
        store(dv, &sums[1], head_dim);
    }
}

fn store(rows: &mut [&mut [bf16]], sums: &[f32], head_dim: usize) {
    vectorized(
        #[inline(always)]
        || {
            for (row, sums) in rows.iter_mut().zip(sums.chunks_exact(head_dim)) {
                row.iter_mut().zip(sums).for_each(|(to, x)| *to = bf16::of(*x));
            }
        },
    );
}
