//! Decoupled AdamW over a module's walk, with moments and ages that grow.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod step;

use super::{
    birth_steps::{BirthSteps, StatePolicy},
    kernel::{OptimKernel, OptimizerPass, status_of},
    status::UpdateStatus,
};
use crate::{
    axis::NamedShape,
    error::{Context, Error, Result},
    growth::{AxisMap, Fill, GrowKernel, Growth, GrowthContext, LayerSource, NewEntries},
    params::{Module, Param, ParamName, Role, TensorMap, Visitor},
};
use dfdx::{shapes::HasShape, tensor::Gradients};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use step::{AdamStep, AgeGroup};

/// Hyper-parameters that stay the same during a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay on weights and tables.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

impl AdamWConfig {
    /// Refuses numbers that no update can be made with.
    ///
    /// # Errors
    /// [`Error::Value`] names the number.
    pub fn check(&self) -> Result<()> {
        let share = |beta: f64| (0.0..1.0).contains(&beta);
        within("adamw: beta1", "at least 0 and less than 1", self.beta1, share)?;
        within("adamw: beta2", "at least 0 and less than 1", self.beta2, share)?;
        // With an eps of 0 an entry that never had a gradient would become 0 / 0; so in f32 it must not vanish.
        within("adamw: eps", "a positive f32", self.eps, |eps| eps.is_finite() && eps as f32 > 0.0)?;
        let decay = |decay: f64| decay.is_finite() && decay >= 0.0;
        within("adamw: weight_decay", "at least 0", self.weight_decay, decay)
    }
}

/// Refuses a number that is not `admissible`.
fn within(
    what: &'static str,
    expected: &'static str,
    got: f64,
    admissible: impl Fn(f64) -> bool,
) -> Result<()> {
    if admissible(got) { Ok(()) } else { Err(Error::Value { what, expected, got }) }
}

/// What differs from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate in force.
    pub lr: f64,
    /// Largest global norm of the gradient; larger ones are scaled down to it.
    pub clip: Option<f64>,
    /// Factor on the learning rate of the entries born at `new_since` (`rewarm-new`), whatever the
    /// [`StatePolicy`] says about their age.
    pub new_factor: f64,
    /// What [`AdamW::applied`] was at the boundary that `new_factor` is about; entries born at others keep
    /// the full rate. Entries that were there from the start are born at 0.
    pub new_since: u64,
}

impl Update {
    /// A plain update.
    pub fn at(lr: f64) -> Self {
        Update { lr, clip: None, new_factor: 1.0, new_since: u64::MAX }
    }

    /// Refuses numbers that would spoil the parameters.
    ///
    /// # Errors
    /// [`Error::Value`] names the number.
    pub fn check(&self) -> Result<()> {
        let rate = |rate: f64| rate.is_finite() && rate >= 0.0;
        within("adamw: lr", "at least 0", self.lr, rate)?;
        within("adamw: new_factor", "at least 0", self.new_factor, rate)?;
        let clip = self.clip.unwrap_or(1.0);
        within("adamw: clip", "more than 0", clip, |clip| clip > 0.0)
    }
}

/// AdamW with its state: two moments per parameter, and birth steps.
///
/// Whether an update is applied is found out on the device: [`AdamW::apply`] queues it there and waits for
/// nothing, [`AdamW::settle`] reads what became of it.
#[derive(Debug)]
pub struct AdamW<D: OptimKernel> {
    config: AdamWConfig,
    first: TensorMap<D>,
    second: TensorMap<D>,
    birth_steps: BirthSteps,
    /// Settled updates that were applied.
    applied: u64,
    /// The status of the last update, on the device.
    latest: Option<D::DeviceStatus>,
    /// Whether it is still to be settled.
    pending: bool,
    /// Whether someone else may have clones of the moments, which the next update must not reach.
    shared: AtomicBool,
    /// The last status that was read.
    status: UpdateStatus,
}

/// The first and the second moment of one parameter.
pub type Moments<'a, S, D> = (&'a Param<S, D>, &'a Param<S, D>);

