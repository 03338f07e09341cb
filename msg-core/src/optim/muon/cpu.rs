//! The Muon update of one tensor on host slices.

use super::step::{MuonGroup, MuonKernel, MuonStep, NORM_EPS, QUINTIC};
use crate::{
    device::{buffers::Buffer, slice::values_mut},
    error::Result,
    ops::{
        compute::Precision,
        matmul::{
            gemm::{Matrix, Mode, Size, gemm},
            gemm_rounded,
        },
    },
    optim::cpu::{CpuPass, sum_of_squares},
    params::Param,
    simd::vectorized,
};
use dfdx::{shapes::Shape, tensor::Cpu};
use rayon::prelude::*;

impl MuonKernel for Cpu {
    fn muon<S: Shape>(
        pass: &mut CpuPass<'_>,
        tensor: &mut Param<S, Cpu>,
        momentum: &mut Param<S, Cpu>,
        step: &MuonStep<'_>,
    ) -> Result<()> {
        let Some((grad, grad_scale)) = pass.gradient(tensor)? else { return Ok(()) };
        muon(values_mut(tensor), grad, values_mut(momentum), grad_scale, step);
        Ok(())
    }
}

/// Entries of a parallel piece of an elementwise pass; no result depends on it.
const CHUNK: usize = 1 << 14;

/// Updates a tensor and its momentum in place, with the gradient times `grad_scale`. All slices have the tensor's
/// number of entries.
///
/// # Panics
/// If they have not, if the lists of age groups do not fit the axes, or for fewer than two axes.
fn muon(p: &mut [f32], g: &[f32], m: &mut [f32], grad_scale: f32, step: &MuonStep<'_>) {
    step.entries.check("muon", p.len(), step.groups.len());
    assert!([g.len(), m.len()] == [p.len(); 2], "muon: gradient and momentum of the tensor's size");
    let &[.., rows, columns] = step.entries.sizes else { panic!("muon: a tensor of matrices") };
    if p.is_empty() {
        return;
    }
    let mut update = Buffer::of(p.len());
    momentum(&mut update, g, m, grad_scale, step);
    for matrix in update.chunks_exact_mut(rows * columns) {
        orthogonalize(matrix, [rows, columns], step.steps, step.precision);
    }
    apply(p, &update, step);
}

/// Rows of the last axis in a piece.
fn rows_of_a_piece(columns: usize) -> usize {
    (CHUNK / columns).max(1)
}

/// `m += share (g - m)`, and `update = share g + momentum m` (Nesterov).
fn momentum(update: &mut [f32], g: &[f32], m: &mut [f32], grad_scale: f32, step: &MuonStep<'_>) {
    let columns = step.entries.width();
    let rows = rows_of_a_piece(columns);
    let runs = step.entries.runs(step.groups.len());
    let pieces = update.par_chunks_mut(rows * columns).zip(g.par_chunks(rows * columns));
    let pieces = pieces.zip(m.par_chunks_mut(rows * columns)).enumerate();
    pieces.for_each(|(piece, ((update, g), m))| {
        let lines = update.chunks_mut(columns).zip(g.chunks(columns)).zip(m.chunks_mut(columns));
        for (at, ((update, g), m)) in lines.enumerate() {
            let lead = step.entries.row_group(piece * rows + at);
            let mut start = 0;
            for &(end, group) in &runs {
                let run = start..end.min(columns);
                start = run.end;
                let factor = step.groups[lead.max(group) as usize].momentum;
                let (update, g, m) = (&mut update[run.clone()], &g[run.clone()], &mut m[run]);
                vectorized(
                    #[inline(always)]
                    || {
                        for ((update, &g), m) in update.iter_mut().zip(g).zip(m) {
                            let g = g * grad_scale;
                            *m += (g - *m) * step.share;
                            *update = g * step.share + *m * factor;
                        }
                    },
                );
            }
        }
    });
}

/// `p -= decay p`, then `p -= rate update`.
fn apply(p: &mut [f32], update: &[f32], step: &MuonStep<'_>) {
    let columns = step.entries.width();
    let rows = rows_of_a_piece(columns);
    let runs = step.entries.runs(step.groups.len());
    let pieces = p.par_chunks_mut(rows * columns).zip(update.par_chunks(rows * columns)).enumerate();
    pieces.for_each(|(piece, (p, update))| {
        for (at, (p, update)) in p.chunks_mut(columns).zip(update.chunks(columns)).enumerate() {
            let lead = step.entries.row_group(piece * rows + at);
            let mut start = 0;
            for &(end, group) in &runs {
                let run = start..end.min(columns);
                start = run.end;
                let MuonGroup { rate, decay, .. } = step.groups[lead.max(group) as usize];
                let (p, update) = (&mut p[run.clone()], &update[run]);
                vectorized(
                    #[inline(always)]
                    || {
                        for (p, update) in p.iter_mut().zip(update) {
                            *p -= *p * decay;
                            *p -= rate * update;
                        }
                    },
                );
            }
        }
    });
}

/// Makes the singular values of a matrix about 1 by the Newton-Schulz iteration `X <- a X + (b A + c A A) X` with
/// `A = X X^T`, from `X / (||X|| + eps)`. A tall matrix takes `A = X^T X` on its other side, which is the published
/// transposition without moving anything. Sums are those of [`gemm`]: no bit depends on the threads.
fn orthogonalize(x: &mut [f32], [rows, columns]: [usize; 2], steps: u32, precision: Precision) {
    let norm = sum_of_squares(x).sqrt() as f32 + NORM_EPS;
    each(x, |x| *x /= norm);
    let [a, b, c] = QUINTIC;
    let tall = rows > columns;
    let side = rows.min(columns);
    let (mut gram, mut polynomial) = (Buffer::of(side * side), Buffer::of(side * side));
    let mut next = Buffer::of(x.len());
    for _ in 0..steps {
        let matrix = Matrix::row_major(x, columns);
        let square = Size { m: side, n: side, k: rows.max(columns) };
        if tall {
            product(precision, square, matrix.transposed(), matrix, &mut gram);
        } else {
            product(precision, square, matrix, matrix.transposed(), &mut gram);
        }
        let power = Matrix::row_major(&gram, side);
        product(precision, Size { k: side, ..square }, power, power, &mut polynomial);
        both(&mut polynomial, &gram, |square, gram| *square = b * gram + c * *square);
        let (polynomial, size) =
            (Matrix::row_major(&polynomial, side), Size { m: rows, n: columns, k: side });
        if tall {
            product(precision, size, matrix, polynomial.transposed(), &mut next);
        } else {
            product(precision, size, polynomial, matrix, &mut next);
        }
        both(x, &next, |x, moved| *x = a * *x + moved);
    }
}

fn product(precision: Precision, size: Size, a: Matrix<'_, f32>, b: Matrix<'_, f32>, c: &mut [f32]) {
    match precision {
        Precision::F32 => gemm(size, a, b, c, Mode::Overwrite),
        Precision::Bf16 => gemm_rounded(size, a, b, c),
    }
}

fn each(x: &mut [f32], change: impl Fn(&mut f32) + Sync) {
    x.par_chunks_mut(CHUNK).for_each(|x| {
        vectorized(
            #[inline(always)]
            || x.iter_mut().for_each(&change),
        );
    });
}

fn both(x: &mut [f32], y: &[f32], change: impl Fn(&mut f32, f32) + Sync) {
    x.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK)).for_each(|(x, y)| {
        vectorized(
            #[inline(always)]
            || x.iter_mut().zip(y).for_each(|(x, &y)| change(x, y)),
        );
    });
}

#[cfg(test)]
mod tests;
