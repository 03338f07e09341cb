//! Which models transformers has a class for, and how numbers read in its configurations.

use crate::growing::state::GrowthState;

/// Why transformers cannot represent a model: a configuration of it would describe another function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrepresentable {
    /// Its classes derive the head size from the hidden size.
    #[error(
        "{heads} heads of size {head_dim} are {} units, hidden is {hidden}: transformers has hidden / heads as the head size",
        heads * head_dim
    )]
    Heads {
        /// Heads.
        heads: usize,
        /// Size of one.
        head_dim: usize,
        /// Units of the residual stream.
        hidden: usize,
    },
    /// No class of it computes the family's function.
    #[error("transformers has no class for the family {family}")]
    Family {
        /// The family's name.
        family: &'static str,
    },
    /// Its classes have no masks.
    #[error("a ramp has not ended: transformers has no masks")]
    Ramp,
}

/// Refuses a model in a state that no class of transformers has.
///
/// # Errors
/// The reason.
pub fn representable(growing: &GrowthState) -> Result<(), Unrepresentable> {
    let (sizes, head_dim) = (growing.sizes, growing.head_dim);
    if sizes.heads * head_dim != sizes.hidden {
        return Err(Unrepresentable::Heads { heads: sizes.heads, head_dim, hidden: sizes.hidden });
    }
    if growing.ramps.is_empty() { Ok(()) } else { Err(Unrepresentable::Ramp) }
}

/// The f64 that reads as the f32 does: 0.1 and not 0.10000000149.
pub(crate) fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
