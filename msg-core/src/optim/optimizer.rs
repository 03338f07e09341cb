//! What all optimizers share: state that grows with a module, births, the walk of an update.
//!
//! An optimizer is a [`Rule`]: its settings, the names of the tensors that it keeps for a parameter (its slots), and
//! on a device ([`RuleOn`]) the update of one parameter. [`Optimizer`] does the rest for every rule.

use super::{
    age_groups::EntryGroups,
    birth_steps::{AgeGroups, BirthSteps, StatePolicy},
    kernel::{OptimKernel, OptimizerPass, status_of},
    rule::{Parameter, Rule, RuleOn, Update},
    status::UpdateStatus,
};
use crate::{
    axis::NamedShape,
    error::{Context, Error, Result},
    growth::{GrowKernel, Growth, GrowthContext, Masked, Operator},
    params::{Module, Param, ParamName, Role, TensorMap, Visitor},
};
use dfdx::{shapes::HasShape, tensor::Gradients};
use std::sync::atomic::{AtomicBool, Ordering};

/// An optimizer with its state: the slots of its rule, and births.
///
/// Whether an update is applied is found out on the device: [`Optimizer::apply`] queues it there and does not wait,
/// [`Optimizer::settle`] reads whether it was applied.
#[derive(Debug)]
pub struct Optimizer<D: OptimKernel, R> {
    rule: R,
    /// The rule's slots, in its order.
    slots: Vec<(&'static str, TensorMap<D>)>,
    birth_steps: BirthSteps,
    /// Settled updates that were applied.
    applied: u64,
    /// The module's parameters, once the first update has checked that the state fits them.
    fitted: Option<Vec<Fitted>>,
    /// The status of the last update.
    status: Option<D::DeviceStatus>,
    /// Whether it has not been settled yet.
    pending: bool,
    /// Whether there may be clones of the slots, which the next update must not reach.
    shared: AtomicBool,
    /// The last update that was settled.
    settled: UpdateStatus,
}

/// What stays the same about a parameter until the next growth.
#[derive(Debug)]
struct Fitted {
    name: ParamName,
    sizes: Vec<usize>,
    ages: AgeGroups,
}

/// The global norm of a module's gradient.
///
/// # Errors
/// [`Error::Zero`] for a module without parameters.
pub fn grad_norm<D: OptimKernel, M: Module<D>>(module: &M, grads: &mut Gradients<f32, D>) -> Result<f64> {
    Ok(status_of::<D>(squares(module, grads, None, |_, _, _| Ok(()))?)?.norm())
}

/// A pass that has seen all gradients of a module; `check` sees the number, name and sizes of each parameter.
fn squares<'g, D: OptimKernel, M: Module<D>>(
    module: &M,
    grads: &'g mut Gradients<f32, D>,
    reuse: Option<D::DeviceStatus>,
    check: impl FnMut(usize, &ParamName, &[usize]) -> Result<()>,
) -> Result<D::Pass<'g>> {
    struct Squares<'g, D: OptimKernel, C> {
        /// What the pass is begun with, at the first parameter.
        start: Option<(&'g mut Gradients<f32, D>, Option<D::DeviceStatus>)>,
        pass: Option<D::Pass<'g>>,
        seen: usize,
        check: C,
    }
    impl<D, C> Visitor<D> for Squares<'_, D, C>
    where
        D: OptimKernel,
        C: FnMut(usize, &ParamName, &[usize]) -> Result<()>,
    {
        fn visit<S: NamedShape>(
            &mut self,
            name: &ParamName,
            _: Role,
            tensor: &mut Param<S, D>,
        ) -> Result<()> {
            (self.check)(self.seen, name, tensor.shape().concrete().as_ref())?;
            self.seen += 1;
            if let Some((grads, reuse)) = self.start.take() {
                self.pass = Some(tensor.device().begin_pass(grads, reuse)?);
            }
            self.pass.as_mut().map_or(Ok(()), |pass| pass.add_squares(tensor))
        }
    }
    let mut squares = Squares { start: Some((grads, reuse)), pass: None, seen: 0, check };
    module.inspect(&mut squares)?;
    squares.pass.ok_or(Error::Zero { what: "parameters of a module with gradients" })
}

