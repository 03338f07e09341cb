//! Growth: axis maps and a depth map make a [`Growth`]; an [`Operator`] turns old tensors into new ones by it.

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod init;
mod map;
mod masked;
mod operator;
mod shape;

pub use crate::params::depth::{DepthMap, LayerSource};
pub use cpu::Fill;
pub use init::{Init, init, init_where};
pub use map::{AxisMap, FRESH};
pub use masked::{FillRule, Masked, NORMAL_STD, filled};
pub use operator::{GrowthContext, NewEntries, Operator, grow, grow_tensor, into_grown};
pub use shape::{AxisGrowsTo, GrowsTo};

use crate::{
    axis::{Axis, AxisInfo},
    error::{Result, same_size},
    params::ParamName,
    random::Key,
};
use std::{borrow::Cow, collections::BTreeMap};

/// One boundary of a run: what becomes of every axis and layer, and the source of its random numbers.
#[derive(Clone, Debug)]
pub struct Growth {
    seed: u64,
    number: u64,
    axes: BTreeMap<&'static str, AxisMap>,
    depth: Option<DepthMap>,
}

impl Growth {
    /// The `number`-th growth of a run (0 is its initialisation) that changes nothing yet.
    pub fn new(seed: u64, number: u64) -> Self {
        Growth { seed, number, axes: BTreeMap::new(), depth: None }
    }

    /// Adds the map of one axis. A later map of the same axis replaces an earlier one.
    #[must_use]
    pub fn with_axis(mut self, map: AxisMap) -> Self {
        self.axes.insert(map.axis(), map);
        self
    }

    /// Adds the map of the layers.
    #[must_use]
    pub fn with_depth(mut self, depth: DepthMap) -> Self {
        self.depth = Some(depth);
        self
    }

    /// The number of this growth in its run.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The maps of the axes that have one.
    pub fn axes(&self) -> impl Iterator<Item = &AxisMap> {
        self.axes.values()
    }

    /// The map of the layers, if they change.
    pub fn depth(&self) -> Option<&DepthMap> {
        self.depth.as_ref().filter(|depth| depth.grows())
    }

    /// The map of one axis; the identity where the growth has none for it.
    ///
    /// # Errors
    /// [`crate::Error::Size`] where the axis has another size than the map expects.
    pub fn map_of<A: Axis>(&self, axis: &A) -> Result<AxisMap> {
        Ok(self.map_for(&AxisInfo::of(axis))?.into_owned())
    }

    /// As [`Growth::map_of`], for an axis known by its name.
    ///
    /// # Errors
    /// As [`Growth::map_of`].
    pub fn map_for(&self, axis: &AxisInfo) -> Result<Cow<'_, AxisMap>> {
        match self.axes.get(axis.grows_as) {
            None => Ok(Cow::Owned(AxisMap::identity(axis.name, axis.size))),
            Some(map) => {
                same_size("growth", axis.name, map.old_size(), axis.size)?;
                Ok(Cow::Borrowed(map))
            }
        }
    }

    /// Where the layer `layer` of the grown model comes from.
    pub fn layer_source(&self, layer: usize) -> LayerSource {
        let mapped = self.depth.as_ref().and_then(|depth| depth.layers().get(layer));
        mapped.copied().unwrap_or(LayerSource::Same(layer))
    }

    /// Where a parameter comes from, and under which old name.
    pub fn source(&self, name: &ParamName) -> (LayerSource, ParamName) {
        let Some(layer) = name.layer() else { return (LayerSource::Same(0), name.clone()) };
        let source = self.layer_source(layer);
        match source {
            LayerSource::Same(from) | LayerSource::Copy(from) => (source, name.at_layer(from)),
            // All layers have the same shapes: the first one stands for the shape of a fresh one.
            LayerSource::Fresh => (source, name.at_layer(0)),
        }
    }

    /// The key of the random numbers for new entries of one parameter.
    pub fn key(&self, name: &ParamName) -> Key {
        Key::new(self.seed, &name.to_string(), self.number)
    }
}
