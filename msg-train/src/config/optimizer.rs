//! `[optimizer]`: which optimizer, and its numbers.

use msg_core::optim::AdamWConfig;
use serde::{Deserialize, Deserializer, Serialize};

/// The optimizers. To add one: a line with its name in configurations and the struct of its other keys, which has
/// serde's `default` and `deny_unknown_fields` and a `check`. The first is the default.
macro_rules! optimizers {
    ($($(#[doc = $doc:literal])+ $name:literal => $variant:ident($config:ty),)+) => {
        /// The `[optimizer]` table: its `kind`, and beside it the keys of that kind.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize)]
        #[serde(tag = "kind")]
        pub enum OptimizerConfig {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant($config),)+
        }

        impl<'de> Deserialize<'de> for OptimizerConfig {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // Read as any enum is, so that keys and values are refused where they stand: `de` makes a variant of
                // a table with a `kind`.
                #[derive(Deserialize)]
                enum Kind {
                    $(#[serde(rename = $name)] $variant($config),)+
                }
                Ok(match Kind::deserialize(deserializer)? {
                    $(Kind::$variant(config) => OptimizerConfig::$variant(config),)+
                })
            }
        }

        impl OptimizerConfig {
            /// Refuses numbers that no update can be made with.
            pub(super) fn check(&self) -> msg_core::error::Result<()> {
                match self {
                    $(OptimizerConfig::$variant(config) => config.check(),)+
                }
            }
        }
    };
}

optimizers! {
    /// Adam with decoupled weight decay.
    "adamw" => AdamW(AdamWConfig),
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig::AdamW(AdamWConfig::default())
    }
}

/// Keys of `[train]` that have moved to `[optimizer]`, by their old and new names.
pub(super) const MOVED: [(&str, &str); 4] =
    [("weight_decay", "weight_decay"), ("beta1", "beta1"), ("beta2", "beta2"), ("adam_eps", "eps")];
