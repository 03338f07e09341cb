//! Growth of whole models by target sizes.

use crate::{
    growing::{masks::Masks, spec::GrowthSpec, state::GrowthState},
    sizes::{GrowingAxis, Grows, Sizes},
};
use dfdx::shapes::HasShape;
use msg_core::{
    Backend,
    axis::{AxisInfo, NamedShape},
    error::Result,
    growth::{self, Growth, Operator, Ramp},
    params::{Module, Param, ParamName, Role, Visitor},
};

/// A Transformer whose residual stream, feed-forward layer, heads and depth can grow.
pub trait GrowingModel<D: Backend>: Module<D> {
    /// The axes along which the family grows.
    const AXES: &[GrowingAxis];

    /// Its present sizes, ramps and layer identities.
    fn growing(&self) -> &GrowthState;

    /// The same, to be changed by a growth.
    fn growing_mut(&mut self) -> &mut GrowthState;

    /// The device that holds it.
    fn device(&self) -> &D;

    /// The maps from the present sizes to `target`.
    ///
    /// # Errors
    /// [`msg_core::Error::Shrink`] or [`msg_core::Error::Zero`], naming the axis and both sizes.
    fn growth_to(&self, target: Sizes, spec: &GrowthSpec) -> Result<Growth> {
        target.check(Self::AXES)?;
        let GrowthState { sizes, head_dim, .. } = self.growing();
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
    /// Where the maps do not fit the model.
    fn grown<O: Operator<D>>(&self, growth: &Growth, operator: &O, ramp: Ramp) -> Result<Self> {
        self.clone().into_grown(growth, operator, ramp)
    }

    /// As [`GrowingModel::grown`], for an old model that is not needed any more: its tensors are freed during the growth.
    ///
    /// # Errors
    /// As [`GrowingModel::grown`]; the old model is lost.
    fn into_grown<O: Operator<D>>(self, growth: &Growth, operator: &O, ramp: Ramp) -> Result<Self> {
        let growing = self.growing().grown(growth, operator.masked().then_some(ramp))?;
        let mut grown = growth::into_grown(self, growth, operator)?;
        *grown.growing_mut() = growing;
        Ok(grown)
    }

    /// The masks in the optimizer step `step` (counted from 1; at a ramp's start they are 0).
    fn masks(&self, step: u64) -> Result<Masks<D>> {
        Masks::at(self.device(), self.growing(), step, false)
    }

    /// As [`GrowingModel::masks`], with masks that are 1 throughout kept until they are retired.
    fn masks_kept(&self, step: u64) -> Result<Masks<D>> {
        Masks::at(self.device(), self.growing(), step, true)
    }

    /// Drops the ramps that are over after `step`; returns whether there were any.
    fn retire_ramps(&mut self, step: u64) -> bool {
        self.growing_mut().ramps.retire(step)
    }
}
