//! What steps and growths change: the model, its optimizer, and where the run is.

use crate::{
    config::{Guard, Resolved},
    families::family::Trainable,
    step::{fault_injection::Fault, growth_method::GrowthMethod, state::State},
};
use dfdx::tensor::Gradients;
use msg_core::{Backend, optim::AnyOptimizer};

/// A model in training.
pub(crate) struct Running<D: Backend, M: Trainable<D>> {
    pub device: D,
    pub model: M,
    pub optimizer: AnyOptimizer<D>,
    pub state: State,
    pub options: StepOptions,
    /// The last step's gradients: their memory serves the next one's.
    pub grads: Option<Gradients<f32, D>>,
    /// What grows the model, instead of the operators that the plan names.
    pub operator: Option<Box<dyn GrowthMethod<D, M>>>,
    /// What goes wrong at growths, in tests of the receipts.
    pub fault: Option<Fault>,
}

/// How steps and growths are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions {
    /// Seed of dropout and of new entries.
    pub seed: u64,
    /// Sequences of one forward pass; by default the whole batch of a step.
    pub micro_batch: Option<usize>,
    /// Largest global norm of the gradient.
    pub clip: Option<f64>,
    /// What a loss or gradient does that is not finite.
    pub guard: Guard,
    /// Largest |dlogit| that a growth may cause; by default 0 where sums are exact, and a stated bound elsewhere.
    pub receipt_tolerance: Option<f64>,
}

impl Default for StepOptions {
    fn default() -> Self {
        StepOptions {
            seed: 0,
            micro_batch: None,
            clip: Some(1.0),
            guard: Guard::Stop,
            receipt_tolerance: None,
        }
    }
}

impl StepOptions {
    /// Those of a run.
    pub fn of(run: &Resolved) -> Self {
        StepOptions {
            seed: run.run().seed,
            micro_batch: run.train().micro_batch,
            clip: run.train().clip,
            guard: run.train().guard,
            receipt_tolerance: run.train().receipt_tolerance,
        }
    }
}
