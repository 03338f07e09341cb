//! The configuration of a GPT.

use crate::{
    layers::norm::check_eps,
    sizes,
    sizes::{GrowingAxis, Sizes, not_zero},
};
use msg_core::{
    axis::{HeadDim, Position, Vocab},
    error::Result,
    ops::{Dropout, Gelu},
};
use serde::{Deserialize, Serialize};

/// Configuration of a GPT. `sizes` are those that it starts with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptConfig {
    /// Tokens.
    pub vocab: usize,
    /// Longest sequence.
    pub positions: usize,
    /// Size of one head.
    pub head_dim: usize,
    /// The sizes that may grow.
    pub sizes: Sizes,
    /// Added to the variance in every norm.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Form of the activation.
    #[serde(default = "default_gelu")]
    pub gelu: Gelu,
    /// Dropout on embeddings, branches and attention probabilities.
    #[serde(default)]
    pub dropout: f32,
}

fn default_eps() -> f64 {
    1e-5
}

fn default_gelu() -> Gelu {
    Gelu::Tanh
}

impl Default for GptConfig {
    /// GPT-2 124M.
    fn default() -> Self {
        GptConfig {
            vocab: 50257,
            positions: 1024,
            head_dim: 64,
            sizes: sizes! { layers: 12, hidden: 768, ffn: 3072, heads: 12 },
            eps: default_eps(),
            gelu: default_gelu(),
            dropout: 0.0,
        }
    }
}

impl GptConfig {
    /// The axes along which the family grows.
    pub const AXES: &[GrowingAxis] =
        &[GrowingAxis::Layers, GrowingAxis::Hidden, GrowingAxis::Ffn, GrowingAxis::Heads];

    /// Refuses a configuration from which no model can be made.
    ///
    /// # Errors
    /// [`msg_core::Error::Zero`] for a size of 0, [`msg_core::Error::Value`] for a dropout rate or epsilon out of range.
    pub fn check(&self) -> Result<()> {
        self.sizes.check(Self::AXES)?;
        not_zero(&[("vocab", self.vocab), ("positions", self.positions), ("head size", self.head_dim)])?;
        check_eps(self.eps)?;
        Dropout::new(self.dropout, 0, 0, 0).map(drop)
    }

    /// The token table's axis.
    pub fn vocab(&self) -> Vocab {
        Vocab(self.vocab)
    }

    /// The position table's axis.
    pub fn positions(&self) -> Position {
        Position(self.positions)
    }

    /// The axis of one head.
    pub fn head_dim(&self) -> HeadDim {
        HeadDim(self.head_dim)
    }
}
