//! One optimizer step and one growth: the training loop without files.

pub mod builder;
pub mod events;
pub(crate) mod fault_injection;
pub mod growth_method;
pub(crate) mod loader;
pub mod running;
pub(crate) mod stage_transition;
pub(crate) mod state;
pub(crate) mod trainer;
