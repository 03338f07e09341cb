//! Masks: one value per unit of an axis, raised from 0 to 1 after a growth and then gone.
//!
//! [`Ramps`] is the book-keeping of a module: which unit and which layer is still on which [`Ramp`].
//! It is plain data, a pure function of the step, and it grows with the module. [`Mask`] is what one
//! forward pass sees: the values on the device, or nothing once all units are at 1.

use crate::{
    axis::{Axis, AxisInfo, EndsWith},
    device::{Float, Kernels},
    error::{Context, Error, Result, same_shape, same_size, some_entries},
    growth::Growth,
};
use dfdx::{
    shapes::HasShape,
    tensor::{Tape, Tensor},
    tensor_ops::{ChooseFrom, TryMul, TryNe},
};
use serde::{Deserialize, Serialize};
use std::{cell::Cell, collections::BTreeMap};

/// A linear rise from 0 to 1 over `length` optimizer steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ramp {
    /// Optimizer steps made before the growth. Negative where an earlier run made it: this run's step 0
    /// then stands inside the ramp.
    pub start: i64,
    /// Steps until the value is 1.
    pub length: u64,
}

impl Ramp {
    /// The value in the optimizer step `step` (counted from 1); at `step == start`, the moment of
    /// growth itself, it is 0. A ramp of length 0 is 1 from the first step on.
    pub fn value(&self, step: u64) -> f32 {
        let since = self.since(step);
        match since {
            0 => 0.0,
            _ if since >= self.length => 1.0,
            _ => (since as f64 / self.length as f64) as f32,
        }
    }

    /// Whether the value is 1 from the step after `step` on.
    pub fn is_over(&self, step: u64) -> bool {
        self.since(step) >= self.length
    }

    /// Steps made on the ramp.
    fn since(&self, step: u64) -> u64 {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        step.saturating_sub(self.start).max(0).unsigned_abs()
    }
}

/// The ramps that a module's units and layers are on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ramps {
    axes: BTreeMap<String, Vec<Option<Ramp>>>,
    layers: Vec<Option<Ramp>>,
}

impl Ramps {
    /// Carries the book over a growth: old units keep their ramps, new ones start `ramp`.
    pub fn grow(&mut self, growth: &Growth, ramp: Ramp) {
        for map in growth.axes().filter(|map| map.grows()) {
            let units = self.axes.entry(map.axis().into()).or_default();
            units.resize(map.old_size(), None);
            *units = map.carry(units, Some(ramp));
        }
        if let Some(depth) = growth.depth() {
            self.layers.resize(depth.old_layers(), None);
            self.layers = depth.carry(&self.layers, Some(ramp));
        }
    }

    /// Drops what is at 1 after the step `step`; returns whether anything was dropped.
    pub fn retire(&mut self, step: u64) -> bool {
        let before = self.clone();
        for ramp in self.axes.values_mut().flatten().chain(&mut self.layers) {
            if ramp.is_some_and(|ramp| ramp.is_over(step)) {
                *ramp = None;
            }
        }
        self.axes.retain(|_, units| units.iter().any(Option::is_some));
        if self.layers.iter().all(Option::is_none) {
            self.layers.clear();
        }
        *self != before
    }

    /// Counts steps anew from `step`, which becomes 0: every ramp goes on from where it stands.
    pub fn count_from(&mut self, step: u64) {
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        for ramp in self.axes.values_mut().flatten().chain(&mut self.layers).flatten() {
            ramp.start = ramp.start.saturating_sub(step);
        }
    }

    /// Whether no unit and no layer is masked any more.
    pub fn is_empty(&self) -> bool {
        self.axes.is_empty() && self.layers.is_empty()
    }

    /// The values of one axis in the step `step`; `None` where no unit of it is on a ramp.
    ///
    /// # Errors
    /// Where the axis has another size than the book.
    pub fn values<A: Axis>(&self, axis: &A, step: u64) -> Result<Option<Vec<f32>>> {
        self.values_for(&AxisInfo::of(axis), step)
    }

