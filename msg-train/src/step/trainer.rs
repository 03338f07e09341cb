//! The loop: one optimizer step after another, growth where the plan says, a record of everything.

use crate::{
    config::{Guard, Resolved},
    data::Batches,
    error::{Error, Result},
    families::family::{Counts, Task},
    metrics::{RampEnd, Record, Step},
    schedule::{
        learning_rate::NewFactor,
        plan::{Plan, Stage},
    },
    step::{
        fault_injection::Fault,
        loader::{Feed, StepData},
        stage_transition,
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
use msg_models::Cost;
use std::sync::Arc;

/// A run under way.
#[derive(Debug)]
pub struct Trainer<D: Backend, M: Task<D>, S> {
    pub(crate) device: D,
    pub(crate) config: Resolved,
    pub(crate) plan: Plan,
    pub(crate) cost: Cost,
    pub(crate) source: Arc<S>,
    pub(crate) model: M,
    pub(crate) optimizer: AnyOptimizer<D>,
    pub(crate) state: State,
    /// What goes wrong at growths, in tests of the receipts.
    pub(crate) fault: Option<Fault>,
    /// The last step's gradients: their memory serves the next one's.
    pub(crate) grads: Option<Gradients<f32, D>>,
    feed: Option<Feed<M::Host>>,
    /// The last step, until it is settled.
    pending: Option<Pending>,
}

/// Takes a record and, with that of a step, the seconds that the step waited for data.
pub type On<'a> = dyn FnMut(Record, f64) -> Result<()> + 'a;

/// A step whose work is queued on the device.
#[derive(Debug)]
struct Pending {
    /// Its record, without what the device is still to say.
    record: Step,
    waited: f64,
    /// Where the run stood before it.
    before: State,
}

impl<D: Backend, M: Task<D>, S: Batches<Batch = M::Host>> Trainer<D, M, S> {
    /// A run that stands at `state` (a default one: at its start).
    pub fn new(
        device: D,
        config: Resolved,
        plan: Plan,
        cost: Cost,
        source: Arc<S>,
        (model, optimizer): (M, AnyOptimizer<D>),
        state: State,
    ) -> Self {
        Trainer {
            device,
            config,
            plan,
            cost,
            source,
            model,
            optimizer,
            state,
            fault: None,
            grads: None,
            feed: None,
            pending: None,
        }
    }

    /// Where the run stands, the last step included even if it is still to be settled.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The model as it stands.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The optimizer as it stands.
    pub fn optimizer(&self) -> &AnyOptimizer<D> {
        &self.optimizer
    }

    /// Whether all steps are made.
    pub fn is_done(&self) -> bool {
        self.state.step >= self.plan.total_steps()
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
    pub fn advance(&mut self, on: &mut On<'_>) -> Result<()> {
        // A feed is kept only while it stands where the run does: any refusal below ends it.
        let mut feed = match self.feed.take() {
            Some(feed) => feed,
            None => self.feed_from_here()?,
        };
        // Before the growth, so that a refusal of the data leaves the model as it is.
        let Some(data) = feed.next_step()? else { return Ok(()) };
        let step = self.state.step + 1;
        let stage = *self.plan.stage_at(step);
        if stage.number > self.state.stage {
            self.settle(on)?;
            stage_transition::cross(self, &stage, on)?;
        }
        self.step(step, &stage, &data, on)?;
        self.feed = Some(feed);
        let ramp_ends = self.model.growing().ramps.clone().retire(step);
        if ramp_ends || !D::ASYNC_RESULTS {
            self.settle(on)?;
        }
        if ramp_ends {
            let kept = self.model.masks_kept(step)?;
            self.model.retire_ramps(step);
            let receipt = stage_transition::ramp_end(self, &kept, step)?;
            on(Record::RampEnd(RampEnd { step, receipt: receipt.into() }), 0.0)?;
        }
        Ok(())
    }

    /// Waits for the last step, where that is still to be done, and hands its record on. To be called before
    /// anything is made of model, optimizer and state.
    ///
    /// # Errors
    /// [`Error::Diverged`] by the guard's policy: the run then stands before that step, with parameters, moments
    /// and ages of then. Where the device fails.
    pub fn settle(&mut self, on: &mut On<'_>) -> Result<()> {
        let Some(Pending { record, waited, before }) = self.pending.take() else { return Ok(()) };
        let verdict = self.optimizer.settle()?;
        let (step, grad_norm) = (record.step, verdict.norm());
        let loss = verdict.loss.unwrap_or(f32::NAN);
        if !verdict.applied && self.config.train().guard == Guard::Stop {
            // What is fed next is of a step that does not come.
            (self.state, self.feed) = (before, None);
            return Err(Error::Diverged(format!(
                "step {step}: loss {loss}, gradient norm {grad_norm}: not finite (train.guard = \"stop\"); \
                 the update was not applied"
            )));
        }
        let record = Step { loss, grad_norm: grad_norm as f32, skipped: !verdict.applied, ..record };
        on(Record::Step(record), waited)
    }

    fn feed_from_here(&self) -> Result<Feed<M::Host>> {
        let micro = self.config.train().micro_batch;
        Feed::start(self.source.clone(), self.plan.clone(), micro, &self.state)
    }

    /// Queues a step, and settles the one before it in between.
    fn step(&mut self, step: u64, stage: &Stage, data: &StepData<M::Host>, on: &mut On<'_>) -> Result<()> {
        let grads = match self.grads.take() {
            Some(grads) => zeroed_again(&self.model, grads)?,
            None => zero_grads(&self.model)?,
        };
        let (loss, mut grads) = self.gradients(step, &data.hosts, grads)?;
        // The device has work while the host reads this. Only then is the update queued: it counts the updates
        // before it, and after one that ends the run there is none.
        self.settle(on)?;
        let lr = self.plan.lr(step);
        let (new_factor, new_since) = self.new_entries(step);
        let update = Update { lr, clip: self.config.train().clip, new_factor, new_since };
        self.optimizer.apply(&mut self.model, &mut grads, Some(&loss), update)?;

        self.grads = Some(grads);

        let before = self.state.clone();
        let tokens = stage.tokens_per_step();
        self.state.step = step;
        self.state.cursor = data.cursor;
        self.state.tokens += tokens;
        let per_token = self.cost.training_flops(stage.sizes, stage.sequence, self.config.logits());
        self.state.flops += per_token * tokens as f64;
        let record = Step {
            step,
            stage: stage.number,
            loss: f32::NAN,
            lr,
            grad_norm: f32::NAN,
            mask: self.model.growing().smallest_mask(step)?,
            tokens: self.state.tokens,
            flops: self.state.flops,
            skipped: false,
        };
        self.pending = Some(Pending { record, waited: data.waited.as_secs_f64(), before });
        Ok(())
    }

    /// The step's loss and gradients, added to zeros, summed over its micro-batches on the device; each loss term is divided
    /// by its count over the whole step.
    fn gradients(
        &self,
        step: u64,
        hosts: &[M::Host],
        mut grads: Gradients<f32, D>,
    ) -> Result<(Param<(), D>, Gradients<f32, D>)> {
        let counts = hosts.iter().map(M::counts).fold(Counts::default(), |a, b| a + b);
        let masks = self.model.masks(step)?;
        let mut total: Param<(), D> = self.device.try_zeros().during("loss")?;
        for (micro, host) in (0..).zip(hosts) {
            let batch = self.model.upload(host)?;
            let dropout = Dropout::new(self.model.dropout(), self.config.run().seed, step, micro)?;
            let loss = self.model.loss(&batch, counts, &masks, &dropout, tape(&self.device, grads)?)?;
            let (loss, tape) = loss.split_tape();
            total = total.try_add(loss.clone()).during("loss")?;
            grads = loss.put_tape(tape).try_backward().during("backward")?;
        }
        Ok((total, grads))
    }

    /// Factor on the rate of entries born at one boundary, and that boundary in applied updates.
    fn new_entries(&self, step: u64) -> (f64, u64) {
        let NewFactor { factor, since } = self.plan.new_factor(step);
        let birth = self.state.births.iter().find(|(steps, _)| *steps == since);
        birth.map_or((1.0, u64::MAX), |&(_, applied)| (factor, applied))
    }
}
