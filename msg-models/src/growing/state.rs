//! The part of a Transformer's state that growth changes besides its tensors: sizes, ramps and layer identities.

use crate::sizes::{Grows, Sizes};
use msg_core::{
    axis::{AxisInfo, HeadDim},
    error::{Error, Result, same_size},
    growth::{Growth, Ramp, Ramps},
};
use serde::{Deserialize, Serialize};

/// The part of a Transformer's state that growth changes besides its tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrowthState {
    /// Present sizes.
    pub sizes: Sizes,
    /// Size of one head; it never grows.
    pub head_dim: usize,
    /// Units and layers that are still on a ramp.
    pub ramps: Ramps,
    /// The identity of each layer, bottom first: it stays with the layer when others come below it.
    pub layer_ids: Vec<u64>,
}

impl GrowthState {
    /// The state of a model that never grew.
    ///
    /// # Errors
    /// [`Error::Zero`] for a head size of 0.
    pub fn new(sizes: Sizes, head_dim: usize) -> Result<Self> {
        if head_dim == 0 {
            return Err(Error::Zero { what: "head size" });
        }
        let layer_ids = (0..sizes.layers as u64).collect();
        Ok(GrowthState { sizes, head_dim, ramps: Ramps::default(), layer_ids })
    }

    /// The axis of one head.
    pub fn head_dim(&self) -> HeadDim {
        HeadDim(self.head_dim)
    }

    /// The sizes after a growth.
    ///
    /// # Errors
    /// Where a map does not fit, or AttnDim becomes no whole number of heads.
    fn sizes_after(&self, growth: &Growth) -> Result<Sizes> {
        let mut sizes = self.sizes;
        for (axis, size) in self.sizes.iter() {
            let after = match axis.units(size, self.head_dim) {
                None => match growth.depth() {
                    None => size,
                    Some(depth) => {
                        same_size("growth", axis.key(), depth.old_layers(), size)?;
                        depth.layers().len()
                    }
                },
                Some((name, units)) => {
                    let units = usize::try_from(units).unwrap_or(usize::MAX);
                    let after = growth.map_for(&AxisInfo { name, grows_as: name, size: units })?.new_size();
                    let each = if let Grows::Heads { .. } = axis.grows() { self.head_dim } else { 1 };
                    if !after.is_multiple_of(each) {
                        return Err(Error::Heads { inner: after, head_dim: each });
                    }
                    after / each
                }
            };
            sizes = sizes.with(axis, after);
        }
        Ok(sizes)
    }

    /// The smallest mask value in the optimizer step `step`; 1 where nothing ramps.
    ///
    /// # Errors
    /// Where sizes and ramps disagree.
    pub fn smallest_mask(&self, step: u64) -> Result<f32> {
        let GrowthState { sizes, ramps, .. } = self;
        let gates = (0..sizes.layers).map(|layer| ramps.gate(layer, step).value());
        let mut smallest = gates.fold(1.0, f32::min);
        for axis in sizes.tensor_axes(self.head_dim) {
            let values = ramps.values_for(&axis, step)?;
            smallest = values.into_iter().flatten().fold(smallest, f32::min);
        }
        Ok(smallest)
    }

    pub(super) fn grown(&self, growth: &Growth, ramp: Option<Ramp>) -> Result<Self> {
        let sizes = self.sizes_after(growth)?;
        let mut grown = GrowthState { sizes, ..self.clone() };
        if let Some(ramp) = ramp {
            grown.ramps.grow(growth, ramp);
        }
        if let Some(depth) = growth.depth() {
            let unused = self.layer_ids.iter().max().map_or(0, |id| id + 1);
            let carried = depth.carry(&self.layer_ids.iter().map(|&id| Some(id)).collect::<Vec<_>>(), None);
            let mut fresh = unused..;
            grown.layer_ids = carried.into_iter().filter_map(|id| id.or_else(|| fresh.next())).collect();
        }
        Ok(grown)
    }
}
