//! One head in f32.

use super::{Attend, Head, QUERIES};
use crate::{
    device::buffers::Buffer,
    ops::matmul::gemm::{Matrix, Mode, Size, gemm_rows, gemm_serial},
};

/// `q k^T` of a block of queries.
fn scores(head: &Head<'_, f32>, (first, queries, keys): (usize, usize, usize), scores: &mut [f32]) {
    let size = Size { m: queries, n: keys, k: head.of.head_dim };
    gemm_serial(size, head.queries.at(first, 0), head.keys.transposed(), scores, Mode::Overwrite);
}

impl Attend for f32 {
    fn forward(head: &Head<'_, f32>, out: &mut [&mut [f32]], logsumexp: &mut [f32]) {
        let length = head.of.length;
        let mut all_scores = Buffer::<f32>::of(QUERIES * length);
        let mut factors = Buffer::<f32>::of(length);
        for block @ (first, queries, keys) in head.blocks() {
            let p = &mut all_scores[..queries * keys];
            scores(head, block, p);
            head.probabilities(block, p, logsumexp, &mut factors);
            let size = Size { m: queries, n: head.of.head_dim, k: keys };
            let out = &mut out[first..first + queries];
            gemm_rows(size, Matrix::row_major(p, keys), head.values, out, Mode::Overwrite);
        }
    }

    fn backward(
        head: &Head<'_, f32>,
        kept: (&[f32], &[f32]),
        dout: &[f32],
        (dq, dk, dv): (&mut [&mut [f32]], &mut [&mut [f32]], &mut [&mut [f32]]),
    ) {
        let (length, head_dim) = (head.of.length, head.of.head_dim);
        dk.iter_mut().for_each(|row| row.fill(0.0));
        dv.iter_mut().for_each(|row| row.fill(0.0));
        let mut all_scores = Buffer::<f32>::of(QUERIES * length);
        let mut all_slopes = Buffer::<f32>::of(QUERIES * length);
        let mut factors = Buffer::<f32>::of(length);
        for block @ (first, queries, keys) in head.blocks() {
            let (p, ds) = (&mut all_scores[..queries * keys], &mut all_slopes[..queries * keys]);
            scores(head, block, p);
            let to_scores = Size { m: queries, n: keys, k: head_dim };
            let dout_now = head.part(dout, first);
            gemm_serial(to_scores, dout_now, head.values.transposed(), ds, Mode::Overwrite);
            head.slopes(block, (p, ds), kept, dout, &mut factors);
            let (p, ds) = (Matrix::row_major(p, keys), Matrix::row_major(ds, keys));
            let to_queries = Size { m: queries, n: head_dim, k: keys };
            gemm_rows(to_queries, ds, head.keys, &mut dq[first..first + queries], Mode::Overwrite);
            let to_keys = Size { m: keys, n: head_dim, k: queries };
            let queries = head.queries.at(first, 0);
            gemm_rows(to_keys, ds.transposed(), queries, &mut dk[..keys], Mode::Accumulate);
            gemm_rows(to_keys, p.transposed(), dout_now, &mut dv[..keys], Mode::Accumulate);
        }
    }
}
