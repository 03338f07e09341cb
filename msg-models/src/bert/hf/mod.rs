//! The family as Hugging Face has it: configuration, names of tensors, and reading.

pub(crate) mod config;
pub(crate) mod import;
pub mod names;
