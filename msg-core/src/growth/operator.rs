//! Growth operators: values that turn the old tensors of a walk into the new one.

use super::{AxisMap, Fill, GrowsTo, Growth, LayerSource};
use crate::{
    axis::NamedShape,
    device::Backend,
    error::Result,
    params::{Module, Param, ParamName, Role, TensorMap, Visitor},
    random::Key,
};
use dfdx::shapes::{HasShape, Shape};

/// What the new entries of one tensor hold.
#[derive(Clone, Copy, Debug)]
pub struct NewEntries {
    /// Source of their random numbers.
    pub key: Key,
    /// Their rule.
    pub fill: Fill,
}

/// All that an operator may look at: the maps of the growth and every tensor of the old module.
#[derive(Debug)]
pub struct GrowthContext<'a, D> {
    /// The maps.
    pub growth: &'a Growth,
    /// The old tensors, by their old names.
    pub old: &'a TensorMap<D>,
}

/// One way to grow. Implement it in a folder of its own and it serves every module.
pub trait Operator<D: Backend> {
    /// Whether new units begin behind a mask at 0 (and new layers behind a gate at 0).
    fn masked(&self) -> bool;

    /// The grown tensor of the parameter `name` (its name in the grown module).
    ///
    /// # Errors
    /// Where a map does not fit, or the device fails.
    fn tensor<S: NamedShape>(
        &self,
        context: &GrowthContext<'_, D>,
        name: &ParamName,
        role: Role,
    ) -> Result<Param<S, D>>;
}

impl<'a, D: Backend> GrowthContext<'a, D> {
    /// Where the parameter comes from, and under which old name.
    pub fn source(&self, name: &ParamName) -> (LayerSource, ParamName) {
        let Some(layer) = name.layer() else { return (LayerSource::Same(0), name.clone()) };
        let source = self.growth.layer_source(layer);
        match source {
            LayerSource::Same(from) | LayerSource::Copy(from) => (source, name.at_layer(from)),
            // All layers have the same shapes: the first one stands for the shape of a fresh one.
            LayerSource::Fresh => (source, name.at_layer(0)),
        }
    }
}

/// Grows one tensor from its shape type: old entries to their places, new ones by rule.
///
/// ```
/// use dfdx::prelude::*;
/// use msg_core::{axis::{Ffn, Hidden}, growth::*, random::Key};
/// let dev = Cpu::default();
/// let w = dev.tensor_from_vec(vec![1., 2., 3., 4.], (Ffn(2), Hidden(2)));
/// let growth = Growth::new(7, 1).with_axis(AxisMap::append("Hidden", 2, 3).unwrap());
/// let zeros = NewEntries { key: Key::new(7, "w", 1), fill: Fill::Constant(0.0) };
/// let w: Tensor<(Ffn, Hidden), f32, Cpu> = grow_tensor(&w, &growth, zeros).unwrap();
/// assert_eq!(w.as_vec(), [1., 2., 0., 3., 4., 0.]);
/// ```
///
/// # Errors
/// Where a map does not fit its axis, or the device fails.
pub fn grow_tensor<S: GrowsTo<To>, To: Shape, D: Backend>(
    old: &Param<S, D>,
    growth: &Growth,
    new: NewEntries,
) -> Result<Param<To, D>> {
    let maps = old.shape().axis_maps(growth)?;
    let shape = old.shape().grown(growth)?;
    old.device().grow(old, shape, &maps, new)
}

/// Whether any of the maps changes its axis.
pub(crate) fn any_grows(maps: &[AxisMap]) -> bool {
    maps.iter().any(AxisMap::grows)
}

/// Grows a module. The old one is left as it was, whatever happens.
///
/// # Errors
/// Where the maps do not fit the module, or the device fails.
pub fn grow<D: Backend, M: Module<D>, O: Operator<D>>(
    module: &M,
    growth: &Growth,
    operator: &O,
) -> Result<M> {
    struct Grow<'a, D: Backend, O> {
        context: GrowthContext<'a, D>,
        operator: &'a O,
    }
    impl<D: Backend, O: Operator<D>> Visitor<D> for Grow<'_, D, O> {
        fn visit<S: NamedShape>(
            &mut self,
            name: &ParamName,
            role: Role,
            tensor: &mut Param<S, D>,
        ) -> Result<()> {
            *tensor = self.operator.tensor(&self.context, name, role)?;
            Ok(())
        }
    }
    let old = module.tensors();
    let mut grown = module.clone();
    if let Some(depth) = growth.depth() {
        grown.arrange_layers(depth)?;
    }
    let mut visitor = Grow { context: GrowthContext { growth, old: &old }, operator };
    grown.walk(&ParamName::root(), &mut visitor)?;
    Ok(grown)
}
