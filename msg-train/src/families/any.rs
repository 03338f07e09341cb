//! A model whose family is not known to the caller.

use super::{
    family::Family,
    held_out::{HeldOut, Span, evaluate},
    objective::{BatchOptions, Objective, Text},
};
use crate::{data::Prepared, error::Result};
use msg_core::Backend;
use msg_models::{GrowthState, Masks};
use std::sync::Arc;

/// A model of any family, for what does not depend on which one it is.
pub trait AnyModel<D: Backend> {
    /// The name of its family.
    fn family(&self) -> &'static str;

    /// Its present sizes and ramps.
    fn growth_state(&self) -> &GrowthState;

    /// How many parameters it has.
    fn parameters(&self) -> usize;

    /// The shortest and the longest sequence.
    fn lengths(&self) -> (usize, usize);

    /// Its masks in a step.
    ///
    /// # Errors
    /// Where sizes and ramps disagree.
    fn masks_at(&self, step: u64) -> Result<Masks<D>>;

    /// What it can do with a text.
    fn text(&self) -> Text<'_, D>;

    /// Its figures on the held-out part of prepared text, under the masks of a step; `None` where nothing is held out.
    ///
    /// # Errors
    /// Where the data are of another kind or cannot be read.
    fn held_out(
        &self,
        data: Arc<Prepared>,
        options: &BatchOptions,
        step: u64,
        span: Span,
    ) -> Result<Option<HeldOut>>;
}

impl<D: Backend, M: Family<D>> AnyModel<D> for M {
    fn family(&self) -> &'static str {
        M::RULES.name
    }

    fn growth_state(&self) -> &GrowthState {
        self.growing()
    }

    fn parameters(&self) -> usize {
        self.num_params()
    }

    fn lengths(&self) -> (usize, usize) {
        (<M::Objective>::SHORTEST, self.positions())
    }

    fn masks_at(&self, step: u64) -> Result<Masks<D>> {
        Ok(self.masks(step)?)
    }

    fn text(&self) -> Text<'_, D> {
        <M::Objective>::text(self)
    }

    fn held_out(
        &self,
        data: Arc<Prepared>,
        options: &BatchOptions,
        step: u64,
        span: Span,
    ) -> Result<Option<HeldOut>> {
        evaluate(self, &<M::Objective>::source(data, options)?, step, span)
    }
}
