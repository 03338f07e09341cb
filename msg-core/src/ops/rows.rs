//! Small passes over matrices of rows on the host: biases with masks, residuals, sums over rows.

use super::masked_norm::cpu::{ROWS, add};
use crate::{device::buffers::Buffer, float::Stored, simd::vectorized};
use rayon::prelude::*;

/// `y = c (y + b)` for every row; a unit whose mask is 0 becomes 0 whatever it holds.
pub(crate) fn bias_and_mask<E: Stored>(y: &mut [E], bias: &[f32], mask: Option<&[f32]>) {
    y.par_chunks_mut(ROWS * bias.len()).for_each(|y| {
        vectorized(
            #[inline(always)]
            || {
                for y in y.chunks_exact_mut(bias.len()) {
                    match mask {
                        None => y.iter_mut().zip(bias).for_each(|(y, b)| *y = E::of(y.get() + b)),
                        Some(c) => y.iter_mut().zip(bias).zip(c).for_each(|((y, b), c)| {
                            *y = E::of(if *c == 0.0 { 0.0 } else { c * (y.get() + b) });
                        }),
                    }
                }
            },
        );
    });
}

/// The way back through a mask: `dy = c dy`, 0 where the mask is.
pub(crate) fn mask_rows<E: Stored>(dy: &mut [E], mask: Option<&[f32]>) {
    let Some(c) = mask else { return };
    dy.par_chunks_mut(ROWS * c.len()).for_each(|dy| {
        vectorized(
            #[inline(always)]
            || {
                for dy in dy.chunks_exact_mut(c.len()) {
                    dy.iter_mut()
                        .zip(c)
                        .for_each(|(dy, c)| *dy = E::of(if *c == 0.0 { 0.0 } else { c * dy.get() }));
                }
            },
        );
    });
}

/// Adds the sum of the rows of `x` to `into`, in a fixed order.
pub(crate) fn add_row_sums<E: Stored>(x: &[E], into: &mut [f32]) {
    let units = into.len();
    let mut partial = Buffer::<f32>::zeros((x.len() / units).div_ceil(ROWS) * units);
    partial.par_chunks_mut(units).zip(x.par_chunks(ROWS * units)).for_each(|(partial, x)| {
        vectorized(
            #[inline(always)]
            || {
                for x in x.chunks_exact(units) {
                    partial.iter_mut().zip(x).for_each(|(sum, x)| *sum += x.get());
                }
            },
        );
    });
    partial.chunks_exact(units).for_each(|partial| add(into, partial));
}

/// Pieces of equal length for passes whose entries do not know their row.
pub(crate) const PIECE: usize = 1 << 14;

/// `y += x`.
pub(crate) fn accumulate(y: &mut [f32], x: &[f32]) {
    combine(y, x, |y, x| y + x);
}

/// `y += factor x`, each sum with one rounding.
pub(crate) fn accumulate_scaled(y: &mut [f32], factor: f32, x: &[f32]) {
    combine(y, x, |y, x| factor.mul_add(x, y));
}

/// `y = f(y, x)` entry by entry, in parallel.
pub(crate) fn combine<E: Stored>(y: &mut [f32], x: &[E], f: impl Fn(f32, f32) -> f32 + Sync) {
    y.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).for_each(|(y, x)| {
        vectorized(
            #[inline(always)]
            || y.iter_mut().zip(x).for_each(|(y, x)| *y = f(*y, x.get())),
        );
    });
}
