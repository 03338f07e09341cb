//! Masked growth, the paper's operator: new entries may hold anything, because masks at 0 hide their units.

use super::{
    kernel::{Fill, GrowKernel, NewEntries},
    operator::{GrowthContext, Operator, any_grows},
};
use crate::{
    axis::NamedShape,
    error::Result,
    params::{Kind, Param, ParamName, Role, depth::LayerSource},
};
use dfdx::shapes::HasShape;
use std::fmt;

/// Standard deviation of normal entries, as in GPT-2, BERT and the published code.
pub const NORMAL_STD: f32 = 0.02;

/// What new entries hold, for units that copy no other (those are copied whatever the rule).
///
/// It governs weights and tables; new weights of norms are 1, new biases 0 (but see [`FillRule::Scatter`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FillRule {
    /// Normal with this standard deviation (times the role's scale).
    Normal {
        /// The standard deviation.
        std: f32,
    },
    /// Normal with the standard deviation of the old tensor.
    MatchedStd,
    /// Zeros.
    Zero,
    /// Normal with this standard deviation in every kind of tensor, norms and biases included:
    /// unfit for training, but it shows whatever a mask fails to hide.
    Scatter {
        /// The standard deviation.
        std: f32,
    },
}

impl fmt::Display for FillRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FillRule::Normal { std } => write!(f, "normal with standard deviation {std}"),
            FillRule::MatchedStd => write!(f, "normal with the standard deviation of the old tensor"),
            FillRule::Zero => write!(f, "zero"),
            FillRule::Scatter { std } => {
                write!(f, "normal with standard deviation {std} in every kind of tensor")
            }
        }
    }
}

impl Default for FillRule {
    fn default() -> Self {
        FillRule::Normal { std: NORMAL_STD }
    }
}

impl FillRule {
    /// The rule for a tensor of that role; `matched` is the standard deviation of its old values.
    pub fn fill(self, role: Role, matched: f32) -> Fill {
        match (role.kind, self) {
            (_, FillRule::Scatter { std }) => Fill::Normal { std },
            (Kind::NormWeight, _) => Fill::Constant(1.0),
            (Kind::Bias | Kind::NormBias, _) | (_, FillRule::Zero) => Fill::Constant(0.0),
            (_, FillRule::Normal { std }) => Fill::Normal { std: std * role.scale },
            (_, FillRule::MatchedStd) => Fill::Normal { std: matched },
        }
    }
}

/// Masked growth with a fill rule.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Masked {
    /// What new entries hold.
    pub rule: FillRule,
}

impl<D: GrowKernel> Operator<D> for Masked {
    fn masked(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("masked, new entries {}", self.rule)
    }

    fn tensor<S: NamedShape>(
        &self,
        context: &GrowthContext<'_, D>,
        name: &ParamName,
        role: Role,
    ) -> Result<Param<S, D>> {
        let source = Operator::<D>::source(self, context.growth, name, role)?;
        filled(self.rule, context, source, name, role)
    }
}

/// The parameter `name` from its source (see [`Operator::source`]): old entries in their places, new ones
/// by the rule. The usual first step of an operator.
///
/// # Errors
/// Where a map does not fit.
pub fn filled<S: NamedShape, D: GrowKernel>(
    rule: FillRule,
    context: &GrowthContext<'_, D>,
    (source, old_name): (LayerSource, ParamName),
    name: &ParamName,
    role: Role,
) -> Result<Param<S, D>> {
    let old = context.old.get::<S>("growth", &old_name)?;
    let maps = context.growth.axis_maps(old.shape())?;
    if source == LayerSource::Same(old_name.layer().unwrap_or(0)) && !any_grows(&maps) {
        return Ok(old.clone());
    }
    let matched = match rule {
        FillRule::MatchedStd if role.decays() => D::std_of(old)?,
        _ => 0.0,
    };
    let new = NewEntries { key: context.growth.key(name), fill: rule.fill(role, matched) };
    let shape = context.growth.grown_shape(old.shape())?;
    match source {
        LayerSource::Fresh => D::fresh(old.device(), &shape, new),
        LayerSource::Same(_) | LayerSource::Copy(_) => old.device().grow(old, shape, &maps, new),
    }
}
