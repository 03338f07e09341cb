//! Birth steps: the update count at which each unit of each axis, and each layer, was created.
//!
//! There is none per entry: an entry's birth is the latest of its units' and its layer's, so a tensor has one age group
//! for each boundary that touched it. Birth steps are the same under every [`StatePolicy`]; the policy says when an
//! entry's age starts to count.

use crate::{
    axis::AxisInfo,
    error::{Result, same_size},
    growth::Growth,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What becomes of the optimizer's state at a growth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatePolicy {
    /// Each entry has its own age; new state is 0.
    #[default]
    Age,
    /// As published: all entries of an old tensor have the run's age, new layers start at 0.
    Inherit,
    /// All state and ages become 0.
    Reset,
}

/// Birth steps by axis and by layer, counted in applied updates. Axes and layers that are not listed were born at 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirthSteps {
    axes: BTreeMap<String, Vec<u64>>,
    layers: Vec<u64>,
    /// The last reset: no age starts before it.
    reset: u64,
    /// Whether entries are as old as their layer, whatever their units' births (`inherit`).
    by_layer: bool,
}

/// The age groups of one tensor, and per axis the age group of each unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AgeGroups {
    /// When each age group was born, in ascending order.
    pub births: Vec<u64>,
    /// When each age group's age starts to count.
    pub starts: Vec<u64>,
    /// One list per axis of the tensor; empty where all its units belong to age group 0.
    pub units: Vec<Vec<u32>>,
}

impl BirthSteps {
    /// Carries the births over a growth: new units and layers, copies too, are born at `now`.
    ///
    /// # Errors
    /// [`Error::Size`](crate::Error::Size) for a map of other sizes than these; then nothing changes.
    pub fn grow(&mut self, growth: &Growth, now: u64, policy: StatePolicy) -> Result<()> {
        let mut grown = self.clone();
        for map in growth.axes().filter(|map| map.grows()) {
            let units = grown.axes.entry(map.axis().into()).or_insert_with(|| vec![0; map.old_size()]);
            same_size("birth steps", map.axis(), units.len(), map.old_size())?;
            *units = map.carry(units, now);
        }
        if let Some(depth) = growth.depth() {
            if grown.layers.is_empty() {
                grown.layers = vec![0; depth.old_layers()];
            }
            same_size("birth steps", "layers", grown.layers.len(), depth.old_layers())?;
            grown.layers = depth.carry(&grown.layers, now);
        }
        grown.by_layer = policy == StatePolicy::Inherit;
        if policy == StatePolicy::Reset {
            grown.reset = now;
        }
        *self = grown;
        Ok(())
    }

    /// The births of an axis' units; empty where all were born at 0.
    pub fn of_axis(&self, grows_as: &str) -> &[u64] {
        self.axes.get(grows_as).map_or(&[], Vec::as_slice)
    }

    /// The births of the layers; empty where all were born at 0.
    pub fn of_layers(&self) -> &[u64] {
        &self.layers
    }

    /// The age groups of a tensor with these axes in that layer.
    pub(super) fn age_groups(&self, axes: &[AxisInfo], layer: Option<usize>) -> Result<AgeGroups> {
        // Nothing of a layer is older than the layer.
        let floor = layer.and_then(|layer| self.layers.get(layer)).copied().unwrap_or(0);
        let mut births = vec![floor];
        for axis in axes {
            let units = self.of_axis(axis.grows_as);
            if !units.is_empty() {
                same_size("birth steps", axis.name, units.len(), axis.size)?;
            }
            births.extend(units.iter().filter(|&&birth| birth > floor));
        }
        births.sort_unstable();
        births.dedup();
        let group = |birth: &u64| births.partition_point(|b| b < birth) as u32;
        let units = axes.iter().map(|axis| {
            let units: Vec<u32> = self.of_axis(axis.grows_as).iter().map(group).collect();
            if units.iter().all(|&group| group == 0) { Vec::new() } else { units }
        });
        let units = units.collect();
        let start = |&birth: &u64| self.reset.max(if self.by_layer { floor } else { birth });
        let starts = births.iter().map(start).collect();
        Ok(AgeGroups { births, starts, units })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        axis::{Ffn, Hidden},
        growth::{AxisMap, DepthMap},
    };

