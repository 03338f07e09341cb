//! LayerNorm with gain and shift.

use super::zeros;
use dfdx::tensor::{Tape, Tensor};
use msg_core::{
    Backend, Result,
    axis::{Axis, EndsWith},
    mask::Mask,
    ops::{self, block::Pair},
    params::{Module, Param, ParamName, Role, Visitor},
};

/// LayerNorm over the axis `A`.
#[derive(Clone, Debug)]
pub struct LayerNorm<A: Axis, D: Backend> {
    /// Factor per unit.
    pub gain: Param<(A,), D>,
    /// Offset per unit.
    pub shift: Param<(A,), D>,
}

impl<A: Axis, D: Backend> LayerNorm<A, D> {
    /// A norm without values yet.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn new(device: &D, axis: A) -> Result<Self> {
        Ok(LayerNorm { gain: zeros(device, (axis,))?, shift: zeros(device, (axis,))? })
    }

    /// Gain and shift, shared.
    pub(crate) fn tensors(&self) -> Pair<(A,), (A,), D> {
        (self.gain.clone(), self.shift.clone())
    }

    /// Normalises every row of `x`.
    ///
    /// # Errors
    /// Where the sizes differ or the device fails.
    pub fn forward<S: EndsWith<A>, T: Tape<f32, D>>(
        &self,
        x: Tensor<S, f32, D, T>,
        mask: &Mask<A, f32, D>,
        eps: f64,
    ) -> Result<Tensor<S, f32, D, T>> {
        ops::masked_layer_norm(x, &self.gain, &self.shift, mask, eps)
    }
}

impl<A: Axis, D: Backend> Module<D> for LayerNorm<A, D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let LayerNorm { gain, shift } = self;
        visitor.visit(&at.join("weight"), Role::gain(), gain)?;
        visitor.visit(&at.join("bias"), Role::shift(), shift)
    }
}
