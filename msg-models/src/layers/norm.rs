//! LayerNorm with weight and bias.

use crate::layers::zeros::zeros;
use dfdx::tensor::{Tape, Tensor};
use msg_core::{
    Backend,
    axis::{Axis, EndsWith},
    error::{Error, Result},
    mask::Mask,
    ops::{self, block::Pair},
    params::{Module, Param, ParamName, Role, Visitor},
};

/// LayerNorm over the axis `A`.
#[derive(Clone, Debug)]
pub struct LayerNorm<A: Axis, D: Backend> {
    /// Factor per unit.
    pub weight: Param<(A,), D>,
    /// Offset per unit.
    pub bias: Param<(A,), D>,
}

impl<A: Axis, D: Backend> LayerNorm<A, D> {
    /// A norm without values yet.
    pub fn new(device: &D, axis: A) -> Result<Self> {
        Ok(LayerNorm { weight: zeros(device, (axis,))?, bias: zeros(device, (axis,))? })
    }

    /// Weight and bias, shared.
    pub(crate) fn tensors(&self) -> Pair<(A,), (A,), D> {
        (self.weight.clone(), self.bias.clone())
    }

    /// Normalises every row of `x`.
    ///
    /// # Errors
    /// Where the sizes differ.
    pub fn forward<S: EndsWith<A>, T: Tape<f32, D>>(
        &self,
        x: Tensor<S, f32, D, T>,
        mask: &Mask<A, f32, D>,
        eps: f64,
    ) -> Result<Tensor<S, f32, D, T>> {
        ops::masked_layer_norm(x, &self.weight, &self.bias, mask, eps)
    }
}

/// Refuses a number that cannot be added to the variance.
///
/// # Errors
/// [`Error::Value`] unless it is positive and finite.
pub(crate) fn check_eps(eps: f64) -> Result<()> {
    if eps > 0.0 && eps.is_finite() {
        return Ok(());
    }
    Err(Error::Value { what: "eps", expected: "a positive number", got: eps })
}

impl<A: Axis, D: Backend> Module<D> for LayerNorm<A, D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let LayerNorm { weight, bias } = self;
        visitor.visit(&at.join("weight"), Role::norm_weight(), weight)?;
        visitor.visit(&at.join("bias"), Role::norm_bias(), bias)
    }
}