impl<D: OptimKernel, R: RuleOn<D>> Optimizer<D, R> {
    /// A fresh state for a module: zeros, all ages 0.
    ///
    /// # Errors
    /// Where [`Rule::check`] refuses.
    pub fn new<M: Module<D>>(module: &M, rule: impl Into<R>) -> Result<Self> {
        let rule = rule.into();
        rule.check()?;
        let slots = rule.slots().iter().map(|&slot| {
            let mut visitor = Zeros { rule: &rule, slot, tensors: TensorMap::default() };
            module.inspect(&mut visitor).map(|()| (slot, visitor.tensors))
        });
        let slots = slots.collect::<Result<_>>()?;
        Ok(Self::owning(rule, slots, BirthSteps::default(), 0))
    }

    /// A state whose slots have no clones.
    fn owning(
        rule: R,
        slots: Vec<(&'static str, TensorMap<D>)>,
        birth_steps: BirthSteps,
        applied: u64,
    ) -> Self {
        Optimizer {
            rule,
            slots,
            birth_steps,
            applied,
            fitted: None,
            status: None,
            pending: false,
            shared: false.into(),
            settled: UpdateStatus::default(),
        }
    }

    /// A state from its parts, as a checkpoint holds them: a map for each of [`Rule::slots`], in that order.
    /// [`Optimizer::apply`] refuses a module that does not fit them.
    ///
    /// # Errors
    /// Where [`Rule::check`] refuses; [`Error::Count`] for another number of slots.
    pub fn restored(
        rule: R,
        slots: Vec<TensorMap<D>>,
        birth_steps: BirthSteps,
        applied: u64,
    ) -> Result<Self> {
        rule.check()?;
        let names = rule.slots();
        if names.len() != slots.len() {
            return Err(Error::Count {
                what: "slots of an optimizer",
                expected: names.len(),
                got: slots.len(),
            });
        }
        let slots = names.iter().copied().zip(slots).collect();
        Ok(Optimizer { shared: true.into(), ..Self::owning(rule, slots, birth_steps, applied) })
    }

    /// The same optimizer under another type of rule, such as one of a list.
    pub fn into_rule<T>(self) -> Optimizer<D, T>
    where
        R: Into<T>,
    {
        let Optimizer { rule, slots, birth_steps, applied, fitted, status, pending, shared, settled } = self;
        let rule = rule.into();
        Optimizer { rule, slots, birth_steps, applied, fitted, status, pending, shared, settled }
    }

    /// The rule.
    pub fn rule(&self) -> &R {
        &self.rule
    }

    /// The number of updates applied so far, up to the last that was settled.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The birth steps of units and layers.
    pub fn birth_steps(&self) -> &BirthSteps {
        &self.birth_steps
    }

    /// The slots by name, in the rule's order. Clones of their tensors keep their values.
    pub fn slots(&self) -> &[(&'static str, TensorMap<D>)] {
        self.shared.store(true, Ordering::Relaxed);
        &self.slots
    }

    /// One slot of a parameter. Clones of it keep their values.
    ///
    /// # Errors
    /// [`Error::Missing`] for a slot, name or shape that the state does not have.
    pub fn slot<S: NamedShape>(&self, slot: &str, name: &ParamName) -> Result<&Param<S, D>> {
        let found = self.slots().iter().find(|(known, _)| *known == slot);
        let missing = || Error::Missing { op: "slots of an optimizer", name: slot.to_owned() };
        found.ok_or_else(missing)?.1.get("slots of an optimizer", name)
    }

    /// Queues one update on the device. Only an earlier one that is not settled yet is waited for.
    ///
    /// A loss or a gradient that is not finite leaves parameters, slots and ages untouched. A parameter
    /// without a gradient (of a layer whose gate is at 0) has a zero one: it decays, its moments fade and it
    /// ages as others do.
    ///
    /// # Errors
    /// Where [`Update::check`] refuses or the module has parameters that the state does not know, before
    /// anything is changed; [`Error::Zero`] for a module without parameters.
    pub fn apply<M: Module<D>>(
        &mut self,
        module: &mut M,
        grads: &mut Gradients<f32, D>,
        loss: Option<&Param<(), D>>,
        update: Update,
    ) -> Result<()> {
        update.check()?;
        self.settle()?;
        let fitted = match self.fitted.take() {
            Some(fitted) => fitted,
            None => self.fit(module)?,
        };
        let known = |at: usize, name: &ParamName, sizes: &[usize]| match fitted.get(at) {
            Some(known) if known.name == *name && known.sizes == sizes => Ok(()),
            _ => Err(unfit(name)),
        };
        let mut pass = squares(module, grads, self.status.take(), known)?;
        pass.check_finite_and_clip(loss, update.clip.unwrap_or(f64::INFINITY))?;
        let make_unique = *self.shared.get_mut();
        let mut visitor =
            Apply { optimizer: self, fitted: fitted.iter(), update, pass: &mut pass, make_unique };
        let walked = module.walk(&ParamName::root(), &mut visitor);
        // Even where the walk failed: tensors that were handed over wait for it.
        self.status = Some(pass.finish()?);
        self.pending = true;
        self.fitted = Some(fitted);
        *self.shared.get_mut() = walked.is_err();
        walked
    }

    /// Waits for the last update and returns its status; before the first one, a default status.
    pub fn settle(&mut self) -> Result<UpdateStatus> {
        if let Some(status) = self.status.as_ref().filter(|_| self.pending) {
            self.settled = D::read_status(status)?;
            self.applied += u64::from(self.settled.applied);
            self.pending = false;
        }
        Ok(self.settled)
    }

    /// [`Optimizer::apply`] without a loss, then [`Optimizer::settle`]: returns the gradient's global norm before
    /// clipping. Where it is not finite, nothing has changed.
    ///
    /// # Errors
    /// As [`Optimizer::apply`].
    pub fn step<M: Module<D>>(
        &mut self,
        module: &mut M,
        grads: &mut Gradients<f32, D>,
        update: Update,
    ) -> Result<f64> {
        self.apply(module, grads, None, update)?;
        Ok(self.settle()?.norm())
    }

    /// Checks that the state fits a module, and keeps what does not change until the next growth.
    fn fit<M: Module<D>>(&self, module: &M) -> Result<Vec<Fitted>> {
        let mut fit = Fit { optimizer: self, fitted: Vec::new() };
        module.inspect(&mut fit).map(|()| fit.fitted)
    }

    /// The state for the grown module: slots by the same maps with zeros in new entries (those of copied units
    /// and layers too), births by the policy. `grown` is the module after `growth`.
    ///
    /// # Errors
    /// Where the maps do not fit the state or the grown module.
    pub fn grown<M: Module<D>>(&self, grown: &M, growth: &Growth, policy: StatePolicy) -> Result<Self>
    where
        D: GrowKernel,
    {
        self.grown_by(grown, growth, policy, &Masked::default())
    }

    /// As [`Optimizer::grown`], slots by the operator that made the grown module ([`Operator::moment`]).
    ///
    /// # Errors
    /// As [`Optimizer::grown`].
    pub fn grown_by<M: Module<D>, O: Operator<D>>(
        &self,
        grown: &M,
        growth: &Growth,
        policy: StatePolicy,
        operator: &O,
    ) -> Result<Self>
    where
        D: GrowKernel,
    {
        let pending = self.status.as_ref().filter(|_| self.pending).map(D::read_status).transpose()?;
        let applied = self.applied + pending.map_or(0, |status| u64::from(status.applied));
        let mut birth_steps = self.birth_steps.clone();
        birth_steps.grow(growth, applied, policy)?;
        if policy == StatePolicy::Reset {
            return Ok(Optimizer { birth_steps, applied, ..Self::new(grown, self.rule.clone())? });
        }
        let slots = self.slots.iter().map(|(slot, old)| {
            let context = GrowthContext { growth, old };
            let grown_slot = TensorMap::default();
            let mut visitor = GrowSlot { rule: &self.rule, slot, operator, context, grown: grown_slot };
            grown.inspect(&mut visitor).map(|()| (*slot, visitor.grown))
        });
        let slots = slots.collect::<Result<_>>()?;
        Ok(Self::owning(self.rule.clone(), slots, birth_steps, applied))
    }
}

/// A parameter that the state is not for.
fn unfit(name: &ParamName) -> Error {
    Error::Missing { op: "optimizer: state of this size", name: name.to_string() }
}

/// Refuses a module that the state is not for.
struct Fit<'a, D: OptimKernel, R> {
    optimizer: &'a Optimizer<D, R>,
    fitted: Vec<Fitted>,
}

impl<D: OptimKernel, R: Rule> Visitor<D> for Fit<'_, D, R> {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, role: Role, tensor: &mut Param<S, D>) -> Result<()> {
        let Optimizer { rule, slots, birth_steps, .. } = self.optimizer;
        for (_, tensors) in slots.iter().filter(|(slot, _)| rule.holds(slot, &role)) {
            let state = tensors.get::<S>("optimizer", name)?;
            if state.shape() != tensor.shape() {
                return Err(unfit(name));
            }
        }
        self.fitted.push(Fitted {
            name: name.clone(),
            sizes: tensor.shape().concrete().as_ref().to_vec(),
            ages: birth_steps.age_groups(&tensor.shape().axes(), name.layer())?,
        });
        Ok(())
    }
}

