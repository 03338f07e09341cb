//! AdamW whose state grows with the parameters.

mod adamw;
pub(crate) mod adamw_cpu;
mod births;
mod updates;
mod verdict;

pub use adamw::{AdamW, AdamWConfig, Moments, StatePolicy, Update, grad_norm};
pub use adamw_cpu::{AdamStep, Cohort};
pub use births::Births;
pub use updates::Updates;
pub use verdict::Verdict;
