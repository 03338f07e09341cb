//! Exact growth: a larger model that computes the same function without masks, so that any program that
//! runs the architecture goes on with it. And folding: masks and spare heads into weights.
//!
//! Why it is exact, axis by axis (H and H' units of the residual stream before and after):
//!
//! - **Ffn**, **heads**: new units compute anything; the columns that read them are 0.
//! - **Layers, pre-norm**: both projections back to the residual stream are 0, so the layer adds 0.
//! - **Layers, post-norm**: with the same two projections 0 the layer is two norms in a row. The layer below
//!   gives its last weight and bias to the new one and keeps 1 and 0: what goes up is normalised already, two
//!   more norms leave it as it is but for epsilon, and weight and bias act at the end as before.
//! - **Hidden, pre-norm**: new coordinates carry the mean of the old ones (columns of the tables, rows of
//!   the projections back, their biases). The mean of all stays; the variance becomes H/H' of what it was. With
//!   epsilon times H/H' the normalised old coordinates are sqrt(H'/H) of what they were, which weights times
//!   sqrt(H/H') undo; new coordinates normalise to 0 and, their biases being 0, put out 0: whatever reads them
//!   reads 0.
//! - **Hidden, post-norm**: a norm's output has a mean that the next sum must keep, so coordinates cannot
//!   carry means. With k copies of every coordinate mean and variance stay, and what reads them is divided by
//!   k. The tied token table is written as copies, so what it meets (the weight and bias of the transform's norm) is divided.
//! - **Head size**: zero keys in new places leave scores as they are; queries times sqrt(d'/d) make up for
//!   the larger divisor; columns that read new values are 0.

mod fold;
mod heads;
mod operator;
mod plan;
mod units;

pub use fold::{Folded, Unfoldable, check_foldable, fold};
pub use operator::Exact;
pub use plan::{NotExact, Plan};

use crate::{Growable, GrowthSpec};
use msg_core::{
    Backend, Result,
    axis::{Axis, Hidden},
    growth::{AxisMap, Growth, Ramp},
    ops::NormOrder,
    params::ParamName,
};

/// What of an architecture the rules depend on.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Where norms stand.
    pub order: NormOrder,
    /// The norm that ends a layer, where layers end with one.
    pub closing_norm: fn(&ParamName) -> bool,
    /// The norm whose output meets the tied token table, where table and stream grow by copies.
    pub tied_norm: fn(&ParamName) -> bool,
}

/// A family that can grow exactly and be folded.
pub trait Architecture<D: Backend>: Growable<D> {
    /// Its form.
    const FORM: Form;

    /// What is added to the variance in its norms.
    fn eps(&self) -> f64;

    /// The numbers of its configuration that change with its tensors.
    fn numbers(&mut self) -> Numbers<'_>;
}

/// Numbers of a configuration that change with the tensors.
#[derive(Debug)]
pub struct Numbers<'a> {
    /// What is added to the variance in norms.
    pub eps: &'a mut f64,
    /// The size of one head.
    pub head_dim: &'a mut usize,
}

/// A model grown exactly, and the maps of its axes. The old one's memory is given back on the way.
///
/// # Errors
/// Where the device fails; `plan` says beforehand whether the growth is exact.
pub fn grow<D: Backend, M: Architecture<D>>(model: M, plan: &Plan, spec: &GrowthSpec) -> Result<(M, Growth)> {
    let (from, eps) = (model.growing().sizes, model.eps());
    let mut growth = model.growth_to(plan.sizes, spec)?;
    if M::FORM.order == NormOrder::Post {
        growth = growth.with_axis(AxisMap::copies(Hidden::NAME, from.hidden, plan.sizes.hidden)?);
    }
    let rule = spec.units.operator().rule;
    let operator = Exact { rule, form: M::FORM };
    let mut grown = model.into_grown(&growth, &operator, Ramp { start: 0, length: 0 })?;
    if M::FORM.order == NormOrder::Pre {
        *grown.numbers().eps = eps * from.hidden as f64 / plan.sizes.hidden as f64;
    }
    let reshaped = heads::Heads { count: plan.sizes.heads, size: plan.head_dim };
    let fill = heads::Padding::Normal { seed: spec.seed, number: spec.number + 1 };
    Ok((heads::reshape(grown, reshaped, fill)?, growth))
}
