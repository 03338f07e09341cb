//! Masked LayerNorm: statistics over the active units, each weighted by its mask.
//!
//! `mu = sum(c x)/sum(c)`, `var = sum(c (x-mu)^2)/sum(c)` (biased), `y = c ((x-mu)/sqrt(var+eps) weight + bias)`.
//! Sums run in a fixed order; a unit at `c = 0` is left out even where it holds NaN. [`plain`] is the chain
//! of dfdx operations; devices with a faster one override [`NormKernel::layer_norm`].

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub mod plain;

use crate::{
    axis::{Axis, EndsWith},
    error::{Error, Result, same_size, some_entries},
    float::Float,
    mask::Mask,
};
use dfdx::{
    shapes::HasShape,
    tensor::{Cpu, Tape, Tensor},
    tensor_ops::Device,
};

/// A device that computes the norm.
pub trait NormKernel<E: Float>: Device<E> {
    /// The norm of operands that [`masked_layer_norm`] has checked.
    fn layer_norm<A, S, T>(
        x: Tensor<S, E, Self, T>,
        weight: &Tensor<(A,), E, Self>,
        bias: &Tensor<(A,), E, Self>,
        mask: &Mask<A, E, Self>,
        eps: f64,
    ) -> Result<Tensor<S, E, Self, T>>
    where
        A: Axis,
        S: EndsWith<A>,
        T: Tape<E, Self>,
    {
        plain::layer_norm(x, weight, bias, mask, eps)
    }
}

impl NormKernel<f64> for Cpu {}

/// LayerNorm of every row of `x` over its last axis `A`. `eps` is added to the variance.
///
/// # Errors
/// Where `weight`, `bias` or the mask have another size than the axis, [`Error::Value`] where no unit has
/// a mask above 0 (nothing to take statistics of).
pub fn masked_layer_norm<A, S, E, D, T>(
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
    D: NormKernel<E>,
    T: Tape<E, D>,
{
    const OP: &str = "masked_layer_norm";
    let shape = *x.shape();
    let units = shape.last().size();
    same_size(OP, A::NAME, units, weight.shape().0.size())?;
    same_size(OP, A::NAME, units, bias.shape().0.size())?;
    some_entries("masked_layer_norm: number of inputs", &shape)?;
    mask.fits(&shape.last())?;
    some_unit(mask)?;
    D::layer_norm(x, weight, bias, mask, eps)
}

/// Refuses a mask without a unit above 0. A mask's values are never NaN (see [`Mask::new`]), so neither is
/// their sum.
pub(crate) fn some_unit<A: Axis, E: Float, D: Device<E>>(mask: &Mask<A, E, D>) -> Result<()> {
    match mask.total() {
        Some(total) if total <= E::of(0.0) => Err(Error::Value {
            what: "masked_layer_norm: sum of the mask",
            expected: "more than 0",
            got: total.to_f64().unwrap_or(f64::NAN),
        }),
        _ => Ok(()),
    }
}
