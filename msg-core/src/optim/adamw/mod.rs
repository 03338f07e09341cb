//! Decoupled AdamW: two moments for every parameter, corrected by each entry's own age.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod step;

use super::{
    optimizer::Optimizer,
    rule::{Parameter, Rule, RuleOn, Update, within},
};
use crate::{
    axis::NamedShape,
    error::Result,
    params::{Param, ParamName},
};
use serde::{Deserialize, Serialize};
use step::{AdamStep, AdamWKernel, AgeGroup};

/// The numbers of AdamW that stay the same during a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay on weights and tables.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// AdamW with its state.
pub type AdamW<D> = Optimizer<D, AdamWConfig>;

/// The slots.
pub(crate) const FIRST: &str = "first_moment";
pub(crate) const SECOND: &str = "second_moment";

impl Rule for AdamWConfig {
    fn kind(&self) -> &'static str {
        "adamw"
    }

    fn check(&self) -> Result<()> {
        let share = |beta: f64| (0.0..1.0).contains(&beta);
        within("adamw: beta1", "at least 0 and less than 1", self.beta1, share)?;
        within("adamw: beta2", "at least 0 and less than 1", self.beta2, share)?;
        // With an eps of 0 an entry that never had a gradient would become 0 / 0; so in f32 it must not vanish.
        within("adamw: eps", "a positive f32", self.eps, |eps| eps.is_finite() && eps as f32 > 0.0)?;
        let decay = |decay: f64| decay.is_finite() && decay >= 0.0;
        within("adamw: weight_decay", "at least 0", self.weight_decay, decay)
    }

    fn slots(&self) -> &'static [&'static str] {
        &[FIRST, SECOND]
    }
}

impl<D: AdamWKernel> RuleOn<D> for AdamWConfig {
    fn update<S: NamedShape>(
        &self,
        pass: &mut D::Pass<'_>,
        parameter: Parameter<'_, S, D>,
        update: &Update,
    ) -> Result<()> {
        let groups = parameter.table(update, |age, lr| AgeGroup {
            lr: lr as f32,
            step_size: (lr / (1.0 - self.beta1.powf(age))) as f32,
            root_correction: (1.0 - self.beta2.powf(age)).sqrt() as f32,
        });
        let step = AdamStep {
            entries: parameter.entries,
            groups: &groups,
            first_share: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            second_share: (1.0 - self.beta2) as f32,
            eps: self.eps as f32,
            weight_decay: if parameter.role.decays() { self.weight_decay as f32 } else { 0.0 },
        };
        let (tensor, moments) = parameter.parts()?;
        D::adamw(pass, tensor, moments, &step)
    }
}

/// The first and the second moment of one parameter.
pub type Moments<'a, S, D> = (&'a Param<S, D>, &'a Param<S, D>);

impl<D: AdamWKernel> AdamW<D> {
    /// The first and second moment of a parameter. Clones of them keep their values.
    ///
    /// # Errors
    /// [`Error::Missing`](crate::Error::Missing) for a name or shape that the state does not have.
    pub fn moments<S: NamedShape>(&self, name: &ParamName) -> Result<Moments<'_, S, D>> {
        Ok((self.slot(FIRST, name)?, self.slot(SECOND, name)?))
    }
}
