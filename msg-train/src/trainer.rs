//! The loop: one optimizer step after another, growth where the plan says, a record of everything.

use crate::{
    boundary,
    config::{Guard, RunConfig},
    data::Batches,
    error::{Error, Result},
    plan::{Plan, Stage},
    rate::NewFactor,
    receipt::Receipt,
    state::State,
    task::{Counts, Task},
};
use dfdx::{
    tensor::Gradients,
    tensor_ops::Backward,
};
use msg_core::{
    device::Backend,
    error::Context,
    mask::Gate,
    ops::Dropout,
    optim::{AdamW, Update},
    params::{tape, zero_grads},
};
use std::sync::Arc;

/// What happened, in the order in which it did. No clock is in it.
#[derive(Clone, Debug)]
pub enum Event {
    /// An optimizer step was made (or skipped by the guard).
    Step(StepDone),
    /// The held-out loss.
    Eval {
        /// Steps made.
        step: u64,
        /// The stage.
        stage: usize,
        /// Mean loss over the held-out sequences.
        loss: f32,
    },
    /// The model grew; `step` is the first one of the new stage.
    Growth {
        /// The first step of the new stage.
        step: u64,
        /// The stage that begins.
        stage: usize,
        /// Before and after.
        receipt: Receipt,
        /// False where the ramp has no length: the function jumps at the first step.
        preserving: bool,
    },
    /// The last mask is at 1 and was dropped.
    RampEnd {
        /// Steps made.
        step: u64,
        /// Masked and dropped.
        receipt: Receipt,
    },
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepDone {
    /// Its number, from 1.
    pub step: u64,
    /// Its stage, from 1.
    pub stage: usize,
    /// The loss over the whole step.
    pub loss: f32,
    /// The learning rate in force.
    pub lr: f64,
    /// The gradient's global norm before clipping.
    pub grad_norm: f64,
    /// The smallest mask value in force; 1 where none is.
    pub mask: f32,
    /// Tokens consumed so far.
    pub tokens: u64,
    /// Floating point operations spent so far.
    pub flops: f64,
    /// Whether the guard left the update out.
    pub skipped: bool,
}

/// A run under way.
#[derive(Debug)]
pub struct Trainer<D: Backend, M: Task<D>, S> {
    pub(crate) device: D,
    pub(crate) config: RunConfig,
    pub(crate) plan: Plan,
    pub(crate) source: Arc<S>,
    pub(crate) model: M,
    pub(crate) optimizer: AdamW<D>,
    pub(crate) state: State,
}

impl<D: Backend, M: Task<D>, S: Batches<Batch = M::Host>> Trainer<D, M, S> {
    /// A run that stands at `state` (a default one: at its start).
    pub fn new(
        device: D,
        config: RunConfig,
        plan: Plan,
        source: Arc<S>,
        model: M,
        optimizer: AdamW<D>,
        state: State,
    ) -> Self {
        Trainer { device, config, plan, source, model, optimizer, state }
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
    pub fn advance(&mut self, on: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        let step = self.state.step + 1;
        let stage = *self.plan.stage_at(step);
        if stage.number > self.state.stage {
            boundary::cross(self, &stage, on)?;
        }
        let done = self.step(step, &stage)?;
        on(Event::Step(done))?;
        if self.model.growing().ramps.is_empty() {
            return Ok(());
        }
        let kept = self.model.masks_kept(step)?;
        if self.model.retire_ramps(step) {
            let receipt = boundary::ramp_end(self, &kept, step)?;
            on(Event::RampEnd { step, receipt })?;
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

    fn step(&mut self, step: u64, stage: &Stage) -> Result<StepDone> {
        let (hosts, cursor) = self.hosts(stage)?;
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
        self.state.flops += self.plan.flops_per_token(stage) * tokens as f64;
        Ok(StepDone {
            step,
            stage: stage.number,
            loss,
            lr,
            grad_norm,
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

    /// Mean loss over the held-out sequences.
    ///
    /// # Errors
    /// Where data or device fail.
    pub fn evaluate(&self) -> Result<f32> {
        let stage = self.plan.stage_at(self.state.step.max(1));
        let wanted = self.config.train.eval_sequences;
        let micro = self.config.train.micro_batch.unwrap_or(stage.batch).min(wanted.max(1));
        let masks = self.model.masks(self.state.step)?;
        let (mut sum, mut weight, mut first) = (0.0f64, 0.0f64, 0u64);
        while (first as usize) < wanted {
            let sequences = micro.min(wanted - first as usize);
            let Some(host) = self.source.held_out(first as usize, sequences, stage.sequence)? else { break };
            let counts = M::counts(&host);
            let batch = self.model.upload(&host)?;
            let loss = self.model.loss(&batch, counts, &masks, &Dropout::OFF, dfdx::tensor::NoneTape)?;
            let labels = counts.labels.max(1) as f64;
            sum += f64::from(loss.as_vec()[0]) * labels;
            weight += labels;
            first += sequences as u64;
        }
        Ok((sum / weight.max(1.0)) as f32)
    }
}
