//! The loop: one optimizer step after another, growth where the plan says, a record of everything.

use crate::{
    config::Guard,
    data::{Batches, fixed_batch::fixed_batch},
    error::{Error, Result},
    families::{
        family::{CountsOf, HostOf, Trainable},
        objective::Objective,
    },
    metrics::{Record, Step},
    schedule::{
        learning_rate::NewFactor,
        plan::{Plan, Stage},
    },
    step::{
        events::{Event, OnEvent},
        loader::{Feed, StepData},
        running::Running,
        stage_transition::{grow_into, ramp_end},
        state::State,
    },
};
use dfdx::{
    tensor::{Gradients, PutTape, SplitTape},
    tensor_ops::{Backward, TryAdd},
};
use msg_core::{
    Backend,
    error::Context,
    ops::Dropout,
    optim::{AnyOptimizer, Update, tape, zero_grads, zeroed_again},
    params::Param,
};
use msg_models::Sizes;
use std::{sync::Arc, time::Duration};

/// A run in progress. [`Trainer::builder`] makes one.
pub struct Trainer<D: Backend, M: Trainable<D>, S> {
    pub(crate) run: Running<D, M>,
    pub(super) plan: Plan,
    /// Floating-point operations of training on one token, by sizes and sequence length.
    pub(super) flops: Box<Flops>,
    pub(crate) source: Arc<S>,
    pub(super) feed: Option<Feed<HostOf<D, M>>>,
    /// The last step, until it is settled.
    pub(super) pending: Option<Pending>,
}

/// Floating-point operations of training on one token, by sizes and sequence length.
pub(super) type Flops = dyn Fn(Sizes, usize) -> f64 + Send + Sync;

/// A step whose work is queued on the device.
#[derive(Debug)]
pub(super) struct Pending {
    /// Its record, without what the device is still to say.
    record: Step,
    waited: Duration,
    /// Where the run was before it.
    before: State,
}

impl<D: Backend, M: Trainable<D>, S: Batches<Batch = HostOf<D, M>>> Trainer<D, M, S> {
    /// Where the run stands, the last step included even if it is still to be settled.
    pub fn state(&self) -> &State {
        &self.run.state
    }

    /// The model at its present sizes.
    pub fn model(&self) -> &M {
        &self.run.model
    }

    /// The optimizer with its present state.
    pub fn optimizer(&self) -> &AnyOptimizer<D> {
        &self.run.optimizer
    }

    /// Whether all steps are made.
    pub fn is_done(&self) -> bool {
        self.run.state.step >= self.plan.total_steps()
    }

    /// The next optimizer step, and the growth before it where its stage is a new one; nothing once all
    /// steps are made.
    ///
    /// Where the device is [asynchronous](msg_core::optim::OptimKernel::ASYNC_RESULTS), the step is queued there, and
    /// settled by the next one once that one's gradients are queued, too: its record comes then, and so does its
    /// refusal.
    ///
    /// # Errors
    /// [`Error::Receipt`] where a growth changes the function, [`Error::Diverged`] by the guard's
    /// policy, and what data or device refuse. The last checkpoint is not touched by any of them.
    pub fn advance(&mut self, on: &mut OnEvent<'_>) -> Result<()> {
        // A feed is kept only while it stands where the run does: any refusal below ends it.
        let mut feed = match self.feed.take() {
            Some(feed) => feed,
            None => self.feed_from_here()?,
        };
        // Before the growth, so that a refusal of the data leaves the model as it is.
        let Some(data) = feed.next_step()? else { return Ok(()) };
        let step = self.run.state.step + 1;
        let stage = *self.plan.stage_at(step);
        if stage.number > self.run.state.stage {
            self.settle(on)?;
            match &stage.boundary {
                None => self.run.state.stage = stage.number,
                Some(boundary) => {
                    let host = fixed_batch(&*self.source, stage.sequence)?;
                    let growth = grow_into(&mut self.run, &stage, boundary, &host)?;
                    on(Record::Growth(growth).into())?;
                }
            }
        }
        self.step(step, &stage, &data, on)?;
        self.feed = Some(feed);
        let ramp_ends = self.run.model.growing().ramps.clone().retire(step);
        if ramp_ends || !D::ASYNC_RESULTS {
            self.settle(on)?;
        }
        if ramp_ends {
            let kept = self.run.model.masks_kept(step)?;
            self.run.model.retire_ramps(step);
            let host = fixed_batch(&*self.source, stage.sequence)?;
            on(Record::RampEnd(ramp_end(&self.run, &kept, &host)?).into())?;
        }
        Ok(())
    }

