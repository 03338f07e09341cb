//! GELU on host slices.

use super::Gelu;
use crate::{
    device::stored::Stored,
    ops::elementary::{gelu_erf, gelu_tanh},
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

    /// Turns the gradient of `gelu(z)` into that of `z`.
    pub(crate) fn backward<E: Stored>(self, z: &[E], dy: &mut [E]) {
        dy.par_chunks_mut(PIECE).zip(z.par_chunks(PIECE)).for_each(|(dy, z)| match self {
            Gelu::Tanh => vectorized(
                #[inline(always)]
                || dy.iter_mut().zip(z).for_each(|(dy, z)| *dy = E::of(dy.get() * gelu_tanh(z.get()).1)),
            ),
            Gelu::Erf => vectorized(
                #[inline(always)]
                || dy.iter_mut().zip(z).for_each(|(dy, z)| *dy = E::of(dy.get() * gelu_erf(z.get()).1)),
            ),
        });
    }
}