/// Makes a zero tensor for every parameter with that slot.
struct Zeros<'a, D, R> {
    rule: &'a R,
    slot: &'static str,
    tensors: TensorMap<D>,
}

impl<D: OptimKernel, R: Rule> Visitor<D> for Zeros<'_, D, R> {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, role: Role, tensor: &mut Param<S, D>) -> Result<()> {
        if self.rule.holds(self.slot, &role) {
            self.tensors.insert(name, tensor.device().try_zeros_like(tensor.shape()).during("optimizer")?);
        }
        Ok(())
    }
}

/// Grows one slot of every parameter that has it.
struct GrowSlot<'a, D, R, O> {
    rule: &'a R,
    slot: &'static str,
    operator: &'a O,
    context: GrowthContext<'a, D>,
    grown: TensorMap<D>,
}

impl<D: OptimKernel + GrowKernel, R: Rule, O: Operator<D>> Visitor<D> for GrowSlot<'_, D, R, O> {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, role: Role, tensor: &mut Param<S, D>) -> Result<()> {
        if !self.rule.holds(self.slot, &role) {
            return Ok(());
        }
        let state = self.operator.moment(&self.context, name, role, tensor)?;
        if state.shape() != tensor.shape() {
            return Err(unfit(name));
        }
        self.grown.insert(name, state);
        Ok(())
    }
}

