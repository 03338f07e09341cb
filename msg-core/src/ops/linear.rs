//! A linear map: `y = x W^T + b`.

use super::matmul::Matmul;
use crate::{
    axis::{Axis, EndsWith},
    error::{Context, Result, same_size, some_entries},
    float::Float,
};
use dfdx::{
    shapes::HasShape,
    tensor::{Tape, Tensor},
    tensor_ops::TryAdd,
};

/// Maps the last axis `I` of `x` to `O` by `weight` (outputs, inputs), and adds `bias` where there is one.
///
/// The tensors' tapes are merged into the result's. A weight may carry a tape (a selected part of a
/// larger tensor) or none (a parameter).
///
/// # Errors
/// Where the sizes differ, or there are no inputs or outputs.
pub fn linear<S, I, O, E, D, T>(
    x: Tensor<S, E, D, T>,
    weight: Tensor<(O, I), E, D, T>,
    bias: Option<Tensor<(O,), E, D, T>>,
) -> Result<Tensor<S::With<O>, E, D, T>>
where
    I: Axis,
    O: Axis,
    S: EndsWith<I>,
    E: Float,
    D: Matmul<E>,
    T: Tape<E, D>,
{
    let (outputs, inputs) = *weight.shape();
    same_size("linear", I::NAME, inputs.size(), x.shape().last().size())?;
    some_entries("linear: number of inputs", x.shape())?;
    some_entries("linear: number of weights", weight.shape())?;
    let y = <D as Matmul<E>>::linear(x, weight)?;
    let Some(bias) = bias else { return Ok(y) };
    same_size("linear", O::NAME, outputs.size(), bias.shape().0.size())?;
    let bias = y.shape().broadcast_rows(bias).during("linear")?;
    y.try_add(bias).during("linear")
}