    /// As [`Ramps::values`], for an axis known by its name.
    ///
    /// # Errors
    /// As [`Ramps::values`].
    pub fn values_for(&self, axis: &AxisInfo, step: u64) -> Result<Option<Vec<f32>>> {
        let Some(units) = self.axes.get(axis.grows_as) else { return Ok(None) };
        same_size("mask", axis.name, units.len(), axis.size)?;
        let value = |ramp: &Option<Ramp>| ramp.map_or(1.0, |ramp| ramp.value(step));
        Ok(Some(units.iter().map(value).collect()))
    }

    /// The mask of one axis in the step `step`: none where all units are at 1.
    ///
    /// # Errors
    /// Where the axis has another size than the book, or the device fails.
    pub fn mask<A: Axis, D: Kernels<f32>>(&self, device: &D, axis: A, step: u64) -> Result<Mask<A, f32, D>> {
        match self.values(&axis, step)? {
            Some(values) if values.iter().any(|&c| c != 1.0) => Mask::new(device, axis, values),
            _ => Ok(Mask::none()),
        }
    }

    /// As [`Ramps::mask`], but a mask whose units are all at 1 stays: what the receipt at a ramp's end
    /// compares the dropped one with.
    ///
    /// # Errors
    /// As [`Ramps::mask`].
    pub fn mask_kept<A: Axis, D: Kernels<f32>>(
        &self,
        device: &D,
        axis: A,
        step: u64,
    ) -> Result<Mask<A, f32, D>> {
        match self.values(&axis, step)? {
            Some(values) => Mask::new(device, axis, values),
            None => Ok(Mask::none()),
        }
    }

    /// The gate of a layer in the step `step`.
    pub fn gate(&self, layer: usize, step: u64) -> Gate {
        self.layers.get(layer).copied().flatten().map_or(Gate::OPEN, |ramp| Gate::new(ramp.value(step)))
    }
}

/// The mask of one axis in one forward pass: its values, or nothing to do.
#[derive(Clone, Debug)]
pub struct Mask<A: Axis, E: Float, D: Kernels<E>> {
    values: Option<Tensor<(A,), E, D>>,
    /// Their sum in index order.
    total: E,
    /// Their sum in double precision, for devices whose sums over units have an order of their own.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "Cuda's norm reads it"))]
    wide_total: f64,
}

thread_local! {
    static MASKED_NODES: Cell<u64> = const { Cell::new(0) };
}

/// How many masks and gates have acted on this thread since the last call. A pass without masks adds none.
pub fn take_masked_nodes() -> u64 {
    MASKED_NODES.take()
}

fn count_masked_node() {
    MASKED_NODES.set(MASKED_NODES.get() + 1);
}

impl<A: Axis, E: Float, D: Kernels<E>> Mask<A, E, D> {
    /// No mask: the operation without it.
    pub fn none() -> Self {
        Mask { values: None, total: E::of(0.0), wide_total: 0.0 }
    }

    /// A mask with one value per unit.
    ///
    /// # Errors
    /// Where their number is not the axis' size, [`Error::Value`] for one outside 0 to 1, or where the
    /// device fails.
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
    /// Where the sizes differ or the device fails.
    pub fn apply<S: EndsWith<A>, T: Tape<E, D>>(&self, x: Tensor<S, E, D, T>) -> Result<Tensor<S, E, D, T>> {
        let Some(values) = &self.values else { return Ok(x) };
        let x = self.keep(x)?;
        count_masked_node();
        let c = x.shape().repeat(values.clone()).during("mask")?;
        x.try_mul(c).during("mask")
    }

    /// `x` where `c` is not 0, and 0 where it is.
    ///
    /// # Errors
    /// Where the sizes differ or the device fails.
    pub fn keep<S: EndsWith<A>, T: Tape<E, D>>(&self, x: Tensor<S, E, D, T>) -> Result<Tensor<S, E, D, T>> {
        let Some(values) = &self.values else { return Ok(x) };
        some_entries("mask: number of inputs", x.shape())?;
        same_size("mask", A::NAME, x.shape().last().size(), values.shape().0.size())?;
        let shape = *x.shape();
        let c = shape.repeat(values.clone()).during("mask")?;
        let zeros = x.device().try_zeros_like(&shape).during("mask")?;
        c.try_ne(E::of(0.0)).and_then(|kept| kept.try_choose(x, zeros)).during("mask")
    }
}

/// The gate of a layer: 0 leaves it out, 1 is the layer as it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate(f32);

impl Gate {
    /// The layer as it stands.
    pub const OPEN: Gate = Gate(1.0);