/// Updates every parameter.
struct Apply<'a, D: OptimKernel, R, P> {
    optimizer: &'a mut Optimizer<D, R>,
    fitted: std::slice::Iter<'a, Fitted>,
    update: Update,
    pass: &'a mut P,
    /// Whether there may be clones of the slots.
    make_unique: bool,
}

impl<'g, D: OptimKernel, R: RuleOn<D>> Visitor<D> for Apply<'_, D, R, D::Pass<'g>> {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, role: Role, tensor: &mut Param<S, D>) -> Result<()> {
        let Optimizer { rule, slots, applied, .. } = &mut *self.optimizer;
        let Fitted { sizes, ages, .. } = self.fitted.next().ok_or_else(|| unfit(name))?;
        let held = slots.iter_mut().filter(|(slot, _)| rule.holds(slot, &role));
        let mut slots: Vec<&mut Param<S, D>> =
            held.map(|(_, tensors)| tensors.get_mut("optimizer", name)).collect::<Result<_>>()?;
        if self.make_unique {
            slots.iter_mut().try_for_each(|slot| D::make_unique(slot))?;
        }
        let entries = EntryGroups { sizes, units: &ages.units };
        let born = ages.births.iter().copied().zip(ages.starts.iter().copied()).collect();
        let parameter = Parameter { tensor, slots, role, entries, born, applied: *applied };
        rule.update(self.pass, parameter, &self.update)
    }
}
