//! Growth: axis maps and a depth map make a [`Growth`]; an [`Operator`] turns old tensors into new ones by it.

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod init;
pub(crate) mod kernel;
mod map;
mod masked;
mod operator;
mod ramps;
mod shape;

pub use crate::params::depth::{DepthMap, LayerSource};
pub use init::{Init, init, init_where};
pub use kernel::{Fill, GrowKernel, NewEntries};
pub use map::{AxisMap, FRESH};
pub use masked::{FillRule, Masked, NORMAL_STD, filled};
pub use operator::{GrowthContext, Operator, Preserves, carried, grow, grow_tensor, into_grown};
pub use ramps::{Ramp, Ramps};
pub use shape::{AxisGrowsTo, GrowsTo};

use crate::{
    axis::{Axis, AxisInfo, NamedShape},
    error::{Error, Result, same_size},
    params::ParamName,
    random::Key,
};
use dfdx::shapes::Const;
use std::{borrow::Cow, collections::BTreeMap};

/// One growth of a run: a map for every axis and for the layers, and the source of its random numbers.
#[derive(Clone, Debug)]
pub struct Growth {
    seed: u64,
    number: u64,
    axes: BTreeMap<&'static str, AxisMap>,
    depth: Option<DepthMap>,
}

impl Growth {
    /// The `number`-th growth of a run (0 is its initialisation), with no maps yet.
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
    /// [`Error::Size`] where the axis has another size than the map expects.
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

    /// The maps of a shape's axes, outermost first.
    ///
    /// # Errors
    /// As [`Growth::map_of`].
    pub fn axis_maps<S: NamedShape>(&self, shape: &S) -> Result<Vec<AxisMap>> {
        shape.axes().iter().map(|axis| Ok(self.map_for(axis)?.into_owned())).collect()
    }

    /// The shape after this growth.
    ///
    /// # Errors
    /// As [`Growth::map_of`], and [`Error::Size`] where a map changes a const axis.
    pub fn grown_shape<S: NamedShape>(&self, shape: &S) -> Result<S> {
        let sizes: Vec<usize> = self.axis_maps(shape)?.iter().map(AxisMap::new_size).collect();
        let refused = || {
            let axes = shape.axes().into_iter().zip(&sizes);
            let mut changed =
                axes.filter(|(axis, size)| axis.name == Const::<0>::NAME && axis.size != **size);
            let (axis, expected, got) =
                changed.next().map_or((Const::<0>::NAME, 0, 0), |(a, &s)| (a.name, a.size, s));
            Error::Size { op: "growth", axis, expected, got }
        };
        shape.resized(&sizes).ok_or_else(refused)
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
