//! The operator of exact growth. [`super`] explains the rules.

use crate::function_preserving::{architecture::ResidualForm, units::Units};
use dfdx::shapes::HasShape;
use msg_core::{
    Backend,
    axis::{Axis, Hidden, NamedShape},
    error::{Error, Result},
    growth::{FillRule, Growth, GrowthContext, LayerSource, Operator, Preserves, filled},
    ops::NormOrder,
    params::{Flow, Kind, Param, ParamName, Role},
};

/// Largest difference of an output as a share of the largest one: sums have other orders and factors.
const TOLERANCE: f64 = 1e-5;

/// Exact growth of a family of this form. The growth's map of a post-norm Hidden must be copies of the whole.
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    /// The fill rule for entries that the construction leaves free.
    pub rule: FillRule,
    /// The family's form.
    pub form: ResidualForm,
}

/// The position of a layer of the grown model among old and new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LayerPosition {
    /// No layer, or an old one under an old one or under nothing.
    Plain,
    /// An old layer under a new one.
    Covered,
    /// A new layer above this old one; `last` if the next layer above is old or there is none.
    New { below: usize, last: bool },
}

impl LayerPosition {
    fn of(growth: &Growth, layer: Option<usize>) -> Result<Self> {
        let (Some(depth), Some(layer)) = (growth.depth(), layer) else { return Ok(LayerPosition::Plain) };
        let layers = depth.layers();
        let is_old = |source: &LayerSource| matches!(source, LayerSource::Same(_));
        let covered = layers.get(layer + 1).is_some_and(|above| !is_old(above));
        match layers.get(layer) {
            Some(LayerSource::Same(_)) => {
                Ok(if covered { LayerPosition::Covered } else { LayerPosition::Plain })
            }
            _ => {
                let below = layers[..layer.min(layers.len())].iter().rev().find_map(|source| match source {
                    LayerSource::Same(old) => Some(*old),
                    _ => None,
                });
                let old = depth.old_layers();
                let below = below.ok_or(Error::Depth { expected: 0, got: old, old })?;
                Ok(LayerPosition::New { below, last: !covered })
            }
        }
    }
}

impl<D: Backend> Operator<D> for Exact {
    fn masked(&self) -> bool {
        false
    }

    fn preserves(&self) -> Preserves {
        Preserves::Within(TOLERANCE)
    }

    fn describe(&self) -> String {
        format!("function-preserving, free entries {}", self.rule)
    }

    /// The last new layer over an old one has that one's closing norm.
    fn source(&self, growth: &Growth, name: &ParamName, role: Role) -> Result<(LayerSource, ParamName)> {
        let norm =
            matches!(role.kind, Kind::NormWeight | Kind::NormBias) && self.form.order == NormOrder::Post;
        match LayerPosition::of(growth, name.layer())? {
            LayerPosition::New { below, last: true } if norm && (self.form.closing_norm)(name) => {
                Ok((LayerSource::Copy(below), name.at_layer(below)))
            }
            _ => Ok(growth.source(name)),
        }
    }

