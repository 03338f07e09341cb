//! The gate of a layer: one number for all of its units.

use super::nodes::count_masked_node;
use crate::{
    error::{Context, Result, same_shape},
    float::Float,
};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Tape, Tensor},
    tensor_ops::{Device, TryAdd, TryMul},
};

/// The gate of a layer: 0 leaves it out, 1 is the layer itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate(f32);

impl Gate {
    /// The layer itself.
    pub const OPEN: Gate = Gate(1.0);

    /// A gate at `value`.
    pub fn new(value: f32) -> Self {
        Gate(value)
    }

    /// Its value.
    pub fn value(self) -> f32 {
        self.0
    }

    /// Whether the gate is at 1.
    pub fn is_open(self) -> bool {
        self.0 == 1.0
    }

    /// Whether the layer is left out altogether.
    pub fn is_closed(self) -> bool {
        self.0 == 0.0
    }

    /// Counts the gate as acting, unless it is open.
    pub(crate) fn count(self) {
        if !self.is_open() {
            count_masked_node();
        }
    }

    /// A residual branch of a new layer: `x + m f(x)`. At 0, `f` is not computed.
    ///
    /// # Errors
    /// What the branch refuses.
    pub fn branch<S, E, D, T>(
        self,
        x: Tensor<S, E, D, T>,
        f: impl FnOnce(Tensor<S, E, D, T>) -> Result<Tensor<S, E, D, T>>,
    ) -> Result<Tensor<S, E, D, T>>
    where
        S: Shape,
        E: Float,
        D: Device<E>,
        T: Tape<E, D>,
    {
        if self.is_closed() {
            count_masked_node();
            return Ok(x);
        }
        let branch = f(x.retaped::<T>())?;
        same_shape("gate", x.shape(), branch.shape())?;
        let branch = self.scale(branch)?;
        // Left operand first: x carries the tape of all that came before.
        x.try_add(branch).during("gate")
    }

    /// A whole new layer: `m f(x) + (1 - m) x`. At 0, `f` is not computed.
    ///
    /// # Errors
    /// What the layer refuses.
    pub fn blend<S, E, D, T>(
        self,
        x: Tensor<S, E, D, T>,
        f: impl FnOnce(Tensor<S, E, D, T>) -> Result<Tensor<S, E, D, T>>,
    ) -> Result<Tensor<S, E, D, T>>
    where
        S: Shape,
        E: Float,
        D: Device<E>,
        T: Tape<E, D>,
    {
        if self.is_open() {
            return f(x);
        }
        if self.is_closed() {
            count_masked_node();
            return Ok(x);
        }
        let layer = f(x.retaped::<T>())?;
        same_shape("gate", x.shape(), layer.shape())?;
        let layer = self.scale(layer)?;
        let rest = x.try_mul(E::of(f64::from(1.0 - self.0))).during("gate")?;
        rest.try_add(layer).during("gate")
    }

    fn scale<S, E, D, T>(self, branch: Tensor<S, E, D, T>) -> Result<Tensor<S, E, D, T>>
    where
        S: Shape,
        E: Float,
        D: Device<E>,
        T: Tape<E, D>,
    {
        if self.is_open() {
            return Ok(branch);
        }
        count_masked_node();
        branch.try_mul(E::of(f64::from(self.0))).during("gate")
    }
}
