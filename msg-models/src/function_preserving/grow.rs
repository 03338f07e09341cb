//! Growth of a whole model that computes the same function.

use crate::{
    function_preserving::{
        architecture::Architecture,
        heads::{self, Heads, Padding},
        operator::Exact,
        plan::Plan,
    },
    growing::spec::GrowthSpec,
};
use msg_core::{
    Backend,
    axis::{Axis, Hidden},
    error::Result,
    growth::{AxisMap, Growth, Ramp},
    ops::NormOrder,
};

/// The grown model, which computes the same function without masks, and the maps of its axes. Old tensors are freed
/// during the growth. `plan` has checked that the growth is exact.
pub fn grow<D: Backend, M: Architecture<D>>(model: M, plan: &Plan, spec: &GrowthSpec) -> Result<(M, Growth)> {
    let (from, eps) = (model.growing().sizes, model.eps());
    let mut growth = model.growth_to(plan.sizes, spec)?;
    if M::FORM.order == NormOrder::Post {
        growth = growth.with_axis(AxisMap::copies(Hidden::NAME, from.hidden, plan.sizes.hidden)?);
    }
    let rule = spec.units.fill_rule();
    let operator = Exact { rule, form: M::FORM };
    let mut grown = model.into_grown(&growth, &operator, Ramp { start: 0, length: 0 })?;
    if M::FORM.order == NormOrder::Pre {
        *grown.factors().eps = eps * from.hidden as f64 / plan.sizes.hidden as f64;
    }
    let reshaped = Heads { count: plan.sizes.heads, size: plan.head_dim };
    let fill = Padding::Normal { seed: spec.seed, number: spec.number + 1 };
    Ok((heads::reshape(grown, reshaped, fill)?, growth))
}
