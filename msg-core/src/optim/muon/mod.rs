//! Muon: matrices move by their momentum, orthogonalized; everything else moves by AdamW.
//!
//! The rule is Keller Jordan's (<https://kellerjordan.github.io/posts/muon/>; code:
//! <https://github.com/KellerJordan/Muon> at 857d1ad, `muon_update`), with its constants. For a matrix `p` of `rows`
//! outputs and `columns` inputs with gradient `g`, in every update:
//!
//! ```text
//! m = beta m + (1 - beta) g                          momentum
//! u = (1 - beta) g + beta m                          Nesterov
//! x = u / (||u|| + 1e-7)                             Frobenius norm
//! x = a x + (b A + c A A) x, A = x x^T               ns_steps times; a, b, c = 3.4445, -4.7750, 2.0315
//! p = p (1 - lr weight_decay) - lr s x               shape factor s = sqrt(max(1, rows / columns))
//! ```
//!
//! A tall matrix is transposed before the iteration and after it. By the shape factor
//! the entries of a tall matrix' update have the root mean square of a square one's with as many inputs; a wide one has
//! no factor.
//!
//! Matrices are the parameters of kind [`Kind::Weight`]; the last two axes are one matrix, and those before number
//! several: (Qkv, outputs, inputs) is three of them. Tables (the tied head is one), biases and norms move by AdamW at
//! their own rate, [`AuxiliaryAdamW::rate_ratio`] times that of the matrices.
//!
//! The iteration runs in f32, or with operands rounded to bf16 and sums in f32 where the run computes in bf16 (the
//! published code keeps everything in bf16).
//!
//! # Growth
//!
//! The momentum grows by its parameter's axis maps, with zeros in new entries. It begins at 0 and has no bias
//! correction: after k updates an entry holds `1 - beta^k` of what an old one does. A young entry's is therefore
//! raised, in `u` alone, by `(1 - beta^oldest) / (1 - beta^age)`, where `oldest` is the age of its tensor's oldest
//! entries: new and old entries then have the same share, and a model that never grew follows the published rule to
//! the bit. That is [`StatePolicy::Age`]; by `Inherit` all entries of an old tensor have the same age and nothing is
//! raised, by `Reset` all momenta and ages become 0. (AdamW corrects each entry's moments by its own age for the same
//! reason.)
//!
//! [`StatePolicy::Age`]: super::StatePolicy::Age

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub(crate) mod step;

use super::{
    adamw::{self, AdamWConfig, step::AdamWKernel},
    optimizer::Optimizer,
    rule::{Parameter, Rule, RuleOn, Update, within},
};
use crate::{
    axis::NamedShape,
    error::{Error, Result},
    ops::compute::Precision,
    params::{Kind, Role},
};
use serde::{Deserialize, Serialize};
use step::{MuonGroup, MuonKernel, MuonStep};

/// The numbers of Muon that stay the same during a run. The learning rate is that of the matrices (published: 0.02).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MuonConfig {
    /// Decay of the momentum.
    pub momentum: f64,
    /// Decoupled weight decay on matrices.
    pub weight_decay: f64,
    /// Newton-Schulz steps of an update.
    pub ns_steps: u32,
    /// What their products are computed in; by default what the run's are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// For all that is no matrix.
    pub adamw: AuxiliaryAdamW,
}

impl Default for MuonConfig {
    fn default() -> Self {
        MuonConfig {
            momentum: 0.95,
            weight_decay: 0.0,
            ns_steps: 5,
            precision: None,
            adamw: AuxiliaryAdamW::default(),
        }
    }
}

/// The AdamW that moves tables, biases and norms beside Muon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuxiliaryAdamW {
    /// Its learning rate as a share of the matrices' (published: 3e-4 beside 0.02).
    pub rate_ratio: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay on tables.
    pub weight_decay: f64,
}

impl Default for AuxiliaryAdamW {
    fn default() -> Self {
        AuxiliaryAdamW { rate_ratio: 0.015, beta1: 0.9, beta2: 0.95, eps: 1e-10, weight_decay: 0.0 }
    }
}

