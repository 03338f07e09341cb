//! GELU on host slices.

use super::Gelu;
use crate::{
    ops::elementary::{gelu_erf, gelu_tanh},
    simd::vectorized,
};
use rayon::prelude::*;

/// Entries of a parallel piece.
const PIECE: usize = 1 << 14;

impl Gelu {
    /// `y = gelu(z)`.
    pub(crate) fn forward(self, z: &[f32], y: &mut [f32]) {
        y.par_chunks_mut(PIECE).zip(z.par_chunks(PIECE)).for_each(|(y, z)| match self {
            Gelu::Tanh => vectorized(
                #[inline(always)]
                || y.iter_mut().zip(z).for_each(|(y, z)| *y = gelu_tanh(*z).0),
            ),
            Gelu::Erf => vectorized(
                #[inline(always)]
                || y.iter_mut().zip(z).for_each(|(y, z)| *y = gelu_erf(*z).0),
            ),
        });
    }

    /// Turns the gradient of `gelu(z)` into that of `z`.
    pub(crate) fn backward(self, z: &[f32], dy: &mut [f32]) {
        dy.par_chunks_mut(PIECE).zip(z.par_chunks(PIECE)).for_each(|(dy, z)| match self {
            Gelu::Tanh => vectorized(
                #[inline(always)]
                || dy.iter_mut().zip(z).for_each(|(dy, z)| *dy *= gelu_tanh(*z).1),
            ),
            Gelu::Erf => vectorized(
                #[inline(always)]
                || dy.iter_mut().zip(z).for_each(|(dy, z)| *dy *= gelu_erf(*z).1),
            ),
        });
    }
}
