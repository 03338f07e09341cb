//! Measures whether a growth kept the model's function.

pub(crate) mod receipt;
