//! Whether a model can become so large exactly, and with which head size.

use crate::{
    growing::{spec::WidthInit, state::GrowthState},
    sizes::{Grows, Sizes},
};
use msg_core::ops::NormOrder;

/// Sizes that a model can grow to exactly, as transformers would load it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The sizes.
    pub sizes: Sizes,
    /// The size of one head: hidden over heads.
    pub head_dim: usize,
}

/// Why a growth is not exact. Each text says what would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExact {
    /// Masks are in force.
    #[error("a ramp has not ended: exact growth has no masks; train to its end, or fold it into the weights")]
    Ramp,
    /// A post-norm residual stream grows by whole copies.
    #[error(
        "hidden: expected a whole multiple of {old} for a post-norm model, got {new}: its norms keep their output's \
         mean and variance only over whole copies of the residual stream"
    )]
    Multiple {
        /// Hidden before.
        old: usize,
        /// Hidden asked for.
        new: usize,
    },
    /// No whole head size.
    #[error(
        "heads: expected a divisor of {hidden}, the hidden size, got {heads}: transformers has hidden / heads as the head size"
    )]
    Whole {
        /// Hidden asked for.
        hidden: usize,
        /// Heads asked for.
        heads: usize,
    },
    /// Heads would get smaller.
    #[error(
        "heads: expected at most {most} of hidden {hidden}, got {heads}: transformers has hidden / heads as the head size, \
         which would shrink from {head_dim} to {size}; grow hidden with heads"
    )]
    Smaller {
        /// Hidden asked for.
        hidden: usize,
        /// Heads asked for.
        heads: usize,
        /// The most heads that keep their size.
        most: usize,
        /// The head size.
        head_dim: usize,
        /// The head size that it would be.
        size: usize,
    },
    /// Units whose inputs and outputs are both zero.
    #[error(
        "units: expected normal, copy or matched_std, got zero: new units that nothing reads and that read nothing never learn"
    )]
    Dead,
}

impl Plan {
    /// The plan to grow a model of that order of norms to `sizes`.
    ///
    /// # Errors
    /// The reason why that is not exact.
    pub fn new(
        growing: &GrowthState,
        order: NormOrder,
        sizes: Sizes,
        units: WidthInit,
    ) -> Result<Plan, NotExact> {
        let GrowthState { sizes: from, head_dim, ramps, .. } = growing;
        let (Sizes { hidden, heads, .. }, head_dim) = (sizes, *head_dim);
        if !ramps.is_empty() {
            return Err(NotExact::Ramp);
        }
        if order == NormOrder::Post && !hidden.is_multiple_of(from.hidden) {
            return Err(NotExact::Multiple { old: from.hidden, new: hidden });
        }
        if !hidden.is_multiple_of(heads) {
            return Err(NotExact::Whole { hidden, heads });
        }
        let size = hidden / heads;
        if size < head_dim {
            let most = hidden / head_dim;
            return Err(NotExact::Smaller { hidden, heads, most, head_dim, size });
        }
        let wider = from.changes(sizes).any(|(axis, ..)| axis.grows() != Grows::Depth) || size != head_dim;
        if wider && units == WidthInit::Zero {
            return Err(NotExact::Dead);
        }
        Ok(Plan { sizes, head_dim: size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes;

    #[test]
    fn combinations_that_are_not_exact_say_why_and_what_would_be() {
        let from = sizes! { layers: 2, hidden: 12, ffn: 20, heads: 3 };
        let growing = GrowthState::new(from, 4).expect("sizes");
        let plan = |order, sizes| Plan::new(&growing, order, sizes, WidthInit::Normal);
        let to = |hidden, heads| Sizes { hidden, heads, ..from };
        use NormOrder::{Post, Pre};
        for (order, hidden, heads, size) in
            [(Pre, 15, 3, 5), (Pre, 24, 6, 4), (Post, 24, 3, 8), (Post, 12, 3, 4)]
        {
            assert_eq!(plan(order, to(hidden, heads)), Ok(Plan { sizes: to(hidden, heads), head_dim: size }));
        }
        let refused = |order, hidden, heads| plan(order, to(hidden, heads)).expect_err("refused").to_string();
        assert!(refused(Post, 18, 3).starts_with("hidden: expected a whole multiple of 12"));
        assert!(refused(Pre, 13, 3).starts_with("heads: expected a divisor of 13"));
        assert!(refused(Pre, 12, 4).starts_with("heads: expected at most 3 of hidden 12, got 4"));
        let zero = Plan::new(&growing, Pre, to(24, 6), WidthInit::Zero);
        assert_eq!(zero, Err(NotExact::Dead));
        let deeper = Sizes { layers: 5, ..from };
        assert!(Plan::new(&growing, Pre, deeper, WidthInit::Zero).is_ok());
    }
}
