//! A linear map with bias.

use crate::layers::zeros::zeros;
use dfdx::tensor::{Tape, Tensor};
use msg_core::{
    Backend,
    axis::{Axis, EndsWith},
    error::Result,
    ops::{self, block::Pair},
    params::{Module, Param, ParamName, Role, Visitor},
};

/// `y = x W^T + b` from the axis `I` to the axis `O`.
#[derive(Clone, Debug)]
pub struct Linear<I: Axis, O: Axis, D: Backend> {
    /// (outputs, inputs).
    pub weight: Param<(O, I), D>,
    /// One entry per output.
    pub bias: Param<(O,), D>,
}

impl<I: Axis, O: Axis, D: Backend> Linear<I, O, D> {
    /// A map whose entries are all 0.
    pub fn new(device: &D, inputs: I, outputs: O) -> Result<Self> {
        Ok(Linear { weight: zeros(device, (outputs, inputs))?, bias: zeros(device, (outputs,))? })
    }

    /// Maps the last axis of `x`.
    ///
    /// # Errors
    /// Where the sizes differ.
    pub fn forward<S: EndsWith<I>, T: Tape<f32, D>>(
        &self,
        x: Tensor<S, f32, D, T>,
    ) -> Result<Tensor<S::With<O>, f32, D, T>> {
        ops::linear(x, self.weight.retaped(), Some(self.bias.retaped()))
    }

    /// Weight and bias, shared.
    pub(crate) fn tensors(&self) -> Pair<(O, I), (O,), D> {
        (self.weight.clone(), self.bias.clone())
    }

    /// As [`Module::walk`], with the weight's normal entries scaled (see [`Role::scaled`]).
    pub(crate) fn walk_scaled<V: Visitor<D>>(
        &mut self,
        at: &ParamName,
        scale: f32,
        visitor: &mut V,
    ) -> Result<()> {
        let Linear { weight, bias } = self;
        visitor.visit(&at.join("weight"), Role::weight().scaled(scale), weight)?;
        visitor.visit(&at.join("bias"), Role::bias(), bias)
    }
}

impl<I: Axis, O: Axis, D: Backend> Module<D> for Linear<I, O, D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        self.walk_scaled(at, 1.0, visitor)
    }
}