    fn axes() -> [AxisInfo; 2] {
        [AxisInfo::of(&Ffn(2)), AxisInfo::of(&Hidden(3))]
    }

    /// Hidden from 2 to 3 at 10, then Ffn from 1 to 2 and a second layer at 20.
    fn grown_twice(policy: StatePolicy) -> BirthSteps {
        let mut births = BirthSteps::default();
        let hidden = AxisMap::append("Hidden", 2, 3).unwrap();
        births.grow(&Growth::new(0, 1).with_axis(hidden), 10, policy).unwrap();
        let ffn = AxisMap::copies("Ffn", 1, 2).unwrap();
        let depth = DepthMap::stack(1, 2).unwrap();
        births.grow(&Growth::new(0, 2).with_axis(ffn).with_depth(depth), 20, policy).unwrap();
        births
    }

    #[test]
    fn a_tensor_has_one_age_group_per_boundary_that_touched_it() {
        let births = grown_twice(StatePolicy::Age);
        let old_layer = births.age_groups(&axes(), Some(0)).unwrap();
        assert_eq!(old_layer.births, [0, 10, 20]);
        assert_eq!(old_layer.units, [vec![0, 2], vec![0, 0, 1]]);
        let new_layer = births.age_groups(&axes(), Some(1)).unwrap();
        assert_eq!((new_layer.births, new_layer.units), (vec![20], vec![vec![], vec![]]));
        let no_layer = births.age_groups(&[AxisInfo::of(&Hidden(3))], None).unwrap();
        assert_eq!((no_layer.births, no_layer.units), (vec![0, 10], vec![vec![0, 0, 1]]));
    }

    #[test]
    fn policies_change_from_when_on_ages_count_and_no_birth() {
        let starts = |policy, layer| {
            let groups = grown_twice(policy).age_groups(&axes(), Some(layer)).unwrap();
            (groups.births, groups.starts)
        };
        for layer in 0..2 {
            let (births, ages) = starts(StatePolicy::Age, layer);
            assert_eq!(births, ages);
            assert_eq!(starts(StatePolicy::Inherit, layer).0, births);
            assert_eq!(starts(StatePolicy::Reset, layer), (births.clone(), vec![20; births.len()]));
        }
        assert_eq!(starts(StatePolicy::Inherit, 0).1, [0, 0, 0]);
        assert_eq!(starts(StatePolicy::Inherit, 1).1, [20]);
    }

    #[test]
    fn births_are_kept_per_unit_and_layer_and_not_per_entry() {
        let births = grown_twice(StatePolicy::Age);
        assert_eq!(births.of_axis("Hidden"), [0, 0, 10]);
        assert_eq!(births.of_axis("Ffn"), [0, 20]);
        assert_eq!(births.of_axis("Vocab"), [0; 0]);
        assert_eq!(births.of_layers(), [0, 20]);
    }

    #[test]
    fn maps_and_tensors_of_other_sizes_are_refused() {
        let births = grown_twice(StatePolicy::Age);
        let refused = |growth: Growth| {
            let mut copy = births.clone();
            let refused = copy.grow(&growth, 30, StatePolicy::Reset).is_err();
            assert_eq!(copy, births);
            refused
        };
        assert!(refused(Growth::new(0, 3).with_axis(AxisMap::append("Hidden", 2, 5).unwrap())));
        assert!(refused(Growth::new(0, 3).with_depth(DepthMap::stack(3, 5).unwrap())));
        assert!(births.age_groups(&[AxisInfo::of(&Hidden(4))], None).is_err());
    }
}
