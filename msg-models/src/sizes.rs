//! The sizes that a run may grow.

use msg_core::{
    Error, Result,
    axis::{Ffn, HeadDim, Hidden, Inner},
    ops::Dropout,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Layers, hidden size, feed-forward size and heads of a model at one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// Blocks.
    pub layers: usize,
    /// Units of the residual stream.
    pub hidden: usize,
    /// Units of the feed-forward layer.
    pub ffn: usize,
    /// Attention heads; independent of `hidden`.
    pub heads: usize,
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sizes { layers, hidden, ffn, heads } = self;
        write!(f, "{layers} layers, hidden {hidden}, ffn {ffn}, {heads} heads")
    }
}

impl Sizes {
    /// The residual stream's axis.
    pub fn hidden(&self) -> Hidden {
        Hidden(self.hidden)
    }

    /// The feed-forward layer's axis.
    pub fn ffn(&self) -> Ffn {
        Ffn(self.ffn)
    }

    /// The axis of all heads side by side; of a size that nothing can have where a file's sizes multiply to more.
    pub fn inner(&self, head_dim: HeadDim) -> Inner {
        Inner(self.heads.saturating_mul(head_dim.0))
    }

    /// Refuses sizes of zero.
    ///
    /// # Errors
    /// [`Error::Zero`] with the name of the first size that is 0.
    pub fn check(&self) -> Result<()> {
        not_zero(&[
            ("layers", self.layers),
            ("hidden", self.hidden),
            ("ffn", self.ffn),
            ("heads", self.heads),
        ])
    }
}

/// Refuses the first size that is 0, by its name.
pub(crate) fn not_zero(sizes: &[(&'static str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some(&(what, _)) => Err(Error::Zero { what }),
        None => Ok(()),
    }
}

/// Refuses an epsilon or a dropout rate that means nothing.
pub(crate) fn numbers_in_range(eps: f64, dropout: f32) -> Result<()> {
    if !(eps > 0.0 && eps.is_finite()) {
        return Err(Error::Value { what: "eps", expected: "a positive number", got: eps });
    }
    Dropout::new(dropout, 0, 0, 0).map(drop)
}
