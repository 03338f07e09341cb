//! `[optimizer]`: which optimizer, and its numbers. The list is msg-core's.

pub use msg_core::optim::OptimizerConfig;

/// Keys of `[train]` that have moved to `[optimizer]`, by their old and new names.
pub(super) const MOVED: [(&str, &str); 4] =
    [("weight_decay", "weight_decay"), ("beta1", "beta1"), ("beta2", "beta2"), ("adam_eps", "eps")];
