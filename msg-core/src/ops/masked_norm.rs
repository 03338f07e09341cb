//! Masked LayerNorm: statistics over the units that are there, each counted by its mask.
//!
//! `mu = sum(c x)/sum(c)`, `var = sum(c (x-mu)^2)/sum(c)` (biased), `y = c ((x-mu)/sqrt(var+eps) gain + shift)`.
//! Sums run in index order; a unit at `c = 0` is left out even where it holds NaN.

use crate::{
    axis::{Axis, EndsWith},
    device::{Float, Kernels},
    error::{Context, Error, Result, same_size, some_entries},
    mask::Mask,
};
use dfdx::{
    shapes::HasShape,
    tensor::{Tape, Tensor},
    tensor_ops::{TryAdd, TryDiv, TryMul, TrySub},
};

/// LayerNorm of every row of `x` over its last axis `A`. `eps` is added to the variance.
///
/// # Errors
/// Where `gain`, `shift` or the mask have another size than the axis, [`Error::Value`] where no unit has
/// a mask above 0 (nothing to take statistics of), or where the device fails.
pub fn masked_layer_norm<A, S, E, D, T>(
    x: Tensor<S, E, D, T>,
    gain: &Tensor<(A,), E, D>,
    shift: &Tensor<(A,), E, D>,
    mask: &Mask<A, E, D>,
    eps: f64,
) -> Result<Tensor<S, E, D, T>>
where
    A: Axis,
    S: EndsWith<A>,
    E: Float,
    D: Kernels<E>,
    T: Tape<E, D>,
{
    const OP: &str = "masked_layer_norm";
    let shape = *x.shape();
    let units = shape.last().size();
    same_size(OP, A::NAME, units, gain.shape().0.size())?;
    same_size(OP, A::NAME, units, shift.shape().0.size())?;
    some_entries("masked_layer_norm: number of inputs", &shape)?;
    // The mask's sum has the same order as the sums over units below. Its values are never NaN (see
    // `Mask::new`), so neither is their sum.
    let total = mask.total().unwrap_or(E::of(units as f64));
    if mask.total().is_some() && total <= E::of(0.0) {
        let got = total.to_f64().unwrap_or(f64::NAN);
        return Err(Error::Value {
            what: "masked_layer_norm: sum of the mask",
            expected: "more than 0",
            got,
        });
    }
    let x = mask.keep(x)?;
    let mean = S::sum_last(mask.apply(x.retaped::<T>())?).and_then(|sum| sum.try_div(total)).during(OP)?;
    let centred = x.try_sub(shape.stretch(mean).during(OP)?).during(OP)?;
    let squares = mask.apply(centred.retaped::<T>().try_square().during(OP)?)?;
    let variance = S::sum_last(squares).and_then(|sum| sum.try_div(total)).during(OP)?;
    let std = variance.try_add(E::of(eps)).and_then(|v| v.try_sqrt()).during(OP)?;
    let normal = centred.try_div(shape.stretch(std).during(OP)?).during(OP)?;
    let y = normal
        .try_mul(shape.repeat(gain.retaped::<T>()).during(OP)?)
        .and_then(|y| y.try_add(shape.repeat(shift.retaped::<T>())?))
        .during(OP)?;
    mask.apply(y)
}
