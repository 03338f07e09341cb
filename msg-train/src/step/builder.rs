//! A trainer from values: plan, model, optimizer and batches, without a configuration.

use crate::{
    data::Batches,
    error::{Error, Result},
    families::family::{HostOf, Trainable},
    schedule::plan::Plan,
    step::{
        fault_injection::Fault,
        growth_method::GrowthMethod,
        running::{Running, StepOptions},
        state::State,
        trainer::{Flops, Trainer},
    },
};
use msg_core::{
    Backend,
    growth::Operator,
    optim::{AnyOptimizer, Optimizer, OptimizerConfig, RuleOn},
};
use msg_models::Sizes;
use std::sync::Arc;

/// A trainer that is being put together; [`Trainer::builder`] begins one.
pub struct TrainerBuilder<D: Backend, M: Trainable<D>, S> {
    plan: Plan,
    model: M,
    optimizer: AnyOptimizer<D>,
    source: Arc<S>,
    options: StepOptions,
    state: Option<State>,
    flops: Option<Box<Flops>>,
    operator: Option<Box<dyn GrowthMethod<D, M>>>,
    fault: Option<Fault>,
}

impl<D: Backend, M: Trainable<D>, S: Batches<Batch = HostOf<D, M>>> Trainer<D, M, S> {
    /// Begins a trainer that walks `plan` with batches of `source`. The optimizer is one of that model.
    pub fn builder<R>(
        plan: Plan,
        model: M,
        optimizer: Optimizer<D, R>,
        source: impl Into<Arc<S>>,
    ) -> TrainerBuilder<D, M, S>
    where
        R: RuleOn<D>,
        OptimizerConfig: From<R>,
    {
        TrainerBuilder {
            plan,
            model,
            optimizer: optimizer.into_rule(),
            source: source.into(),
            options: StepOptions::default(),
            state: None,
            flops: None,
            operator: None,
            fault: None,
        }
    }
}

impl<D: Backend, M: Trainable<D>, S: Batches<Batch = HostOf<D, M>>> TrainerBuilder<D, M, S> {
    /// Sets how steps are made: seed, micro-batches, clipping, what a step does that is not finite.
    #[must_use]
    pub fn options(mut self, options: StepOptions) -> Self {
        self.options = options;
        self
    }

    /// Continues where an earlier trainer was; by default training starts at the plan's first step. The model and the
    /// optimizer must be those of that moment.
    #[must_use]
    pub fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// Sets the floating-point operations of training on one token, by sizes and sequence length. By default they are
    /// estimated as six times the parameters. Only the records show them.
    #[must_use]
    pub fn flops(mut self, flops: impl Fn(Sizes, usize) -> f64 + Send + Sync + 'static) -> Self {
        self.flops = Some(Box::new(flops));
        self
    }

    /// Grows the model by this operator, instead of those that the plan names.
    #[must_use]
    pub fn operator(mut self, operator: impl Operator<D> + Send + Sync + 'static) -> Self {
        self.operator = Some(Box::new(operator));
        self
    }

    pub(crate) fn fault(mut self, fault: Option<Fault>) -> Self {
        self.fault = fault;
        self
    }

    /// The trainer.
    ///
    /// # Errors
    /// [`Error::Argument`] where the model does not have the sizes of its stage, or a stage's batch is no multiple of
    /// the micro-batch.
    pub fn build(self) -> Result<Trainer<D, M, S>> {
        let TrainerBuilder { plan, model, optimizer, source, options, state, flops, operator, fault } = self;
        let refuse = |name, expected: String, got: String| Err(Error::Argument { name, expected, got });
        let state = state.unwrap_or(State { stage: 1, ..State::default() });
        if let Some(micro) = options.micro_batch
            && let Some(stage) =
                plan.stages().iter().find(|stage| micro == 0 || !stage.batch.is_multiple_of(micro))
        {
            let expected = format!("a divisor of {}, the batch of stage {}", stage.batch, stage.number);
            return refuse("micro_batch", expected, micro.to_string());
        }
        // Before the first stage, the model is grown into it.
        let sizes = model.growing().sizes;
        if let Some(stage) = plan.stages().iter().find(|stage| stage.number == state.stage)
            && stage.sizes != sizes
        {
            let expected = format!("the sizes of stage {}: {}", stage.number, stage.sizes);
            return refuse("model", expected, sizes.to_string());
        }
        let flops = flops.unwrap_or_else(|| six_times_the_parameters(&plan, &model));
        let device = model.device().clone();
        let run = Running { device, model, optimizer, state, options, grads: None, operator, fault };
        Ok(Trainer { run, plan, flops, source, feed: None, pending: None })
    }
}

/// The usual estimate: two operations a parameter forward, four backward.
fn six_times_the_parameters<D: Backend, M: Trainable<D>>(plan: &Plan, model: &M) -> Box<Flops> {
    let of_stage = |sizes: Sizes| (sizes, 6.0 * model.params_at(sizes) as f64);
    let known: Vec<(Sizes, f64)> = plan.stages().iter().map(|stage| of_stage(stage.sizes)).collect();
    Box::new(move |sizes, _| known.iter().find(|(of, _)| *of == sizes).map_or(0.0, |(_, flops)| *flops))
}
