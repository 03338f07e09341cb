//! `[optimizer]`: which optimizer, and its numbers. The list is msg-core's.

use msg_core::{optim::Rule, params::Role};
use msg_models::OptimizerNumbers;

pub use msg_core::optim::OptimizerConfig;

/// What an optimizer keeps for each entry, as plans of memory count it.
pub fn optimizer_numbers(rule: &OptimizerConfig) -> OptimizerNumbers {
    OptimizerNumbers {
        matrices: rule.numbers_per_entry(&Role::weight()),
        others: rule.numbers_per_entry(&Role::embedding()),
    }
}

/// Keys of `[train]` that have moved to `[optimizer]`, by their old and new names.
pub(super) const MOVED: [(&str, &str); 4] =
    [("weight_decay", "weight_decay"), ("beta1", "beta1"), ("beta2", "beta2"), ("adam_eps", "eps")];