    /// Waits for the last step if it is still pending, and hands its record on. Call it before model, optimizer or state
    /// are used.
    ///
    /// # Errors
    /// [`Error::Diverged`] by the guard's policy: parameters, slots and ages are then those before that step.
    pub fn settle(&mut self, on: &mut OnEvent<'_>) -> Result<()> {
        let Some(Pending { record, waited, before }) = self.pending.take() else { return Ok(()) };
        let verdict = self.run.optimizer.settle()?;
        let (step, grad_norm) = (record.step, verdict.norm());
        let loss = verdict.loss.unwrap_or(f32::NAN);
        if !verdict.applied && self.run.options.guard == Guard::Stop {
            // What is fed next is of a step that does not come.
            (self.run.state, self.feed) = (before, None);
            return Err(Error::Diverged(format!(
                "step {step}: loss {loss}, gradient norm {grad_norm}: not finite (train.guard = \"stop\"); \
                 the update was not applied"
            )));
        }
        let record = Step { loss, grad_norm: grad_norm as f32, skipped: !verdict.applied, ..record };
        on(Event { record: Record::Step(record), waited })
    }

    fn feed_from_here(&self) -> Result<Feed<HostOf<D, M>>> {
        let micro = self.run.options.micro_batch;
        Feed::start(self.source.clone(), self.plan.clone(), micro, &self.run.state)
    }

    /// Queues a step, and settles the one before it in between.
    fn step(
        &mut self,
        step: u64,
        stage: &Stage,
        data: &StepData<HostOf<D, M>>,
        on: &mut OnEvent<'_>,
    ) -> Result<()> {
        let grads = match self.run.grads.take() {
            Some(grads) => zeroed_again(&self.run.model, grads)?,
            None => zero_grads(&self.run.model)?,
        };
        let (loss, mut grads) = self.gradients(step, &data.hosts, grads)?;
        // The device has work while the host reads this. Only then is the update queued: it counts the updates
        // before it, and after one that ends the run there is none.
        self.settle(on)?;
        let lr = self.plan.lr(step);
        let (new_factor, new_since) = self.new_entries(step);
        let update = Update { lr, clip: self.run.options.clip, new_factor, new_since };
        self.run.optimizer.apply(&mut self.run.model, &mut grads, Some(&loss), update)?;

        self.run.grads = Some(grads);

        let before = self.run.state.clone();
        let tokens = stage.tokens_per_step();
        self.run.state.step = step;
        self.run.state.cursor = data.cursor;
        self.run.state.tokens += tokens;
        let per_token = (self.flops)(stage.sizes, stage.sequence);
        self.run.state.flops += per_token * tokens as f64;
        let record = Step {
            step,
            stage: stage.number,
            loss: f32::NAN,
            lr,
            grad_norm: f32::NAN,
            mask: self.run.model.growing().smallest_mask(step)?,
            tokens: self.run.state.tokens,
            flops: self.run.state.flops,
            skipped: false,
        };
        self.pending = Some(Pending { record, waited: data.waited, before });
        Ok(())
    }

    /// The step's loss and gradients, added to zeros, summed over its micro-batches on the device; each loss term is divided
    /// by its count over the whole step.
    fn gradients(
        &self,
        step: u64,
        hosts: &[HostOf<D, M>],
        mut grads: Gradients<f32, D>,
    ) -> Result<(Param<(), D>, Gradients<f32, D>)> {
        let counts = hosts.iter().map(<M::Objective>::counts).fold(CountsOf::<D, M>::default(), |a, b| a + b);
        let (device, model) = (&self.run.device, &self.run.model);
        let masks = model.masks(step)?;
        let mut total: Param<(), D> = device.try_zeros().during("loss")?;
        for (micro, host) in (0..).zip(hosts) {
            let batch = <M::Objective>::upload(model, host)?;
            let dropout = Dropout::new(model.dropout(), self.run.options.seed, step, micro)?;
            let tape = tape(device, grads)?;
            let loss = <M::Objective>::loss(model, &batch, counts, &masks, &dropout, tape)?;
            let (loss, tape) = loss.split_tape();
            total = total.try_add(loss.clone()).during("loss")?;
            grads = loss.put_tape(tape).try_backward().during("backward")?;
        }
        Ok((total, grads))
    }

    /// Factor on the rate of entries born at one boundary, and that boundary in applied updates.
    fn new_entries(&self, step: u64) -> (f64, u64) {
        let NewFactor { factor, since } = self.plan.new_factor(step);
        let birth = self.run.state.births.iter().find(|(steps, _)| *steps == since);
        birth.map_or((1.0, u64::MAX), |&(_, applied)| (factor, applied))
    }
}
