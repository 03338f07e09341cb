//! GELU in both forms, behind a mask: `gelu(c x)`.

mod cpu;

use crate::{
    axis::{Axis, EndsWith},
    error::{Context, Result},
    float::Float,
    mask::Mask,
};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{PutTape, SplitTape, Tape, Tensor},
    tensor_ops::{ChooseFrom, Device, ReshapeTo, TryAdd, TryDiv, TryMul, TryNe},
};
use serde::{Deserialize, Serialize};

/// Which form of GELU a model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gelu {
    /// `x Phi(x)` by the error function (BERT).
    Erf,
    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))` (GPT-2).
    Tanh,
}

/// `gelu(c x)` along the last axis.
///
/// # Errors
/// Where the mask has another size than the axis.
pub fn masked_gelu<A, S, E, D, T>(
    x: Tensor<S, E, D, T>,
    form: Gelu,
    mask: &Mask<A, E, D>,
) -> Result<Tensor<S, E, D, T>>
where
    A: Axis,
    S: EndsWith<A>,
    E: Float,
    D: Device<E>,
    T: Tape<E, D>,
{
    let x = mask.apply(x)?;
    match form {
        Gelu::Tanh => x.try_fast_gelu().during("gelu"),
        Gelu::Erf => gelu_erf(x).during("gelu"),
    }
}

/// dfdx 0.13 computes this form correctly, but not its derivative (`accurate_gelu` lacks the inner
/// derivative 1/sqrt(2) of erf(x/sqrt(2))). So the value is taken off the tape, and its gradient goes
/// to `x * slope` with the constant `slope = Phi(x) + x phi(x)` (value unused).
fn gelu_erf<S: Shape, E: Float, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<S, E, D, T>,
) -> Result<Tensor<S, E, D, T>, D::Err> {
    // Contiguous, so that the gradients of value and carrier have one layout.
    let (point, tape) = x.try_contiguous()?.split_tape();
    let value = point.clone().try_accurate_gelu()?;
    if !T::OWNS_TAPE {
        return Ok(value.put_tape(tape));
    }
    let half = point.device().try_ones_like(point.shape())?.try_mul(E::of(0.5))?;
    let cdf = point.try_ne(E::of(0.0))?.try_choose(value.clone().try_div(point.clone())?, half)?;
    let density = point.clone().try_square()?.try_mul(E::of(-0.5))?.try_exp()?;
    let density = density.try_mul(E::of(0.398_942_280_401_432_7))?; // 1/sqrt(2 pi)
    let slope = cdf.try_add(point.clone().try_mul(density)?)?;
    let (carrier, mut tape) = point.put_tape(tape).try_mul(slope)?.split_tape();
    let (carrier, result) = (carrier.ghost(), value.ghost());
    tape.add_backward_op(move |grads| {
        // The carrier has no other use, so its gradient is the value's.
        let gradient = grads.get_or_alloc_mut(&result)?.clone();
        *grads.get_or_alloc_mut(&carrier)? = gradient;
        Ok(())
    });
    Ok(value.put_tape(tape))
}
