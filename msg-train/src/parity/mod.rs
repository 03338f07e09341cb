//! Measures whether a growth kept the model's function.

pub mod measure;
pub mod own_batch;
pub mod receipt;
