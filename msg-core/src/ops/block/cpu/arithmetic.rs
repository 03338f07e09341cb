//! The products of a block in each precision. Rows of activations are stored as the type itself.

use crate::{
    device::buffers::Buffer,
    float::Stored,
    ops::{
        attention::cpu::Attend,
        matmul::{
            gemm::{Matrix, Mode, Size, gemm},
            mixed::{self, Accumulate, Output, Overwrite},
        },
        rows::{PIECE, bias_and_mask},
    },
    simd::vectorized,
};
use half::bf16;
use rayon::prelude::*;
use std::ops::Deref;

/// What a linear map adds to and multiplies its outputs by.
#[derive(Clone, Copy)]
pub(super) struct BiasAndMask<'a> {
    pub(super) bias: &'a [f32],
    pub(super) mask: Option<&'a [f32]>,
}

/// Activations of this precision, and the maps between them. Weights are (outputs, inputs), in f32.
pub(super) trait Arithmetic: Attend {
    /// Rows of the residual stream as operands.
    type Operand<'a>: Deref<Target = [Self]>;

    /// Rounds rows of the residual stream.
    fn operand(x: &[f32]) -> Self::Operand<'_>;

    /// `y = c (x W^T + b)`.
    fn linear(x: &[Self], weight: &[f32], to: BiasAndMask<'_>, y: &mut [Self]);

    /// `y = x W^T`, to the residual stream.
    fn to_stream(x: &[Self], weight: &[f32], y: &mut [f32], outputs: usize);

    /// `dx = dy W`.
    fn back_to_inputs(dy: &[Self], weight: &[f32], dx: &mut [Self], outputs: usize);

    /// `dW += dy^T x`.
    fn back_to_weight(x: &[Self], dy: &[Self], dw: &mut [f32], outputs: usize);
}

/// The size of `y = x W^T`, for any of the three.
fn size(x: usize, weight: usize, outputs: usize) -> Size {
    let inputs = weight / outputs;
    Size { m: x / inputs, n: outputs, k: inputs }
}

impl Arithmetic for f32 {
    type Operand<'a> = &'a [f32];

    fn operand(x: &[f32]) -> &[f32] {
        x
    }

    fn linear(x: &[f32], weight: &[f32], to: BiasAndMask<'_>, y: &mut [f32]) {
        Self::to_stream(x, weight, y, to.bias.len());
        bias_and_mask(y, to.bias, to.mask);
    }

    fn to_stream(x: &[f32], weight: &[f32], y: &mut [f32], outputs: usize) {
        let size = size(x.len(), weight.len(), outputs);
        let weight = Matrix::row_major(weight, size.k).transposed();
        gemm(size, Matrix::row_major(x, size.k), weight, y, Mode::Overwrite);
    }

    fn back_to_inputs(dy: &[f32], weight: &[f32], dx: &mut [f32], outputs: usize) {
        let inputs = weight.len() / outputs;
        let size = Size { m: dy.len() / outputs, n: inputs, k: outputs };
        let (dy, weight) = (Matrix::row_major(dy, outputs), Matrix::row_major(weight, inputs));
        gemm(size, dy, weight, dx, Mode::Overwrite);
    }

    fn back_to_weight(x: &[f32], dy: &[f32], dw: &mut [f32], outputs: usize) {
        let inputs = dw.len() / outputs;
        let size = Size { m: outputs, n: inputs, k: dy.len() / outputs };
        let dy = Matrix::row_major(dy, outputs).transposed();
        gemm(size, dy, Matrix::row_major(x, inputs), dw, Mode::Accumulate);
    }
}

/// `y = c (A B + b)`.
struct Activations<'y, 'a> {
    y: &'y mut [bf16],
    to: BiasAndMask<'a>,
}

impl Output for Activations<'_, '_> {
    fn split(self, rows: usize) -> (Self, Self) {
        let (first, rest) = self.y.split_at_mut(rows * self.to.bias.len());
        (Activations { y: first, ..self }, Activations { y: rest, ..self })
    }

    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, elements: &[f32]) {
        let BiasAndMask { bias, mask } = self.to;
        let y = &mut self.y[row * bias.len() + column..][..elements.len()];
        let bias = &bias[column..][..elements.len()];
        let sums = y.iter_mut().zip(elements.iter().zip(bias));
        match mask {
            None => sums.for_each(|(y, (x, b))| *y = bf16::of(x + b)),
            Some(mask) => sums.zip(&mask[column..]).for_each(|((y, (x, b)), c)| {
                *y = bf16::of(if *c == 0.0 { 0.0 } else { c * (x + b) });
            }),
        }
    }
}

impl Arithmetic for bf16 {
    type Operand<'a> = Buffer<bf16>;

    fn operand(x: &[f32]) -> Buffer<bf16> {
        let mut y = Buffer::of(x.len());
        y.par_chunks_mut(PIECE).zip(x.par_chunks(PIECE)).for_each(|(y, x): (&mut [bf16], &[f32])| {
            vectorized(
                #[inline(always)]
                || y.iter_mut().zip(x).for_each(|(y, x)| *y = bf16::of(*x)),
            );
        });
        y
    }

    fn linear(x: &[bf16], weight: &[f32], to: BiasAndMask<'_>, y: &mut [bf16]) {
        let size = size(x.len(), weight.len(), to.bias.len());
        let weight = Matrix::row_major(weight, size.k).transposed();
        mixed::product(size, Matrix::row_major(x, size.k), weight, Activations { y, to });
    }

    fn to_stream(x: &[bf16], weight: &[f32], y: &mut [f32], outputs: usize) {
        let size = size(x.len(), weight.len(), outputs);
        let weight = Matrix::row_major(weight, size.k).transposed();
        mixed::product(size, Matrix::row_major(x, size.k), weight, Overwrite { c: y, columns: size.n });
    }

    fn back_to_inputs(dy: &[bf16], weight: &[f32], dx: &mut [bf16], outputs: usize) {
        let inputs = weight.len() / outputs;
        let size = Size { m: dy.len() / outputs, n: inputs, k: outputs };
        let (dy, weight) = (Matrix::row_major(dy, outputs), Matrix::row_major(weight, inputs));
        mixed::product(size, dy, weight, Overwrite { c: dx, columns: inputs });
    }

    fn back_to_weight(x: &[bf16], dy: &[bf16], dw: &mut [f32], outputs: usize) {
        let inputs = dw.len() / outputs;
        let size = Size { m: outputs, n: inputs, k: dy.len() / outputs };
        let dy = Matrix::row_major(dy, outputs).transposed();
        mixed::product(size, dy, Matrix::row_major(x, inputs), Accumulate { c: dw, columns: inputs });
    }
}