/// The global norm of a module's gradient.
///
/// # Errors
/// Where the device fails.
pub fn grad_norm<D: OptimKernel, M: Module<D>>(module: &M, grads: &mut Gradients<f32, D>) -> Result<f64> {
    Ok(status_of::<D>(squares(module, grads, None)?)?.norm())
}

/// An update that has seen all gradients of a module.
fn squares<'g, D: OptimKernel, M: Module<D>>(
    module: &M,
    grads: &'g mut Gradients<f32, D>,
    reuse: Option<D::DeviceStatus>,
) -> Result<D::Pass<'g>> {
    struct Squares<'g, D: OptimKernel> {
        /// What the pass is begun with, at the first parameter.
        start: Option<(&'g mut Gradients<f32, D>, Option<D::DeviceStatus>)>,
        pass: Option<D::Pass<'g>>,
    }
    impl<D: OptimKernel> Visitor<D> for Squares<'_, D> {
        fn visit<S: NamedShape>(&mut self, _: &ParamName, _: Role, tensor: &mut Param<S, D>) -> Result<()> {
            if let Some((grads, reuse)) = self.start.take() {
                self.pass = Some(tensor.device().begin_pass(grads, reuse)?);
            }
            self.pass.as_mut().map_or(Ok(()), |pass| pass.add_squares(tensor))
        }
    }
    let mut squares = Squares { start: Some((grads, reuse)), pass: None };
    module.inspect(&mut squares)?;
    squares.pass.ok_or(Error::Zero { what: "parameters of a module with gradients" })
}

impl<D: OptimKernel> AdamW<D> {
    /// A fresh state for a module: zero moments, all ages 0.
    ///
    /// # Errors
    /// Where [`AdamWConfig::check`] refuses, or the device fails.
    pub fn new<M: Module<D>>(module: &M, config: AdamWConfig) -> Result<Self> {
        config.check()?;
        let zeros = || {
            let mut visitor = Zeros(TensorMap::default());
            module.inspect(&mut visitor).map(|()| visitor.0)
        };
        Ok(Self::owning(config, (zeros()?, zeros()?), BirthSteps::default(), 0))
    }

    /// A state whose moments are nobody else's.
    fn owning(
        config: AdamWConfig,
        (first, second): (TensorMap<D>, TensorMap<D>),
        birth_steps: BirthSteps,
        applied: u64,
    ) -> Self {
        AdamW {
            config,
            first,
            second,
            birth_steps,
            applied,
            latest: None,
            pending: false,
            shared: false.into(),
            status: UpdateStatus::default(),
        }
    }

    /// A state from its parts, as a checkpoint holds them. [`AdamW::step`] refuses a module that does not
    /// fit them.
    ///
    /// # Errors
    /// Where [`AdamWConfig::check`] refuses.
    pub fn restored(
        config: AdamWConfig,
        moments: (TensorMap<D>, TensorMap<D>),
        birth_steps: BirthSteps,
        applied: u64,
    ) -> Result<Self> {
        config.check()?;
        Ok(AdamW { shared: true.into(), ..Self::owning(config, moments, birth_steps, applied) })
    }

    /// The number of updates applied so far, up to the last that was settled.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The birth steps of units and layers.
    pub fn birth_steps(&self) -> &BirthSteps {
        &self.birth_steps
    }