    fn tensor<S: NamedShape>(
        &self,
        context: &GrowthContext<'_, D>,
        name: &ParamName,
        role: Role,
    ) -> Result<Param<S, D>> {
        let Exact { rule, form } = *self;
        let position = LayerPosition::of(context.growth, name.layer())?;
        let source = Operator::<D>::source(self, context.growth, name, role)?;
        let norm = matches!(role.kind, Kind::NormWeight | Kind::NormBias);
        let mut identity = false;
        if norm && form.order == NormOrder::Post {
            match position {
                LayerPosition::Plain => {}
                LayerPosition::Covered => identity = (form.closing_norm)(name),
                LayerPosition::New { last, .. } => identity = !(last && (form.closing_norm)(name)),
            }
        }
        let old = context.old.get::<S>("growth", &source.1)?;
        let (axes, maps) = (old.shape().axes(), context.growth.axis_maps(old.shape())?);
        let grown: Param<S, D> = filled(rule, context, source, name, role)?;

        let mut edits: Vec<Edit> = Vec::new();
        for (axis, (info, map)) in axes.iter().zip(&maps).enumerate().filter(|(_, (_, map))| map.grows()) {
            let (old, share) = (map.old_size(), map.old_size() as f64 / map.new_size() as f64);
            let flow = role.flow.get(axis).copied().unwrap_or(Flow::Produces);
            match (info.grows_as, flow, form.order) {
                (name, Flow::Consumes, _) if name != Hidden::NAME => edits.push(Edit::Zero { axis, old }),
                (Hidden::NAME, Flow::Produces, NormOrder::Pre) => edits.push(match role.kind {
                    Kind::NormWeight => Edit::Scale { factor: share.sqrt() as f32 },
                    Kind::NormBias => Edit::Zero { axis, old },
                    Kind::Weight | Kind::Bias | Kind::Embedding => Edit::Mean { axis, old },
                }),
                (Hidden::NAME, Flow::Consumes, NormOrder::Post) => {
                    edits.push(Edit::Scale { factor: share as f32 });
                }
                (Hidden::NAME, Flow::Produces, NormOrder::Post) if (form.tied_norm)(name) => {
                    edits.push(Edit::Scale { factor: share as f32 });
                }
                _ => {}
            }
        }
        let writes_back = matches!(role.kind, Kind::Weight | Kind::Bias)
            && axes.first().is_some_and(|axis| axis.grows_as == Hidden::NAME)
            && role.flow.first() == Some(&Flow::Produces);
        if matches!(position, LayerPosition::New { .. }) && writes_back {
            edits.push(Edit::All(0.0));
        }
        if identity {
            edits.push(Edit::All(if role.kind == Kind::NormWeight { 1.0 } else { 0.0 }));
        }
        if edits.is_empty() {
            return Ok(grown);
        }
        let mut units = Units::of(&grown)?;
        edits.iter().for_each(|edit| edit.make(&mut units));
        units.tensor(grown.device(), *grown.shape())
    }
}

/// One change of a grown tensor.
#[derive(Clone, Copy, Debug)]
enum Edit {
    /// Units from `old` on become 0.
    Zero { axis: usize, old: usize },
    /// Units from `old` on become the mean of those before.
    Mean { axis: usize, old: usize },
    /// All entries are multiplied.
    Scale { factor: f32 },
    /// All entries become this.
    All(f32),
}

impl Edit {
    fn make(self, units: &mut Units) {
        match self {
            Edit::Zero { axis, old } => units.along(axis, |unit, value| {
                if unit >= old {
                    *value = 0.0;
                }
            }),
            Edit::Mean { axis, old } => units.carry_mean(axis, old),
            Edit::Scale { factor } => units.along(0, |_, value| *value *= factor),
            Edit::All(constant) => units.along(0, |_, value| *value = constant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use msg_core::growth::DepthMap;

    #[test]
    fn layers_know_what_they_stand_on() {
        let of = |depth: DepthMap| {
            let growth = Growth::new(0, 1).with_depth(depth);
            let layers = growth.depth().map_or(0, |depth| depth.layers().len());
            (0..layers)
                .map(|layer| LayerPosition::of(&growth, Some(layer)).expect("a position"))
                .collect::<Vec<_>>()
        };
        let new = |below, last| LayerPosition::New { below, last };
        assert_eq!(
            of(DepthMap::stack(2, 4).expect("larger")),
            [LayerPosition::Plain, LayerPosition::Covered, new(1, false), new(1, true)]
        );
        assert_eq!(
            of(DepthMap::interpolate(2, 3).expect("larger")),
            [LayerPosition::Covered, new(0, true), LayerPosition::Plain]
        );
        let at_the_bottom = DepthMap::new(1, vec![LayerSource::Fresh, LayerSource::Same(0)]).expect("a map");
        assert!(LayerPosition::of(&Growth::new(0, 1).with_depth(at_the_bottom), Some(0)).is_err());
    }
}
