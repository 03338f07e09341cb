//! Matrix products as autograd nodes of our own, because growth rests on their order of summation.
//!
//! Contract on the Cpu (see [`gemm`]): every output element is the same function of its row and column,
//! accumulated in k order in blocks of a fixed length that start at k = 0, whatever the other sizes, a
//! tail of zeros, the strides and the number of threads. dfdx's own product breaks this (it re-blocks
//! and changes kernels with the sizes). On Cuda the products are cuBLAS', equal up to rounding.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub mod gemm;
pub(crate) mod mixed;

use crate::{
    axis::{Axis, Batch, EndsWith, HeadDim, Heads, Key, Query},
    error::Result,
    float::Float,
};
use dfdx::{
    tensor::{Tape, Tensor},
    tensor_ops::Device,
};

/// `C = A B` for operands rounded to bf16, summed in f32: the product that blocks take in
/// [`Precision::Bf16`](crate::ops::compute::Precision).
///
/// # Panics
/// If an operand's slice is too short for its extent and strides, or `c` is not `m * n` long.
pub fn gemm_rounded(size: gemm::Size, a: gemm::Matrix<f32>, b: gemm::Matrix<f32>, c: &mut [f32]) {
    assert!(c.len() == size.m * size.n, "gemm_rounded: c has {} elements for {size:?}", c.len());
    mixed::product(size, a, b, mixed::Overwrite { c, columns: size.n });
}

/// The products that models are made of. Sizes are checked by the callers in [`crate::ops`].
pub trait Matmul<E: Float>: Device<E> {
    /// `x W^T` for every row of `x`.
    fn linear<S, I, O, T>(
        x: Tensor<S, E, Self, T>,
        weight: Tensor<(O, I), E, Self, T>,
    ) -> Result<Tensor<S::With<O>, E, Self, T>>
    where
        I: Axis,
        O: Axis,
        S: EndsWith<I>,
        T: Tape<E, Self>;

    /// `q k^T` for every head.
    fn scores<T: Tape<E, Self>>(
        query: Tensor<(Batch, Heads, Query, HeadDim), E, Self, T>,
        key: Tensor<(Batch, Heads, Key, HeadDim), E, Self, T>,
    ) -> Result<Tensor<(Batch, Heads, Query, Key), E, Self, T>>;

    /// `p v` for every head.
    fn weighted_values<T: Tape<E, Self>>(
        probabilities: Tensor<(Batch, Heads, Query, Key), E, Self, T>,
        value: Tensor<(Batch, Heads, Key, HeadDim), E, Self, T>,
    ) -> Result<Tensor<(Batch, Heads, Query, HeadDim), E, Self, T>>;
}
