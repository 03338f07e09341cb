#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod config;
pub mod data;
pub mod error;
pub mod eval;
pub mod families;
pub mod files;
pub mod generate;
pub mod interop;
pub mod metrics;
pub mod parity;
pub mod report;
pub mod run;
pub mod schedule;
pub mod step;
mod text;
pub mod verify;

pub use config::size_spec::Target;
pub use error::{Error, Result};
pub use parity::receipt::Receipt;
pub use schedule::plan::Plan;
pub use step::fault_injection::Fault;
pub use step::state::State;
pub use step::trainer::Trainer;