    /// The first and second moment of a parameter. Clones of them keep their values.
    ///
    /// # Errors
    /// [`Error::Missing`] for a name or shape that the state does not have.
    pub fn moments<S: NamedShape>(&self, name: &ParamName) -> Result<Moments<'_, S, D>> {
        self.shared.store(true, Ordering::Relaxed);
        Ok((self.first.get("moments", name)?, self.second.get("moments", name)?))
    }

    /// Queues one update on the device. Only an earlier one that is not settled yet is waited for.
    ///
    /// A loss or a gradient that is not finite leaves parameters, moments and ages untouched. A parameter
    /// without a gradient (of a layer whose gate is at 0) has a zero one: it decays, its moments fade and it
    /// ages as others do.
    ///
    /// # Errors
    /// Where [`Update::check`] refuses or the module has parameters that the state does not know, before
    /// anything is changed; [`Error::Zero`] for a module without parameters; or where the device fails.
    pub fn apply<M: Module<D>>(
        &mut self,
        module: &mut M,
        grads: &mut Gradients<f32, D>,
        loss: Option<&Param<(), D>>,
        update: Update,
    ) -> Result<()> {
        update.check()?;
        module.inspect(&mut Fits(self))?;
        self.settle()?;
        let mut pass = squares(module, grads, self.latest.take())?;
        pass.check_finite_and_clip(loss, update.clip.unwrap_or(f64::INFINITY))?;
        let shared = *self.shared.get_mut();
        let mut visitor = Apply { optimizer: self, update, pass: &mut pass, shared };
        let walked = module.walk(&ParamName::root(), &mut visitor);
        // Even where the walk failed: tensors that were handed over wait for it.
        self.latest = Some(pass.finish()?);
        self.pending = true;
        *self.shared.get_mut() = walked.is_err();
        walked
    }

    /// Waits for the last update and tells what became of it; before the first one, a default status.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn settle(&mut self) -> Result<UpdateStatus> {
        if let Some(latest) = self.latest.as_ref().filter(|_| self.pending) {
            self.status = D::read_status(latest)?;
            self.applied += u64::from(self.status.applied);
            self.pending = false;
        }
        Ok(self.status)
    }

    /// [`AdamW::apply`] without a loss, then [`AdamW::settle`]: returns the gradient's global norm before
    /// clipping. Where it is not finite, nothing has changed.
    ///
    /// # Errors
    /// As [`AdamW::apply`].
    pub fn step<M: Module<D>>(
        &mut self,
        module: &mut M,
        grads: &mut Gradients<f32, D>,
        update: Update,
    ) -> Result<f64> {
        self.apply(module, grads, None, update)?;
        Ok(self.settle()?.norm())
    }

    /// The numbers, in the next update, of the age group born at `birth` whose age counts from `start`.
    fn group(&self, birth: u64, start: u64, update: &Update) -> AgeGroup {
        let age = (self.applied + 1 - start) as f64;
        let factor = if birth == update.new_since { update.new_factor } else { 1.0 };
        let lr = update.lr * factor;
        AgeGroup {
            lr: lr as f32,
            step_size: (lr / (1.0 - self.config.beta1.powf(age))) as f32,
            root_correction: (1.0 - self.config.beta2.powf(age)).sqrt() as f32,
        }
    }

    /// The state for the grown module: moments by the same maps with zeros in new entries (those of
    /// copied units and layers too), birth steps by the policy. `grown` is the module after `growth`.
    ///
    /// # Errors
    /// Where the maps do not fit the state or the grown module, or the device fails.
    pub fn grown<M: Module<D>>(&self, grown: &M, growth: &Growth, policy: StatePolicy) -> Result<Self>
    where
        D: GrowKernel,
    {
        let pending = self.latest.as_ref().filter(|_| self.pending).map(D::read_status).transpose()?;
        let applied = self.applied + pending.map_or(0, |status| u64::from(status.applied));
        let mut birth_steps = self.birth_steps.clone();
        birth_steps.grow(growth, applied, policy)?;
        if policy == StatePolicy::Reset {
            return Ok(AdamW { birth_steps, applied, ..Self::new(grown, self.config)? });
        }
        let moments = |old: &TensorMap<D>| {
            let context = GrowthContext { growth, old };
            let mut visitor = GrowMoments { context, grown: TensorMap::default() };
            grown.inspect(&mut visitor).map(|()| visitor.grown)
        };
        Ok(Self::owning(self.config, (moments(&self.first)?, moments(&self.second)?), birth_steps, applied))
    }
}

/// Refuses a module that the state is not for.
struct Fits<'a, D: OptimKernel>(&'a AdamW<D>);

