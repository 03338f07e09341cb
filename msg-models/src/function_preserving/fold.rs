//! Masks and spare heads into weights, for programs that have neither.

use crate::{
    function_preserving::{
        architecture::Architecture,
        heads::{self, Heads, Padding},
        units::Units,
    },
    growing::state::GrowthState,
    sizes::{GrowingAxis, Sizes},
};
use dfdx::shapes::HasShape;
use msg_core::{
    Backend,
    axis::{Axis, Hidden, NamedShape},
    error::Error,
    growth::Ramps,
    ops::NormOrder,
    params::{Flow, Kind, Param, ParamName, Role, Visitor},
};
use std::collections::BTreeMap;

/// Why a model cannot be folded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unfoldable {
    /// The residual stream is masked: its norms count masked units by their share.
    #[error("masks of the residual stream cannot be folded into weights: train to the end of their ramp")]
    HiddenMask,
    /// A post-norm layer stands behind a gate, which blends it with its input.
    #[error(
        "the gate of layer {layer} cannot be folded into a post-norm layer: train to the end of its ramp"
    )]
    LayerGate {
        /// The layer.
        layer: usize,
    },
    /// The heads have more units than the residual stream.
    #[error("{heads} heads of size {head_dim} are {} units, more than hidden {hidden}: a head would have to go", heads * head_dim)]
    TooManyHeads {
        /// Heads.
        heads: usize,
        /// Size of one.
        head_dim: usize,
        /// Units of the residual stream.
        hidden: usize,
    },
    /// No number of heads fits.
    #[error("no number of at least {heads} heads of at least {head_dim} units divides hidden {hidden}")]
    NoHeads {
        /// Heads.
        heads: usize,
        /// Size of one.
        head_dim: usize,
        /// Units of the residual stream.
        hidden: usize,
    },
    /// The device or the model refused.
    #[error(transparent)]
    Core(#[from] Error),
}

/// What was folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Masks, by the name of their axis; `layers` for gates.
    pub masks: Vec<&'static str>,
    /// Number and size of the heads before and after, where they changed.
    pub heads: Option<[(usize, usize); 2]>,
}

/// What a fold does: the masks of its step, and the heads that come of it.
struct Plan {
    scale: Scale,
    masks: Vec<&'static str>,
    heads: [Heads; 2],
}

impl Plan {
    fn new(growing: &GrowthState, order: NormOrder, step: u64) -> Result<Self, Unfoldable> {
        let GrowthState { sizes, ramps, .. } = growing;
        let mut units = BTreeMap::new();
        let mut masks = Vec::new();
        for axis in sizes.tensor_axes(growing.head_dim) {
            let values = ramps.values_for(&axis, step)?;
            let Some(values) = values.filter(|values| values.iter().any(|&c| c != 1.0)) else { continue };
            if axis.name == Hidden::NAME {
                return Err(Unfoldable::HiddenMask);
            }
            units.insert(axis.name, values);
            masks.push(axis.name);
        }
        let gates: Vec<f32> = (0..sizes.layers).map(|layer| ramps.gate(layer, step).value()).collect();
        let gated = gates.iter().position(|&gate| gate != 1.0);
        if let (Some(layer), NormOrder::Post) = (gated, order) {
            return Err(Unfoldable::LayerGate { layer });
        }
        let heads = [Heads { count: sizes.heads, size: growing.head_dim }, fitting(growing)?];
        masks.extend(gated.map(|_| GrowingAxis::Layers.key()));
        Ok(Plan { scale: Scale { units, gates }, masks, heads })
    }
}

/// Whether a model can be folded in the step `step`.
///
/// # Errors
/// The reason why not.
pub fn check_foldable<D: Backend, M: Architecture<D>>(model: &M, step: u64) -> Result<(), Unfoldable> {
    Plan::new(model.growing(), M::FORM.order, step).map(|_| ())
}

