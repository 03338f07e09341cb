//! Birth steps: since how many updates each unit of each axis, and each layer, has been there.
//!
//! Never one per entry: an entry's birth is the latest of its units' births and its layer's, so a tensor
//! has as many cohorts as boundaries that touched it.

use crate::{axis::AxisInfo, growth::Growth};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Births by axis and by layer, counted in applied updates; what is not listed was born at 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Births {
    axes: BTreeMap<String, Vec<u64>>,
    layers: Vec<u64>,
    /// Nothing is older than this.
    oldest: u64,
}

/// The cohorts of one tensor: their births in ascending order, and per axis the cohort of each unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cohorts {
    pub births: Vec<u64>,
    /// One list per axis of the tensor; empty where all its units belong to cohort 0.
    pub units: Vec<Vec<u32>>,
}

impl Births {
    /// Everything is born at `now`.
    pub fn all_at(now: u64) -> Self {
        Births { oldest: now, ..Self::default() }
    }

    /// Carries the births over a growth: new units and layers are born at `now`.
    pub fn grow(&mut self, growth: &Growth, now: u64) {
        for map in growth.axes().filter(|map| map.grows()) {
            let units = self.axes.entry(map.axis().into()).or_default();
            units.resize(map.old_size(), self.oldest);
            *units = map.carry(units, now);
        }
        self.grow_layers(growth, now);
    }

    /// As [`Births::grow`], for the layers alone: units keep the age of their axis.
    pub fn grow_layers(&mut self, growth: &Growth, now: u64) {
        if let Some(depth) = growth.depth() {
            self.layers.resize(depth.old_layers(), self.oldest);
            self.layers = depth.carry(&self.layers, now);
        }
    }

    /// The cohorts of a tensor with these axes in that layer.
    pub(super) fn cohorts(&self, axes: &[AxisInfo], layer: Option<usize>) -> Cohorts {
        let floor = layer.and_then(|layer| self.layers.get(layer)).copied().unwrap_or(self.oldest);
        let of_axis = |axis: &AxisInfo| self.axes.get(axis.grows_as).map_or(&[][..], Vec::as_slice);
        let mut births: Vec<u64> = axes.iter().flat_map(of_axis).copied().filter(|&b| b > floor).collect();
        births.push(floor);
        births.sort_unstable();
        births.dedup();
        let cohort = |birth: &u64| births.partition_point(|b| b < birth) as u32;
        let units = axes.iter().map(|axis| {
            let units: Vec<u32> = of_axis(axis).iter().map(cohort).collect();
            if units.iter().all(|&cohort| cohort == 0) { Vec::new() } else { units }
        });
        let units = units.collect();
        Cohorts { births, units }
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
    fn a_tensor_has_one_cohort_per_boundary_that_touched_it() {
        let mut births = Births::default();
        births.grow(&Growth::new(0, 1).with_axis(AxisMap::append("Hidden", 2, 3).unwrap()), 10);
        let depth = DepthMap::fresh(1, 2).unwrap();
        births
            .grow(&Growth::new(0, 2).with_axis(AxisMap::append("Ffn", 1, 2).unwrap()).with_depth(depth), 20);
        let axes = [AxisInfo::of(&Ffn(2)), AxisInfo::of(&Hidden(3))];
        let old_layer = births.cohorts(&axes, Some(0));
        assert_eq!(old_layer.births, [0, 10, 20]);
        assert_eq!(old_layer.units, [vec![0, 2], vec![0, 0, 1]]);
        let new_layer = births.cohorts(&axes, Some(1));
        assert_eq!((new_layer.births, new_layer.units), (vec![20], vec![vec![], vec![]]));
    }
}
