//! AdamW whose state grows with the parameters.

mod adamw;
mod birth_steps;
mod grads;
pub(crate) mod kernel;
mod status;

pub use adamw::step::{AdamStep, AgeGroup};
pub use adamw::{AdamW, AdamWConfig, Moments, Update, grad_norm};
pub use birth_steps::{BirthSteps, StatePolicy};
pub use grads::{tape, zero_grads, zeroed_again};
pub use kernel::{OptimKernel, OptimizerPass};
pub use status::UpdateStatus;
