//! What of a Transformer changes when it grows, and growth of whole models by target sizes.

use crate::{GrowingAxis, Grows, Masks, Sizes};
use dfdx::shapes::HasShape;
use msg_core::{
    Backend, Error, Result,
    axis::{AxisInfo, HeadDim, NamedShape},
    error::same_size,
    growth::{self, AxisMap, DepthMap, FillRule, Growth, Masked, NORMAL_STD, Operator, Ramp, Ramps},
    params::{Module, Param, ParamName, Role, Visitor},
};
use serde::{Deserialize, Serialize};

/// What new units start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitInit {
    /// Normal with standard deviation 0.02.
    #[default]
    Normal,
    /// Zeros.
    Zero,
    /// Copies of the old units in turn.
    Copy,
    /// Normal with the standard deviation of the old tensor.
    MatchedStd,
}

impl UnitInit {
    /// The masked operator that fills by this rule.
    pub fn operator(self) -> Masked {
        Masked {
            rule: match self {
                UnitInit::Normal | UnitInit::Copy => FillRule::Normal { std: NORMAL_STD },
                UnitInit::Zero => FillRule::Zero,
                UnitInit::MatchedStd => FillRule::MatchedStd,
            },
        }
    }

    fn map(self, axis: &'static str, old: usize, new: usize) -> Result<AxisMap> {
        match self {
            UnitInit::Copy => AxisMap::copies(axis, old, new),
            _ => AxisMap::append(axis, old, new),
        }
    }
}

/// Where new layers stand and what they start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerInit {
    /// The old stack again, on top.
    #[default]
    Stack,
    /// Each old layer's copies right after it.
    Interpolate,
    /// Fresh layers on top.
    Fresh,
}

impl LayerInit {
    fn map(self, old: usize, new: usize) -> Result<DepthMap> {
        match self {
            LayerInit::Stack => DepthMap::stack(old, new),
            LayerInit::Interpolate => DepthMap::interpolate(old, new),
            LayerInit::Fresh => DepthMap::fresh(old, new),
        }
    }
}

/// How one boundary grows a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrowthSpec {
    /// The run's seed.
    pub seed: u64,
    /// The number of this growth in the run, from 1.
    pub number: u64,
    /// What new units start from.
    pub units: UnitInit,
    /// Where new layers stand and what they start from.
    pub layers: LayerInit,
}

impl Default for GrowthSpec {
    fn default() -> Self {
        GrowthSpec { seed: 0, number: 1, units: UnitInit::default(), layers: LayerInit::default() }
    }
}

/// The part of a Transformer's state that growth changes besides its tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growing {
    /// Present sizes.
    pub sizes: Sizes,
    /// Size of one head; it never grows.
    pub head_dim: usize,
    /// Units and layers that are still on a ramp.
    pub ramps: Ramps,
    /// The identity of each layer, bottom first: it stays with the layer when others come below it.
    pub layer_ids: Vec<u64>,
}

impl Growing {
    /// The state of a model that never grew.
    ///
    /// # Errors
    /// [`Error::Zero`] for a head size of 0.
    pub fn new(sizes: Sizes, head_dim: usize) -> Result<Self> {
        if head_dim == 0 {
            return Err(Error::Zero { what: "head size" });
        }
        let layer_ids = (0..sizes.layers as u64).collect();
        Ok(Growing { sizes, head_dim, ramps: Ramps::default(), layer_ids })
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
        let Growing { sizes, ramps, .. } = self;
        let gates = (0..sizes.layers).map(|layer| ramps.gate(layer, step).value());
        let mut smallest = gates.fold(1.0, f32::min);
        for axis in sizes.tensor_axes(self.head_dim) {
            let values = ramps.values_for(&axis, step)?;
            smallest = values.into_iter().flatten().fold(smallest, f32::min);
        }
        Ok(smallest)
    }

