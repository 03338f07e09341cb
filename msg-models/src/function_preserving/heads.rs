//! Heads of another number or size that compute the same.

use crate::function_preserving::{architecture::Architecture, units::Units};
use dfdx::shapes::HasShape;
use msg_core::{
    Backend,
    axis::{AttnDim, Axis, NamedShape, Qkv},
    error::Result,
    growth::{AxisMap, Fill, Growth, NORMAL_STD, NewEntries},
    params::{Flow, Kind, Param, ParamName, Role, Visitor},
};

/// Number and size of the heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heads {
    pub(super) count: usize,
    pub(super) size: usize,
}

impl Heads {
    fn units(self) -> usize {
        self.count * self.size
    }
}

/// What new queries and values hold. New keys of old heads are 0, and so is all that reads new values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Padding {
    /// Zeros: nothing that training would ever move, but the fewest changes.
    Zeros,
    /// Normal numbers of this growth: what is new can learn.
    Normal { seed: u64, number: u64 },
}

/// Places of the three projections.
const QUERY: usize = 0;
const KEY: usize = 1;

/// A model with at least as many heads, each at least as large.
pub(super) fn reshape<D: Backend, M: Architecture<D>>(
    mut model: M,
    to: Heads,
    padding: Padding,
) -> Result<M> {
    let growing = model.growing();
    let from = Heads { count: growing.sizes.heads, size: growing.head_dim };
    if from == to {
        return Ok(model);
    }
    let source = (0..to.units()).map(|unit| {
        let (head, place) = (unit / to.size, unit % to.size);
        (head < from.count && place < from.size).then_some(head * from.size + place)
    });
    let growth = Growth::new(0, 0).with_axis(AxisMap::append(AttnDim::NAME, from.units(), to.units())?);
    let mut visitor = Reshape { from, to, source: source.collect(), growth, padding };
    model.walk(&ParamName::root(), &mut visitor)?;
    *model.factors().head_dim = to.size;
    let growing = model.growing_mut();
    growing.head_dim = to.size;
    growing.sizes.heads = to.count;
    Ok(model)
}

struct Reshape {
    from: Heads,
    to: Heads,
    /// For each unit of the new heads the old one that it is.
    source: Vec<Option<usize>>,
    /// To the new number of units; what becomes of which is in `source`.
    growth: Growth,
    padding: Padding,
}

impl<D: Backend> Visitor<D> for Reshape {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, role: Role, tensor: &mut Param<S, D>) -> Result<()> {
        let axes = tensor.shape().axes();
        let Some(axis) = axes.iter().position(|axis| axis.grows_as == AttnDim::NAME) else { return Ok(()) };
        let consumes = role.flow.get(axis) == Some(&Flow::Consumes);
        let fill = match self.padding {
            Padding::Normal { seed, number } if role.kind == Kind::Weight && !consumes => {
                let fill = Fill::Normal { std: NORMAL_STD * role.scale };
                NewEntries { key: Growth::new(seed, number).key(name), fill }
            }
            _ => NewEntries { key: self.growth.key(name), fill: Fill::Constant(0.0) },
        };
        let (device, shape) = (tensor.device().clone(), self.growth.grown_shape(tensor.shape())?);
        let mut units = Units::of(&device.fresh(&shape, fill)?)?;
        units.overlay(axis, &Units::of(tensor)?, &self.source);
        if let Some(parts) = axes.iter().position(|axis| axis.name == Qkv::NAME) {
            let factor = (self.to.size as f64 / self.from.size as f64).sqrt() as f32;
            units.along_both([parts, axis], |[part, unit], value| match part {
                QUERY if self.source[unit].is_some() => *value *= factor,
                KEY if self.source[unit].is_none() && unit / self.to.size < self.from.count => *value = 0.0,
                _ => {}
            });
        }
        *tensor = units.tensor(&device, shape)?;
        Ok(())
    }
}