impl AuxiliaryAdamW {
    fn rule(&self) -> AdamWConfig {
        let AuxiliaryAdamW { rate_ratio: _, beta1, beta2, eps, weight_decay } = *self;
        AdamWConfig { beta1, beta2, eps, weight_decay }
    }
}

/// Muon with its state.
pub type Muon<D> = Optimizer<D, MuonConfig>;

/// The slot of a matrix.
const MOMENTUM: &str = "momentum";

/// Most Newton-Schulz steps; more change nothing that is worth their time.
const MOST_STEPS: u32 = 100;

/// Whether Muon moves a parameter of that role.
fn is_matrix(role: &Role) -> bool {
    role.kind == Kind::Weight
}

impl Rule for MuonConfig {
    fn kind(&self) -> &'static str {
        "muon"
    }

    fn check(&self) -> Result<()> {
        let share = |beta: f64| (0.0..1.0).contains(&beta);
        within("muon: momentum", "at least 0 and less than 1", self.momentum, share)?;
        let at_least_0 = |number: f64| number.is_finite() && number >= 0.0;
        within("muon: weight_decay", "at least 0", self.weight_decay, at_least_0)?;
        let steps = |steps: f64| (1.0..=f64::from(MOST_STEPS)).contains(&steps);
        within("muon: ns_steps", "1 to 100", f64::from(self.ns_steps), steps)?;
        let AuxiliaryAdamW { rate_ratio, beta1, beta2, eps, weight_decay } = self.adamw;
        within("muon: adamw.rate_ratio", "at least 0", rate_ratio, at_least_0)?;
        within("muon: adamw.beta1", "at least 0 and less than 1", beta1, share)?;
        within("muon: adamw.beta2", "at least 0 and less than 1", beta2, share)?;
        // As for AdamW alone: 0 / 0 where there never was a gradient.
        within("muon: adamw.eps", "a positive f32", eps, |eps| eps.is_finite() && eps as f32 > 0.0)?;
        within("muon: adamw.weight_decay", "at least 0", weight_decay, at_least_0)
    }

    fn slots(&self) -> &'static [&'static str] {
        &[MOMENTUM, adamw::FIRST, adamw::SECOND]
    }

    fn holds(&self, slot: &str, role: &Role) -> bool {
        (slot == MOMENTUM) == is_matrix(role)
    }

    fn in_precision(self, precision: Precision) -> Self {
        MuonConfig { precision: self.precision.or(Some(precision)), ..self }
    }
}

impl<D: AdamWKernel + MuonKernel> RuleOn<D> for MuonConfig {
    fn update<S: NamedShape>(
        &self,
        pass: &mut D::Pass<'_>,
        parameter: Parameter<'_, S, D>,
        update: &Update,
    ) -> Result<()> {
        if !is_matrix(&parameter.role) {
            let update = Update { lr: update.lr * self.adamw.rate_ratio, ..*update };
            return self.adamw.rule().update(pass, parameter, &update);
        }
        let &[.., rows, columns] = parameter.entries.sizes else {
            return Err(Error::Count { what: "axes of a matrix", expected: 2, got: S::NUM_DIMS });
        };
        let shape_factor = (rows as f64 / columns as f64).max(1.0).sqrt();
        // Oldest first; without age groups of its own a tensor has one.
        let oldest = parameter.table(update, |age, _| self.held(age)).into_iter().fold(0.0, f64::max);
        let groups = parameter.table(update, |age, lr| MuonGroup {
            momentum: (self.momentum * (oldest / self.held(age))) as f32,
            rate: (lr * shape_factor) as f32,
            decay: (lr * self.weight_decay) as f32,
        });
        let step = MuonStep {
            entries: parameter.entries,
            groups: &groups,
            share: (1.0 - self.momentum) as f32,
            steps: self.ns_steps,
            precision: self.precision.unwrap_or_default(),
        };
        let (tensor, [momentum]) = parameter.parts()?;
        D::muon(pass, tensor, momentum, &step)
    }
}

impl MuonConfig {
    /// The share of its final size that an entry's momentum has at an age.
    fn held(&self, age: f64) -> f64 {
        1.0 - self.momentum.powf(age)
    }
}