    fn grown(&self, growth: &Growth, ramp: Option<Ramp>) -> Result<Self> {
        let sizes = self.sizes_after(growth)?;
        let mut grown = Growing { sizes, ..self.clone() };
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

/// A Transformer whose residual stream, feed-forward layer, heads and depth can grow.
pub trait Growable<D: Backend>: Module<D> {
    /// The axes along which the family grows.
    const AXES: &[GrowingAxis];

    /// Its present sizes, ramps and layer identities.
    fn growing(&self) -> &Growing;

    /// The same, to be changed by a growth.
    fn growing_mut(&mut self) -> &mut Growing;

    /// The device that holds it.
    fn device(&self) -> &D;

    /// The maps from the present sizes to `target`.
    ///
    /// # Errors
    /// [`Error::Shrink`] or [`Error::Zero`], naming the axis and both sizes.
    fn growth_to(&self, target: Sizes, spec: &GrowthSpec) -> Result<Growth> {
        target.check(Self::AXES)?;
        let Growing { sizes, head_dim, .. } = self.growing();
        let mut growth = Growth::new(spec.seed, spec.number);
        for &axis in Self::AXES {
            let (old, new) = (sizes.get(axis), target.get(axis));
            growth = match axis.grows() {
                Grows::Depth => growth.with_depth(spec.layers.map(old, new)?),
                Grows::Width(name) => growth.with_axis(spec.units.map(name, old, new)?),
                Grows::Heads { number, units } => {
                    growth.with_axis(spec.units.map(number, old, new)?.widened(units, *head_dim)?)
                }
            };
        }
        Ok(growth)
    }

    /// How many parameters it would have at other sizes, however many that are.
    fn params_at(&self, target: Sizes) -> u128 {
        struct Count(Sizes, usize, u128);
        impl<D: Backend> Visitor<D> for Count {
            fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, t: &mut Param<S, D>) -> Result<()> {
                let Count(target, head_dim, sum) = self;
                let of = |axis: AxisInfo| {
                    let grown = |row: &GrowingAxis| row.units(target.get(*row), *head_dim);
                    let mut grown = GrowingAxis::ALL.iter().filter_map(grown);
                    grown
                        .find(|(name, _)| *name == axis.grows_as)
                        .map_or(axis.size as u128, |(_, units)| units)
                };
                // The first layer stands for all of them.
                let times = match name.layer() {
                    None => 1,
                    Some(0) => target.layers,
                    Some(_) => 0,
                };
                let product = t.shape().axes().into_iter().map(of).fold(times as u128, u128::saturating_mul);
                *sum = sum.saturating_add(product);
                Ok(())
            }
        }
        let mut count = Count(target, self.growing().head_dim, 0);
        match self.inspect(&mut count) {
            Ok(()) => count.2,
            Err(_) => unreachable!("counting refuses nothing"),
        }
    }

    /// The grown model; new units and layers start on `ramp` if the operator masks them. The old model
    /// stays as it was.
    ///
    /// # Errors
    /// Where the maps do not fit the model, or the device fails.
    fn grown<O: Operator<D>>(&self, growth: &Growth, operator: &O, ramp: Ramp) -> Result<Self> {
        self.clone().into_grown(growth, operator, ramp)
    }

    /// As [`Growable::grown`], where the old model is not needed any more: its memory is given back on the way.
    ///
    /// # Errors
    /// As [`Growable::grown`]; the old model is lost.
    fn into_grown<O: Operator<D>>(self, growth: &Growth, operator: &O, ramp: Ramp) -> Result<Self> {
        let growing = self.growing().grown(growth, operator.masked().then_some(ramp))?;
        let mut grown = growth::into_grown(self, growth, operator)?;
        *grown.growing_mut() = growing;
        Ok(grown)
    }

    /// The masks in the optimizer step `step` (counted from 1; at a ramp's start they are 0).
    ///
    /// # Errors
    /// Where the device fails.
    fn masks(&self, step: u64) -> Result<Masks<D>> {
        Masks::at(self.device(), self.growing(), step, false)
    }

    /// As [`Growable::masks`], with masks that are 1 throughout kept until they are retired.
    ///
    /// # Errors
    /// Where the device fails.
    fn masks_kept(&self, step: u64) -> Result<Masks<D>> {
        Masks::at(self.device(), self.growing(), step, true)
    }

    /// Drops the ramps that are over after `step`; returns whether there were any.
    fn retire_ramps(&mut self, step: u64) -> bool {
        self.growing_mut().ramps.retire(step)
    }
}
