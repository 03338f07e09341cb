//! The optimizers of the list, so that one test body serves all of them.

use msg_core::optim::{KINDS, OptimizerConfig};
use serde_json::json;

/// Every optimizer of the list with its defaults.
///
/// # Panics
/// If one cannot be read without any of its keys.
pub fn every_optimizer() -> impl Iterator<Item = OptimizerConfig> {
    KINDS.iter().map(|kind| match serde_json::from_value(json!({ *kind: {} })) {
        Ok(optimizer) => optimizer,
        Err(error) => panic!("{kind} without keys: {error}"),
    })
}