impl<D: OptimKernel> Visitor<D> for Fits<'_, D> {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, tensor: &mut Param<S, D>) -> Result<()> {
        for moments in [&self.0.first, &self.0.second] {
            let moment = moments.get::<S>("adamw", name)?;
            same_shape(name, moment.shape(), tensor.shape())?;
        }
        self.0.birth_steps.age_groups(&tensor.shape().axes(), name.layer())?;
        Ok(())
    }
}

/// Refuses moments of another size than their parameter.
fn same_shape<S: NamedShape>(name: &ParamName, moment: &S, parameter: &S) -> Result<()> {
    if moment == parameter {
        return Ok(());
    }
    Err(Error::Missing { op: "adamw: moments of this size", name: name.to_string() })
}

/// Makes a zero tensor for every parameter.
struct Zeros<D>(TensorMap<D>);

impl<D: OptimKernel> Visitor<D> for Zeros<D> {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, tensor: &mut Param<S, D>) -> Result<()> {
        self.0.insert(name, tensor.device().try_zeros_like(tensor.shape()).during("adamw")?);
        Ok(())
    }
}

/// Grows one moment of every parameter.
struct GrowMoments<'a, D> {
    context: GrowthContext<'a, D>,
    grown: TensorMap<D>,
}

impl<D: GrowKernel> Visitor<D> for GrowMoments<'_, D> {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, tensor: &mut Param<S, D>) -> Result<()> {
        let (source, old_name) = self.context.source(name);
        let device = tensor.device();
        let moment = match source {
            LayerSource::Same(_) => {
                let growth = self.context.growth;
                let old = self.context.old.get::<S>("adamw", &old_name)?;
                same_shape(name, &growth.grown_shape(old.shape())?, tensor.shape())?;
                // A copied unit has its source's weights and no history: its moments are zero.
                let maps = growth.axis_maps(old.shape())?;
                let maps: Vec<_> = maps.iter().map(AxisMap::without_copies).collect();
                let zeros = NewEntries { key: growth.key(name), fill: Fill::Constant(0.0) };
                device.grow(old, *tensor.shape(), &maps, zeros)?
            }
            LayerSource::Copy(_) | LayerSource::Fresh => {
                device.try_zeros_like(tensor.shape()).during("adamw")?
            }
        };
        self.grown.insert(name, moment);
        Ok(())
    }
}

/// OptimizerPass every parameter.
struct Apply<'a, D: OptimKernel, P> {
    optimizer: &'a mut AdamW<D>,
    update: Update,
    pass: &'a mut P,
    /// Whether someone else may have clones of the moments.
    shared: bool,
}

impl<D: OptimKernel, P: OptimizerPass<D>> Visitor<D> for Apply<'_, D, P> {
    fn visit<S: NamedShape>(&mut self, name: &ParamName, role: Role, tensor: &mut Param<S, D>) -> Result<()> {
        let optimizer = &mut *self.optimizer;
        let groups = optimizer.birth_steps.age_groups(&tensor.shape().axes(), name.layer())?;
        let ages = groups.births.iter().zip(&groups.starts);
        let table: Vec<AgeGroup> =
            ages.map(|(&birth, &start)| optimizer.group(birth, start, &self.update)).collect();
        let sizes: Vec<usize> = tensor.shape().axes().iter().map(|axis| axis.size).collect();
        let config = optimizer.config;
        let step = AdamStep {
            sizes: &sizes,
            units: &groups.units,
            groups: &table,
            first_share: (1.0 - config.beta1) as f32,
            beta2: config.beta2 as f32,
            second_share: (1.0 - config.beta2) as f32,
            eps: config.eps as f32,
            weight_decay: if role.decays() { config.weight_decay as f32 } else { 0.0 },
        };
        let first = optimizer.first.get_mut::<S>("adamw", name)?;
        let second = optimizer.second.get_mut::<S>("adamw", name)?;
        if self.shared {
            D::make_unique(first)?;
            D::make_unique(second)?;
        }
        self.pass.adamw(tensor, first, second, &step)
    }
}
