//! AdamW whose state grows with the parameters.

pub(crate) mod adamw;
mod births;
pub(crate) mod grads;
pub(crate) mod kernel;
pub(crate) mod status;

pub use adamw::cpu::{AdamStep, Cohort};
pub use adamw::{AdamW, AdamWConfig, Moments, StatePolicy, Update, grad_norm};
pub use births::Births;
pub use grads::{tape, zero_grads, zeroed_again};
pub use kernel::Updates;
pub use status::Verdict;
