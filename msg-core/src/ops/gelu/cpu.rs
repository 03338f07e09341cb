//! GELU on host slices.

use super::Gelu;
use crate::{
    float::Stored,
    ops::math::{gelu_erf, gelu_tanh},
    simd::vectorized,
};
use rayon::prelude::*;

/// Entries of a parallel piece.
const PIECE: usize = 1 << 14;

impl Gelu {
    /// `y = gelu(z)`.
    pub(crate) fn forward<E: Stored>(self, z: &[E], y: &mut [E]) {
        y.par_chunks_mut(PIECE).zip(z.par_chunks(PIECE)).for_each(|(y, z)| match self {
            Gelu::Tanh => vectorized(
                #[inline(always)]
                || y.iter_mut().zip(z).for_each(|(y, z)| *y = E::of(gelu_tanh(z.get()).0)),
            ),
            Gelu::Erf => vectorized(
                #[inline(always)]
                || y.iter_mut().zip(z).for_each(|(y, z)| *y = E::of(gelu_erf(z.get()).0)),
            ),
        });
    }

    /// Turns the gradient of `gelu(z)` into that of `z`, and makes `y = gelu(z)` again.
    pub(crate) fn backward<E: Stored>(self, z: &[E], y: &mut [E], dy: &mut [E]) {
        let pieces = dy.par_chunks_mut(PIECE).zip(y.par_chunks_mut(PIECE)).zip(z.par_chunks(PIECE));
        pieces.for_each(|((dy, y), z)| match self {
            Gelu::Tanh => vectorized(
                #[inline(always)]
                || back(z, y, dy, gelu_tanh),
            ),
            Gelu::Erf => vectorized(
                #[inline(always)]
                || back(z, y, dy, gelu_erf),
            ),
        });
    }
}

#[inline(always)]
fn back<E: Stored>(z: &[E], y: &mut [E], dy: &mut [E], gelu: impl Fn(f32) -> (f32, f32)) {
    for ((dy, y), z) in dy.iter_mut().zip(y).zip(z) {
        let (value, slope) = gelu(z.get());
        *y = E::of(value);
        *dy = E::of(dy.get() * slope);
    }
}
