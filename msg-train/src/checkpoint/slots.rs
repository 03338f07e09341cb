//! An optimizer's slots in a checkpoint: a file each, named after the slot, with the tensors of the parameters that have
//! it, under the parameters' names.

use super::slot_file;
use crate::{error::Result, families::family::Family};
use msg_core::{
    Backend,
    axis::NamedShape,
    optim::{AnyOptimizer, OptimizerConfig, Rule},
    params::{Module, Param, ParamName, Role, TensorMap, Visitor},
};
use msg_models::hf::{self, TensorFile};
use std::{collections::BTreeMap, path::Path};

/// The kind of the optimizer whose checkpoints do not say it: the first that there was.
pub(super) const UNSAID: &str = "adamw";

/// Writes a file for each slot.
pub(super) fn write<D: Backend, M: Family<D>>(
    folder: &Path,
    model: &M,
    optimizer: &AnyOptimizer<D>,
    notes: &BTreeMap<String, String>,
) -> Result<()> {
    for (slot, tensors) in optimizer.slots() {
        let mut part = Part { module: model.clone(), rule: *optimizer.rule(), slot };
        part.walk(&ParamName::root(), &mut Fill(tensors))?;
        hf::save(&part, &M::NAMING, notes, folder.join(slot_file(slot)))?;
    }
    Ok(())
}

/// Reads the slots of a rule, in its order. `model` says names and shapes.
pub(super) fn read<D: Backend, M: Family<D>>(
    folder: &Path,
    model: &M,
    rule: OptimizerConfig,
) -> Result<Vec<TensorMap<D>>> {
    let slots = rule.slots().iter().map(|slot| {
        let part = Part { module: model.clone(), rule, slot };
        let file = TensorFile::open(folder.join(slot_file(slot)))?;
        Ok(hf::load(&part, &file.tensors(), &M::NAMING)?.tensors())
    });
    slots.collect()
}

/// The parameters of a module that have a slot.
#[derive(Clone)]
struct Part<M> {
    module: M,
    rule: OptimizerConfig,
    slot: &'static str,
}

impl<D: Backend, M: Module<D>> Module<D> for Part<M> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> msg_core::error::Result<()> {
        let Part { module, rule, slot } = self;
        module.walk(at, &mut Only { visitor, rule: *rule, slot })
    }
}

/// Passes on the parameters that have a slot.
struct Only<'a, V> {
    visitor: &'a mut V,
    rule: OptimizerConfig,
    slot: &'static str,
}

impl<D: Backend, V: Visitor<D>> Visitor<D> for Only<'_, V> {
    fn visit<S: NamedShape>(
        &mut self,
        name: &ParamName,
        role: Role,
        tensor: &mut Param<S, D>,
    ) -> msg_core::error::Result<()> {
        if self.rule.holds(self.slot, &role) { self.visitor.visit(name, role, tensor) } else { Ok(()) }
    }
}

/// Puts a slot's tensors in the place of the parameters.
struct Fill<'a, D>(&'a TensorMap<D>);

impl<D: Backend> Visitor<D> for Fill<'_, D> {
    fn visit<S: NamedShape>(
        &mut self,
        name: &ParamName,
        _: Role,
        tensor: &mut Param<S, D>,
    ) -> msg_core::error::Result<()> {
        *tensor = self.0.get("slots of an optimizer", name)?.clone();
        Ok(())
    }
}
