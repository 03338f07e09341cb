//! The optimizers that a configuration can name. To add one: a folder with its rule, and a line here.

use super::{
    adamw::{AdamWConfig, step::AdamWKernel},
    kernel::OptimKernel,
    muon::{MuonConfig, step::MuonKernel},
    optimizer::Optimizer,
    rule::{Parameter, Rule, RuleOn, Update},
};
use crate::{axis::NamedShape, error::Result, ops::compute::Precision, params::Role};
use serde::{Deserialize, Deserializer, Serialize};

/// A line each: its name in configurations and checkpoints, its settings (a struct with serde's `default` and
/// `deny_unknown_fields`), and the kernel that it needs of a device. The first is the default.
macro_rules! optimizers {
    ($($(#[doc = $doc:literal])+ $name:literal => $variant:ident($config:ty) by $kernel:ident,)+) => {
        /// The `[optimizer]` table: its `kind`, and beside it the keys of that kind.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize)]
        #[serde(tag = "kind")]
        pub enum OptimizerConfig {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant($config),)+
        }

        $(
            impl From<$config> for OptimizerConfig {
                fn from(config: $config) -> Self {
                    OptimizerConfig::$variant(config)
                }
            }
        )+

        impl<'de> Deserialize<'de> for OptimizerConfig {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                // Read as any enum is, so that a reader which makes a variant of a table with a `kind` refuses keys
                // and values where they stand.
                #[derive(Deserialize)]
                enum Kind {
                    $(#[serde(rename = $name)] $variant($config),)+
                }
                Ok(match Kind::deserialize(deserializer)? {
                    $(Kind::$variant(config) => OptimizerConfig::$variant(config),)+
                })
            }
        }

        /// The names of all optimizers.
        pub const KINDS: &[&str] = &[$($name),+];

        /// The names of the slots of all optimizers.
        pub fn all_slots() -> impl Iterator<Item = &'static str> {
            let each = [$(<$config>::default().slots()),+];
            each.into_iter().flatten().copied()
        }

        /// A device with the kernels of every optimizer.
        pub trait OptimizerKernels: OptimKernel $(+ $kernel)+ {}
        impl<D: OptimKernel $(+ $kernel)+> OptimizerKernels for D {}

        impl Rule for OptimizerConfig {
            fn kind(&self) -> &'static str {
                match self {
                    $(OptimizerConfig::$variant(_) => $name,)+
                }
            }

            fn check(&self) -> Result<()> {
                match self {
                    $(OptimizerConfig::$variant(rule) => rule.check(),)+
                }
            }

            fn slots(&self) -> &'static [&'static str] {
                match self {
                    $(OptimizerConfig::$variant(rule) => rule.slots(),)+
                }
            }

            fn holds(&self, slot: &str, role: &Role) -> bool {
                match self {
                    $(OptimizerConfig::$variant(rule) => rule.holds(slot, role),)+
                }
            }

            fn in_precision(self, precision: Precision) -> Self {
                match self {
                    $(OptimizerConfig::$variant(rule) => {
                        OptimizerConfig::$variant(rule.in_precision(precision))
                    })+
                }
            }
        }

        impl<D: OptimizerKernels> RuleOn<D> for OptimizerConfig {
            fn update<S: NamedShape>(
                &self,
                pass: &mut D::Pass<'_>,
                parameter: Parameter<'_, S, D>,
                update: &Update,
            ) -> Result<()> {
                match self {
                    $(OptimizerConfig::$variant(rule) => rule.update(pass, parameter, update),)+
                }
            }
        }
    };
}

optimizers! {
    /// Adam with decoupled weight decay.
    "adamw" => AdamW(AdamWConfig) by AdamWKernel,
    /// Orthogonalized momentum for matrices, AdamW for the rest.
    "muon" => Muon(MuonConfig) by MuonKernel,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig::AdamW(AdamWConfig::default())
    }
}

/// The optimizer that a configuration names, with its state.
pub type AnyOptimizer<D> = Optimizer<D, OptimizerConfig>;
