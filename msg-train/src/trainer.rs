//! The loop: one optimizer step after another, growth where the plan says, a record of everything.

use crate::{
    boundary,
    config::{Guard, RunConfig},
    data::Batches,
    error::{Error, Result},
    metrics::{RampEnd, Record, Step},
    plan::{Plan, Stage},
    rate::NewFactor,
    state::State,
    task::{Counts, Task},
};
use dfdx::{tensor::Gradients, tensor_ops::Backward};
use msg_core::{
    device::Backend,
    error::Context,
    mask::Gate,
    ops::Dropout,
    optim::{AdamW, Update},
    params::{tape, zero_grads},
};
use msg_models::Cost;
use std::{sync::Arc, time::Instant};

/// A run under way.
#[derive(Debug)]
pub struct Trainer<D: Backend, M: Task<D>, S> {
    pub(crate) device: D,
    pub(crate) config: RunConfig,
    pub(crate) plan: Plan,
    pub(crate) cost: Cost,
    pub(crate) source: Arc<S>,
    pub(crate) model: M,
    pub(crate) optimizer: AdamW<D>,
    pub(crate) state: State,
    /// Seconds that steps waited for data, since they were last asked for.
    data_seconds: f64,
}

impl<D: Backend, M: Task<D>, S: Batches<Batch = M::Host>> Trainer<D, M, S> {
    /// A run that stands at `state` (a default one: at its start).
    pub fn new(
        device: D,
        config: RunConfig,
        plan: Plan,
        cost: Cost,
        source: Arc<S>,
        (model, optimizer): (M, AdamW<D>),
        state: State,
    ) -> Self {
        Trainer { device, config, plan, cost, source, model, optimizer, state, data_seconds: 0.0 }
    }

    /// Where the run stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The model as it stands.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The optimizer as it stands.
    pub fn optimizer(&self) -> &AdamW<D> {
        &self.optimizer
    }

    /// Seconds that steps waited for data, since the last call.
    pub fn take_data_seconds(&mut self) -> f64 {
        std::mem::take(&mut self.data_seconds)
    }

    /// Whether all steps are made.
    pub fn is_done(&self) -> bool {
        self.state.step >= self.plan.total_steps()
    }

    /// The next optimizer step, and the growth before it where its stage is a new one. `next` gives the
    /// host batches of the step, in order.
    ///
    /// # Errors
    /// [`Error::Receipt`] where a growth changes the function, [`Error::Diverged`] by the guard's
    /// policy, and what data or device refuse. The last checkpoint is not touched by any of them.
    pub fn advance(&mut self, on: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        let step = self.state.step + 1;
        let stage = *self.plan.stage_at(step);
        if stage.number > self.state.stage {
            boundary::cross(self, &stage, on)?;
        }
        let done = self.step(step, &stage)?;
        on(Record::Step(done))?;
        if self.model.growing().ramps.is_empty() {
            return Ok(());
        }
        let kept = self.model.masks_kept(step)?;
        if self.model.retire_ramps(step) {
            let receipt = boundary::ramp_end(self, &kept, step)?;
            on(Record::RampEnd(RampEnd { step, receipt: receipt.into() }))?;
        }
        Ok(())
    }

    /// The micro-batches of the step that starts at the cursor, and the cursor after it.
    fn hosts(&self, stage: &Stage) -> Result<(Vec<M::Host>, u64)> {
        let micro = self.config.train.micro_batch.unwrap_or(stage.batch);
        let mut cursor = self.state.cursor;
        let mut hosts = Vec::with_capacity(stage.batch / micro);
        for _ in 0..stage.batch / micro {
            hosts.push(self.source.batch(cursor, micro, stage.sequence)?);
            cursor = self.source.advance(cursor, micro, stage.sequence);
        }
        Ok((hosts, cursor))
    }

    fn step(&mut self, step: u64, stage: &Stage) -> Result<Step> {
        let start = Instant::now();
        let (hosts, cursor) = self.hosts(stage)?;
        self.data_seconds += start.elapsed().as_secs_f64();
        let counts = hosts.iter().map(M::counts).fold(Counts::default(), |a, b| a + b);
        let (loss, mut grads) = self.gradients(step, &hosts, counts)?;

        let lr = self.plan.lr(step);
        let (new_factor, new_since) = self.new_entries(step);
        let update = Update { lr, clip: self.config.train.clip, new_factor, new_since };
        let grad_norm = match loss.is_finite() {
            true => self.optimizer.step(&mut self.model, &mut grads, update)?,
            false => f64::NAN,
        };
        let skipped = !grad_norm.is_finite();
        if skipped && self.config.train.guard == Guard::Stop {
            return Err(Error::Diverged(format!(
                "step {step}: loss {loss}, gradient norm {grad_norm}: not finite (train.guard = \"stop\"); \
                 the update was not applied"
            )));
        }

        let tokens = (stage.batch * stage.sequence) as u64;
        self.state.step = step;
        self.state.cursor = cursor;
        self.state.tokens += tokens;
        let per_token = self.cost.training_flops(stage.sizes, stage.sequence, self.config.logits());
        self.state.flops += per_token * tokens as f64;
        Ok(Step {
            step,
            stage: stage.number,
            loss,
            lr,
            grad_norm: grad_norm as f32,
            mask: self.smallest_mask(step)?,
            tokens: self.state.tokens,
            flops: self.state.flops,
            skipped,
        })
    }

    /// The step's loss and gradients, summed over its micro-batches; each loss term is divided by its
    /// count over the whole step.
    fn gradients(&self, step: u64, hosts: &[M::Host], counts: Counts) -> Result<(f32, Gradients<f32, D>)> {
        let masks = self.model.masks(step)?;
        let mut grads = zero_grads(&self.model)?;
        let mut total = 0.0;
        for (micro, host) in (0..).zip(hosts) {
            let batch = self.model.upload(host)?;
            let dropout = Dropout::new(self.model.dropout(), self.config.run.seed, step, micro)?;
            let loss = self.model.loss(&batch, counts, &masks, &dropout, tape(&self.device, grads)?)?;
            total += loss.as_vec()[0];
            grads = loss.try_backward().during("backward")?;
        }
        Ok((total, grads))
    }

    /// Factor on the rate of entries born at one boundary, and that boundary in applied updates.
    fn new_entries(&self, step: u64) -> (f64, u64) {
        let NewFactor { factor, since } = self.plan.new_factor(step);
        let birth = self.state.births.iter().find(|(steps, _)| *steps == since);
        birth.map_or((1.0, u64::MAX), |&(_, applied)| (factor, applied))
    }

    fn smallest_mask(&self, step: u64) -> Result<f32> {
        let growing = self.model.growing();
        let (sizes, head_dim) = (growing.sizes, growing.head_dim());
        let axes = [
            growing.ramps.values(&sizes.hidden(), step)?,
            growing.ramps.values(&sizes.ffn(), step)?,
            growing.ramps.values(&sizes.inner(head_dim), step)?,
        ];
        let gates = (0..sizes.layers).map(|layer| growing.ramps.gate(layer, step)).map(Gate::value);
        Ok(axes.into_iter().flatten().flatten().chain(gates).fold(1.0, f32::min))
    }
}