    /// A gate at `value`.
    pub fn new(value: f32) -> Self {
        Gate(value)
    }

    /// Its value.
    pub fn value(self) -> f32 {
        self.0
    }

    /// Whether the layer stands as it is.
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
    /// What the branch refuses, or the device.
    pub fn branch<S, E, D, T>(
        self,
        x: Tensor<S, E, D, T>,
        f: impl FnOnce(Tensor<S, E, D, T>) -> Result<Tensor<S, E, D, T>>,
    ) -> Result<Tensor<S, E, D, T>>
    where
        S: dfdx::shapes::Shape,
        E: Float,
        D: Kernels<E>,
        T: Tape<E, D>,
    {
        use dfdx::tensor_ops::TryAdd;
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
    /// What the layer refuses, or the device.
    pub fn blend<S, E, D, T>(
        self,
        x: Tensor<S, E, D, T>,
        f: impl FnOnce(Tensor<S, E, D, T>) -> Result<Tensor<S, E, D, T>>,
    ) -> Result<Tensor<S, E, D, T>>
    where
        S: dfdx::shapes::Shape,
        E: Float,
        D: Kernels<E>,
        T: Tape<E, D>,
    {
        use dfdx::tensor_ops::TryAdd;
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
        S: dfdx::shapes::Shape,
        E: Float,
        D: Kernels<E>,
        T: Tape<E, D>,
    {
        if self.is_open() {
            return Ok(branch);
        }
        count_masked_node();
        branch.try_mul(E::of(f64::from(self.0))).during("gate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        axis::{Ffn, Hidden},
        growth::{AxisMap, DepthMap},
    };

    #[test]
    fn a_ramp_is_zero_at_the_growth_and_one_after_its_length() {
        let ramp = Ramp { start: 10, length: 4 };
        let values: Vec<f32> = (10..16).map(|step| ramp.value(step)).collect();
        assert_eq!(values, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]);
        assert_eq!(
            (Ramp { start: 3, length: 0 }.value(3), Ramp { start: 3, length: 0 }.value(4)),
            (0.0, 1.0)
        );
        assert!(!ramp.is_over(13) && ramp.is_over(14));
    }

    #[test]
    fn a_ramp_that_is_counted_from_its_middle_goes_on_where_it_stood() {
        let mut ramps = Ramps::default();
        let hidden = Growth::new(0, 1).with_axis(AxisMap::append("Hidden", 1, 2).unwrap());
        ramps.grow(&hidden.with_depth(DepthMap::stack(1, 2).unwrap()), Ramp { start: 10, length: 7 });
        let mut later = ramps.clone();
        later.count_from(13);
        for step in 13..=18 {
            let (before, after) = (ramps.values(&Hidden(2), step), later.values(&Hidden(2), step - 13));
            assert_eq!(before.unwrap(), after.unwrap());
            assert_eq!(ramps.gate(1, step), later.gate(1, step - 13));
            assert_eq!(ramps.retire(step), later.retire(step - 13));
        }
        assert!(ramps.is_empty() && later.is_empty());
    }

    #[test]
    fn ramps_overlap_on_one_axis_and_vanish_one_by_one() {
        let append = |old, new| Growth::new(0, 1).with_axis(AxisMap::append("Hidden", old, new).unwrap());
        let mut ramps = Ramps::default();
        ramps.grow(&append(2, 3), Ramp { start: 0, length: 10 });
        let second = append(3, 4).with_depth(DepthMap::stack(1, 2).unwrap());
        ramps.grow(&second, Ramp { start: 5, length: 10 });
        assert_eq!(ramps.values(&Hidden(4), 6).unwrap().unwrap(), [1.0, 1.0, 0.6, 0.1]);
        assert_eq!(ramps.values(&Ffn(9), 6).unwrap(), None);
        assert_eq!((ramps.gate(0, 6).value(), ramps.gate(1, 6).value()), (1.0, 0.1));
        assert!(ramps.values(&Hidden(5), 6).is_err());
        assert!(!ramps.retire(9) && ramps.retire(10) && !ramps.is_empty());
        assert_eq!(ramps.values(&Hidden(4), 11).unwrap().unwrap(), [1.0, 1.0, 1.0, 0.6]);
        assert!(ramps.retire(15) && ramps.is_empty());
    }
}
