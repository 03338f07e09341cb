//! Masks: one value per unit of an axis, raised from 0 to 1 after a growth and then dropped.
//!
//! [`Mask`] and [`Gate`] are what one forward pass sees: a mask's values on the device, or nothing once all units are
//! at 1. Which value a unit has at which step is decided elsewhere (see [`growth::Ramps`](crate::growth::Ramps)).

mod gate;
mod nodes;

pub use gate::Gate;
#[doc(hidden)]
pub use nodes::take_masked_nodes;

use crate::{
    axis::{Axis, EndsWith},
    error::{Context, Error, Result, same_size, some_entries},
    float::Float,
};
use dfdx::{
    shapes::HasShape,
    tensor::{Tape, Tensor},
    tensor_ops::{ChooseFrom, Device, TryMul, TryNe},
};
use nodes::count_masked_node;

/// The mask of one axis in one forward pass: its values, or nothing to do.
#[derive(Clone, Debug)]
pub struct Mask<A: Axis, E: Float, D: Device<E>> {
    values: Option<Tensor<(A,), E, D>>,
    /// Their sum in index order.
    total: E,
    /// Their sum in double precision, for devices whose sums over units have an order of their own.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "Cuda's norm reads it"))]
    wide_total: f64,
}

impl<A: Axis, E: Float, D: Device<E>> Mask<A, E, D> {
    /// No mask: the operation without it.
    pub fn none() -> Self {
        Mask { values: None, total: E::of(0.0), wide_total: 0.0 }
    }

    /// A mask with one value per unit.
    ///
    /// # Errors
    /// Where their number is not the axis' size, [`Error::Value`] for one outside 0 to 1.
    pub fn new(device: &D, axis: A, values: Vec<E>) -> Result<Self> {
        same_size("mask", A::NAME, axis.size(), values.len())?;
        let inside = |c: E| c >= E::of(0.0) && c <= E::of(1.0);
        if let Some(c) = values.iter().copied().find(|&c| !inside(c)) {
            let got = c.to_f64().unwrap_or(f64::NAN);
            return Err(Error::Value { what: "mask", expected: "0 <= c <= 1", got });
        }
        let total = values.iter().fold(E::of(0.0), |sum, &c| sum + c);
        let wide_total = values.iter().filter_map(|c| c.to_f64()).sum();
        let values = device.try_tensor_from_vec(values, (axis,)).during("mask")?;
        Ok(Mask { values: Some(values), total, wide_total })
    }

    /// The values, where there are any.
    pub fn values(&self) -> Option<&Tensor<(A,), E, D>> {
        self.values.as_ref()
    }

    /// The sum of the values, in index order; `None` where there is no mask.
    pub fn total(&self) -> Option<E> {
        self.values.as_ref().map(|_| self.total)
    }

    /// As [`Mask::total`], summed in double precision.
    #[cfg(feature = "cuda")]
    pub(crate) fn wide_total(&self) -> Option<f64> {
        self.values.as_ref().map(|_| self.wide_total)
    }

    /// Refuses a mask for another number of units.
    ///
    /// # Errors
    /// [`Error::Size`].
    pub(crate) fn fits(&self, axis: &A) -> Result<()> {
        match &self.values {
            Some(values) => same_size("mask", A::NAME, axis.size(), values.shape().0.size()),
            None => Ok(()),
        }
    }

    /// Counts the mask as acting, where there is one.
    pub(crate) fn count(&self) {
        if self.values.is_some() {
            count_masked_node();
        }
    }

    /// The same mask on another type of the same units.
    ///
    /// # Errors
    /// What `rename` refuses.
    pub fn renamed<B: Axis>(
        &self,
        rename: impl FnOnce(Tensor<(A,), E, D>) -> Result<Tensor<(B,), E, D>>,
    ) -> Result<Mask<B, E, D>> {
        let values = self.values.clone().map(rename).transpose()?;
        Ok(Mask { values, total: self.total, wide_total: self.wide_total })
    }

    /// `c * x` along the last axis. Units at exactly 0 are left out: whatever they hold, even NaN, gives 0.
    ///
    /// # Errors
    /// Where the sizes differ.
    pub fn apply<S: EndsWith<A>, T: Tape<E, D>>(&self, x: Tensor<S, E, D, T>) -> Result<Tensor<S, E, D, T>> {
        let Some(values) = &self.values else { return Ok(x) };
        let x = self.keep(x)?;
        count_masked_node();
        let c = x.shape().broadcast_rows(values.clone()).during("mask")?;
        x.try_mul(c).during("mask")
    }

    /// `x` where `c` is not 0, and 0 where it is.
    ///
    /// # Errors
    /// Where the sizes differ.
    pub fn keep<S: EndsWith<A>, T: Tape<E, D>>(&self, x: Tensor<S, E, D, T>) -> Result<Tensor<S, E, D, T>> {
        let Some(values) = &self.values else { return Ok(x) };
        some_entries("mask: number of inputs", x.shape())?;
        same_size("mask", A::NAME, x.shape().last().size(), values.shape().0.size())?;
        let shape = *x.shape();
        let c = shape.broadcast_rows(values.clone()).during("mask")?;
        let zeros = x.device().try_zeros_like(&shape).during("mask")?;
        c.try_ne(E::of(0.0)).and_then(|kept| kept.try_choose(x, zeros)).during("mask")
    }
}