/// The model without masks and with heads that fill the residual stream, computing what it does in the step
/// `step`. Its tensors are changed one after another.
///
/// # Errors
/// The reason why it cannot be folded.
pub fn fold<D: Backend, M: Architecture<D>>(mut model: M, step: u64) -> Result<(M, Folded), Unfoldable> {
    let Plan { mut scale, masks, heads: [from, to] } = Plan::new(model.growing(), M::FORM.order, step)?;
    if !masks.is_empty() {
        model.walk(&ParamName::root(), &mut scale)?;
    }
    model.growing_mut().ramps = Ramps::default();
    let heads = (from != to).then_some([(from.count, from.size), (to.count, to.size)]);
    Ok((heads::reshape(model, to, Padding::Zeros)?, Folded { masks, heads }))
}

/// The heads that fill the residual stream: as they are, more of their size, as many larger ones, or the
/// fewest that do.
fn fitting(growing: &GrowthState) -> Result<Heads, Unfoldable> {
    let (Sizes { hidden, heads, .. }, head_dim) = (growing.sizes, growing.head_dim);
    if heads * head_dim > hidden {
        return Err(Unfoldable::TooManyHeads { heads, head_dim, hidden });
    }
    let more = hidden.is_multiple_of(head_dim).then(|| hidden / head_dim);
    let larger = || (heads..=hidden / head_dim).find(|count| hidden.is_multiple_of(*count));
    match more.or_else(larger) {
        Some(count) => Ok(Heads { count, size: hidden / count }),
        None => Err(Unfoldable::NoHeads { heads, head_dim, hidden }),
    }
}

/// Multiplies what produces masked units by their mask, and what a gated layer writes by its gate.
struct Scale {
    /// By the name of the axis.
    units: BTreeMap<&'static str, Vec<f32>>,
    gates: Vec<f32>,
}

impl<D: Backend> Visitor<D> for Scale {
    fn visit<S: NamedShape>(
        &mut self,
        name: &ParamName,
        role: Role,
        tensor: &mut Param<S, D>,
    ) -> msg_core::Result<()> {
        if !matches!(role.kind, Kind::Weight | Kind::Bias) {
            return Ok(());
        }
        let gate = name.layer().and_then(|layer| self.gates.get(layer).copied()).unwrap_or(1.0);
        let axes = tensor.shape().axes();
        let produced =
            axes.iter().zip(role.flow).enumerate().filter(|(_, (_, flow))| **flow == Flow::Produces);
        let mut units = None;
        for (axis, (info, _)) in produced {
            let constant;
            let factors = match info.grows_as {
                Hidden::NAME if gate != 1.0 => {
                    constant = vec![gate; info.size];
                    Some(&constant)
                }
                name => self.units.get(name),
            };
            if let Some(factors) = factors {
                let units = match &mut units {
                    Some(units) => units,
                    none => none.insert(Units::of(tensor)?),
                };
                units.along(axis, |unit, value| *value *= factors[unit]);
            }
        }
        if let Some(units) = units {
            *tensor = units.tensor(&tensor.device().clone(), *tensor.shape())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes;

    #[test]
    fn spare_units_become_heads_of_the_same_size_or_larger_ones() {
        let fitted = |hidden, heads, head_dim| {
            let growing =
                GrowthState::new(sizes! { layers: 1, hidden, ffn: 1, heads }, head_dim).expect("sizes");
            fitting(&growing).map(|heads| (heads.count, heads.size))
        };
        assert_eq!(fitted(12, 2, 4), Ok((3, 4)));
        assert_eq!(fitted(12, 3, 4), Ok((3, 4)));
        assert_eq!(fitted(10, 2, 4), Ok((2, 5)));
        assert_eq!(fitted(9, 2, 2), Ok((3, 3)));
        assert_eq!(fitted(8, 3, 4), Err(Unfoldable::TooManyHeads { heads: 3, head_dim: 4, hidden: 8 }));
        assert_eq!(fitted(7, 2, 3), Err(Unfoldable::NoHeads { heads: 2, head_dim: 3, hidden: 7 }));
    }
}
