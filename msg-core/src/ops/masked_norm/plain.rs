//! The norm as a chain of dfdx operations: the reference of the faster ones.

use crate::{
    axis::{Axis, EndsWith},
    error::{Context, Result},
    float::Float,
    mask::Mask,
};
use dfdx::{
    shapes::HasShape,
    tensor::{Tape, Tensor},
    tensor_ops::{Device, TryAdd, TryDiv, TryMul, TrySub},
};

/// As [`masked_layer_norm`](super::masked_layer_norm), of operands that it has checked.
pub fn layer_norm<A, S, E, D, T>(
    x: Tensor<S, E, D, T>,
    weight: &Tensor<(A,), E, D>,
    bias: &Tensor<(A,), E, D>,
    mask: &Mask<A, E, D>,
    eps: f64,
) -> Result<Tensor<S, E, D, T>>
where
    A: Axis,
    S: EndsWith<A>,
    E: Float,
    D: Device<E>,
    T: Tape<E, D>,
{
    const OP: &str = "masked_layer_norm";
    let shape = *x.shape();
    // The mask's sum has the same order as the sums over units below.
    let total = mask.total().unwrap_or(E::of(shape.last().size() as f64));
    let x = mask.keep(x)?;
    let mean = S::sum_last(mask.apply(x.retaped::<T>())?).and_then(|sum| sum.try_div(total)).during(OP)?;
    let centred = x.try_sub(shape.broadcast_last(mean).during(OP)?).during(OP)?;
    let squares = mask.apply(centred.retaped::<T>().try_square().during(OP)?)?;
    let variance = S::sum_last(squares).and_then(|sum| sum.try_div(total)).during(OP)?;
    let std = variance.try_add(E::of(eps)).and_then(|v| v.try_sqrt()).during(OP)?;
    let normal = centred.try_div(shape.broadcast_last(std).during(OP)?).during(OP)?;
    let y = normal
        .try_mul(shape.broadcast_rows(weight.retaped::<T>()).during(OP)?)
        .and_then(|y| y.try_add(shape.broadcast_rows(bias.retaped::<T>())?))
        .during(OP)?;
    mask.apply(y)
}
