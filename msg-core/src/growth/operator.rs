//! Growth operators: values that turn the old tensors of a walk into the new one.

use super::{
    Growth,
    kernel::{Fill, GrowKernel, NewEntries},
    map::AxisMap,
    shape::GrowsTo,
};
use crate::{
    axis::NamedShape,
    error::{Context, Error, Result},
    params::{Module, Param, ParamName, Role, TensorMap, Visitor, depth::LayerSource},
};
use dfdx::shapes::{HasShape, Shape};
use std::collections::BTreeMap;

/// What an operator sees: the maps of the growth and every tensor of the old module.
#[derive(Debug)]
pub struct GrowthContext<'a, D> {
    /// The maps.
    pub growth: &'a Growth,
    /// The old tensors, by their old names.
    pub old: &'a TensorMap<D>,
}

/// What a growth does to the function that a model computes, at the moment of the growth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Preserves {
    /// Nothing: outputs are equal to the bit where sums have a fixed order.
    Bits,
    /// Outputs differ by no more than this share of the largest one.
    Within(f64),
    /// It computes another function.
    No,
}

/// One way to grow, for every module.
pub trait Operator<D: GrowKernel> {
    /// Whether new units begin behind a mask at 0 (and new layers behind a gate at 0).
    fn masked(&self) -> bool;

    /// What it does to the function. A training run holds it to that: what it promises is measured at every growth.
    fn preserves(&self) -> Preserves {
        if self.masked() { Preserves::Bits } else { Preserves::No }
    }

    /// What it is, in a few words for records and reports.
    fn describe(&self) -> String;

    /// The one old parameter that `name` is made from. Override this if it is another one than the maps say; old
    /// tensors are freed after their last use.
    ///
    /// # Errors
    /// Where the layers cannot be made so.
    fn source(&self, growth: &Growth, name: &ParamName, _: Role) -> Result<(LayerSource, ParamName)> {
        Ok(growth.source(name))
    }

    /// The grown tensor of the parameter `name` (its name in the grown module).
    ///
    /// # Errors
    /// Where a map does not fit.
    fn tensor<S: NamedShape>(
        &self,
        context: &GrowthContext<'_, D>,
        name: &ParamName,
        role: Role,
    ) -> Result<Param<S, D>>;

    /// What an optimizer keeps for the parameter `name`, such as a moment, carried over from `context.old`, which holds
    /// it for the old parameters; `tensor` is the grown parameter. By default as [`carried`].
    ///
    /// # Errors
    /// Where a map does not fit.
    fn moment<S: NamedShape>(
        &self,
        context: &GrowthContext<'_, D>,
        name: &ParamName,
        _: Role,
        tensor: &Param<S, D>,
    ) -> Result<Param<S, D>> {
        carried(context, name, tensor)
    }
}

/// State by the maps: old entries keep theirs, new ones start at 0, those of copied units and layers too, which have
/// their source's weights but no history.
///
/// # Errors
/// Where the maps do not fit the state or the grown parameter `tensor`.
pub fn carried<S: NamedShape, D: GrowKernel>(
    context: &GrowthContext<'_, D>,
    name: &ParamName,
    tensor: &Param<S, D>,
) -> Result<Param<S, D>> {
    let (source, old_name) = context.source(name);
    let (growth, device) = (context.growth, tensor.device());
    match source {
        LayerSource::Same(_) => {
            let old = context.old.get::<S>("optimizer", &old_name)?;
            if growth.grown_shape(old.shape())? != *tensor.shape() {
                return Err(Error::Missing { op: "optimizer: state of this size", name: name.to_string() });
            }
            let maps = growth.axis_maps(old.shape())?;
            let maps: Vec<_> = maps.iter().map(AxisMap::without_copies).collect();
            let zeros = NewEntries { key: growth.key(name), fill: Fill::Constant(0.0) };
            device.grow(old, *tensor.shape(), &maps, zeros)
        }
        LayerSource::Copy(_) | LayerSource::Fresh => {
            device.try_zeros_like(tensor.shape()).during("optimizer")
        }
    }
}

impl<D> GrowthContext<'_, D> {
    /// As [`Growth::source`].
    pub fn source(&self, name: &ParamName) -> (LayerSource, ParamName) {
        self.growth.source(name)
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
/// Where a map does not fit its axis.
pub fn grow_tensor<S: GrowsTo<To>, To: Shape, D: GrowKernel>(
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

/// Grows a module. The old one stays unchanged, even after an error.
///
/// # Errors
/// Where the maps do not fit the module.
pub fn grow<D: GrowKernel, M: Module<D>, O: Operator<D>>(
    module: &M,
    growth: &Growth,
    operator: &O,
) -> Result<M> {
    into_grown(module.clone(), growth, operator)
}

/// Like [`grow`], but frees each old tensor after its last use, unless it is shared; peak memory stays below old + new.
///
/// # Errors
/// As [`grow`]; the old module is lost.
pub fn into_grown<D: GrowKernel, M: Module<D>, O: Operator<D>>(
    mut module: M,
    growth: &Growth,
    operator: &O,
) -> Result<M> {
    let old = module.tensors();
    if let Some(depth) = growth.depth() {
        module.arrange_layers(depth)?;
    }
    let mut uses = Uses { growth, operator, of: BTreeMap::new() };
    module.inspect(&mut uses)?;
    let mut visitor = Grow { old, uses };
    module.walk(&ParamName::root(), &mut visitor)?;
    Ok(module)
}

/// How many parameters are still to be made from each old one.
struct Uses<'a, O> {
    growth: &'a Growth,
    operator: &'a O,
    of: BTreeMap<String, usize>,
}

impl<D: GrowKernel, O: Operator<D>> Visitor<D> for Uses<'_, O> {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, role: Role, _: &mut Param<S, D>) -> Result<()> {
        let (_, source) = self.operator.source(self.growth, name, role)?;
        *self.of.entry(source.to_string()).or_default() += 1;
        Ok(())
    }
}

struct Grow<'a, D, O> {
    old: TensorMap<D>,
    uses: Uses<'a, O>,
}

impl<D: GrowKernel, O: Operator<D>> Visitor<D> for Grow<'_, D, O> {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, role: Role, tensor: &mut Param<S, D>) -> Result<()> {
        let Uses { growth, operator, of } = &mut self.uses;
        *tensor = operator.tensor(&GrowthContext { growth, old: &self.old }, name, role)?;
        let (_, source) = operator.source(growth, name, role)?;
        if let Some(left) = of.get_mut(&source.to_string()) {
            *left -= 1;
            if *left == 0 {
                self.old.remove(&source);
            }
        }
        Ok(())
    }
}
