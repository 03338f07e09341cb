//! Staged pre-training: one TOML file to a model that grew through its stages.
//!
//! Data flows one way: [`config`] (what the user wrote, checked) makes a [`plan`] (what each optimizer
//! step is, a pure function of the step); the trainer walks the plan over [`data`], grows the model at
//! boundaries, and hands a record of every step to whoever listens.

#![forbid(unsafe_code)]

mod boundary;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod error;
pub mod eval;
pub mod exchange;
mod fault;
mod feed;
mod fresh;
pub mod generate;
mod json;
pub mod metrics;
pub mod plan;
pub mod plan_table;
pub mod rate;
mod receipt;
pub mod report;
pub mod run;
pub mod sample;
mod state;
mod table;
pub mod target;
pub mod task;
mod tasks;
mod trainer;
pub mod verify;

pub use error::{Error, Result};
pub use fault::Fault;
pub use plan::Plan;
pub use receipt::Receipt;
pub use state::State;
pub use target::Target;
pub use trainer::{On, Trainer};
