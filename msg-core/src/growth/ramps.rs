//! Which unit and which layer is still on which ramp: plain data, a function of the step, that grows with the module.

use super::Growth;
use crate::{
    axis::{Axis, AxisInfo},
    error::{Result, same_size},
    mask::{Gate, Mask},
};
use dfdx::tensor_ops::Device;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    /// The value in the optimizer step `step` (counted from 1); at `step == start`, the growth itself, it is 0. A ramp of length 0 is 1 from the first step on.
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
    /// Carries the ramps over a growth: old units keep theirs, new ones start `ramp`.
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

    /// Makes `step` the new step 0; every ramp continues at its present value.
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
    /// Where the axis has another size than the ramps.
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
    /// Where the axis has another size than the ramps.
    pub fn mask<A: Axis, D: Device<f32>>(&self, device: &D, axis: A, step: u64) -> Result<Mask<A, f32, D>> {
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
    pub fn mask_kept<A: Axis, D: Device<f32>>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        axis::{Ffn, Hidden},
        growth::map::AxisMap,
        params::depth::DepthMap,
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
    fn a_ramp_that_is_counted_from_its_middle_continues() {
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
