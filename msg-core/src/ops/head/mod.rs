//! The head with its loss: logits over a table, and their cross-entropy.
//!
//! One operation, so that a device need not hold the logits of all rows at once.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::{
    axis::{Axis, EndsWith},
    error::{Result, same_shape, same_size, some_entries},
    ops::{
        compute::{Precision, rounded},
        cross_entropy::{Labels, cross_entropy},
        linear::linear,
        matmul::Matmul,
    },
    params::Param,
};
use dfdx::{
    shapes::{HasShape, ReduceShapeTo, RemoveDimTo, Shape},
    tensor::{Tape, Tensor},
};

/// Logits that the Cpu holds at once, in numbers: 64 MB, unless a block of rows has more.
pub const LOGITS_ON_CPU: usize = 1 << 24;
/// Logits that a GPU holds at once, in numbers: 256 MB, unless one row has more.
pub const LOGITS_ON_GPU: usize = 1 << 26;

/// A device that computes a head's loss.
pub trait HeadKernel: Matmul<f32> {
    /// Logits held at once, in numbers, for plans of memory.
    const LOGITS: usize;

    /// The loss of operands that [`head_loss`] has checked.
    fn head_loss<A, H, S, T>(
        x: Tensor<S, f32, Self, T>,
        table: &Param<(A, H), Self>,
        bias: Option<&Param<(A,), Self>>,
        labels: &Labels<A, S::Rest, f32, Self>,
        divisor: usize,
        precision: Precision,
    ) -> Result<Tensor<(), f32, Self, T>>
    where
        A: Axis,
        H: Axis,
        S: EndsWith<H>,
        S::With<A>: RemoveDimTo<S::Rest, S::Rest>,
        S::Rest: ReduceShapeTo<(), <S::Rest as Shape>::AllAxes>,
        T: Tape<f32, Self>,
    {
        plain(x, table, bias, labels, divisor, precision)
    }
}

/// The cross-entropy of `x table^T + bias`, by the device's fastest implementation: the sum over counted labels,
/// divided by `divisor` (see [`cross_entropy()`]).
///
/// # Errors
/// Where the sizes differ.
pub fn head_loss<A, H, S, D, T>(
    x: Tensor<S, f32, D, T>,
    table: &Param<(A, H), D>,
    bias: Option<&Param<(A,), D>>,
    labels: &Labels<A, S::Rest, f32, D>,
    divisor: usize,
    precision: Precision,
) -> Result<Tensor<(), f32, D, T>>
where
    A: Axis,
    H: Axis,
    S: EndsWith<H>,
    S::With<A>: RemoveDimTo<S::Rest, S::Rest>,
    S::Rest: ReduceShapeTo<(), <S::Rest as Shape>::AllAxes>,
    D: HeadKernel,
    T: Tape<f32, D>,
{
    const OP: &str = "head";
    let (classes, inputs) = *table.shape();
    some_entries("head: number of inputs", x.shape())?;
    same_size(OP, H::NAME, inputs.size(), x.shape().last().size())?;
    same_size(OP, A::NAME, classes.size(), labels.classes().size())?;
    if let Some(bias) = bias {
        same_size(OP, A::NAME, classes.size(), bias.shape().0.size())?;
    }
    same_shape(OP, &x.shape().rest(), labels.shape())?;
    D::head_loss(x, table, bias, labels, divisor, precision)
}

/// The loss as a chain of operations: the reference.
///
/// # Errors
/// As [`head_loss`].
pub fn plain<A, H, S, D, T>(
    x: Tensor<S, f32, D, T>,
    table: &Param<(A, H), D>,
    bias: Option<&Param<(A,), D>>,
    labels: &Labels<A, S::Rest, f32, D>,
    divisor: usize,
    precision: Precision,
) -> Result<Tensor<(), f32, D, T>>
where
    A: Axis,
    H: Axis,
    S: EndsWith<H>,
    S::With<A>: RemoveDimTo<S::Rest, S::Rest>,
    S::Rest: ReduceShapeTo<(), <S::Rest as Shape>::AllAxes>,
    D: Matmul<f32>,
    T: Tape<f32, D>,
{
    cross_entropy(head_logits(x, table, bias, precision)?, labels, divisor)
}

/// The logits `x table^T + bias`.
///
/// # Errors
/// Where the sizes differ.
pub fn head_logits<A, H, S, D, T>(
    x: Tensor<S, f32, D, T>,
    table: &Param<(A, H), D>,
    bias: Option<&Param<(A,), D>>,
    precision: Precision,
) -> Result<Tensor<S::With<A>, f32, D, T>>
where
    A: Axis,
    H: Axis,
    S: EndsWith<H>,
    D: Matmul<f32>,
    T: Tape<f32, D>,
{
    let (x, table) = (rounded(x, precision)?, rounded(table.retaped::<T>(), precision)?);
    linear(x, table, bias.map(|bias| bias.retaped()))
}
