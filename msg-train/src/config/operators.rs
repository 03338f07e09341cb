//! The growth operators that a stage can name, as one list. To add one: an implementation of
//! [`Operator`], and a line here with its name in configurations and how it is made from the stage's keys. A run in code
//! takes any other one (`TrainerBuilder::operator`).

use msg_core::{
    Backend,
    growth::{Masked, Operator},
};
use msg_models::WidthInit;
use serde::{Deserialize, Serialize};

/// Work with an operator that is known by its name only.
pub trait WithOperator<D: Backend> {
    /// What comes of it.
    type Out;

    /// Does it with the operator.
    fn with<O: Operator<D> + Send + Sync + 'static>(self, operator: O) -> Self::Out;
}

macro_rules! operators {
    ($($(#[doc = $doc:literal])+ $name:literal => $variant:ident: $make:expr,)+) => {
        /// How a stage's growth makes the new tensors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum OperatorKind {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl OperatorKind {
            /// All of them; the first is the default.
            pub const ALL: &[OperatorKind] = &[$(OperatorKind::$variant),+];

            /// Its name in configurations.
            pub fn name(self) -> &'static str {
                match self {
                    $(OperatorKind::$variant => $name,)+
                }
            }

            /// Does `work` with the operator, whose new units start from `units`.
            pub fn with<D: Backend, W: WithOperator<D>>(self, units: WidthInit, work: W) -> W::Out {
                match self {
                    $(OperatorKind::$variant => {
                        let make = $make;
                        work.with(make(units))
                    })+
                }
            }
        }
    };
}

operators! {
    /// Masked growth: new units and layers start behind masks at 0, which rise over the ramp.
    "masked" => Masked: |units: WidthInit| Masked { rule: units.fill_rule() },
}

impl Default for OperatorKind {
    fn default() -> Self {
        OperatorKind::ALL[0]
    }
}
