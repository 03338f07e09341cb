//! Optimizers whose state grows with the parameters.
//!
//! A rule (`adamw/`, `muon/`) says what it keeps for a parameter and how it updates one; `optimizer.rs` does
//! everything else for all rules; `list.rs` names the rules that a configuration can ask for.

mod adamw;
mod age_groups;
mod birth_steps;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod grads;
pub(crate) mod kernel;
mod list;
mod muon;
mod optimizer;
mod rule;
mod status;

pub use adamw::step::{AdamStep, AdamWKernel, AgeGroup};
pub use adamw::{AdamW, AdamWConfig, Moments};
pub use age_groups::EntryGroups;
pub use birth_steps::{BirthSteps, StatePolicy};
pub use grads::{tape, zero_grads, zeroed_again};
pub use kernel::{OptimKernel, OptimizerPass};
pub use list::{AnyOptimizer, KINDS, OptimizerConfig, OptimizerKernels, all_slots};
pub use muon::step::{MuonGroup, MuonKernel, MuonStep};
pub use muon::{AuxiliaryAdamW, Muon, MuonConfig};
pub use optimizer::{Optimizer, grad_norm};
pub use rule::{Parameter, Rule, RuleOn, Update};
pub use status::UpdateStatus;
