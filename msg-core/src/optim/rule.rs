//! What differs between optimizers: their settings, what they keep for a parameter, how they update one.

use super::{age_groups::EntryGroups, kernel::OptimKernel};
use crate::{
    axis::NamedShape,
    error::{Error, Result},
    ops::compute::Precision,
    params::{Param, Role},
};
use dfdx::shapes::Shape;
use std::fmt::Debug;

/// An optimizer's settings, and which tensors it keeps.
pub trait Rule: Clone + Debug {
    /// What the optimizer is called in configurations and checkpoints.
    fn kind(&self) -> &'static str;

    /// Refuses numbers that no update can be made with.
    ///
    /// # Errors
    /// [`Error::Value`] names the number.
    fn check(&self) -> Result<()>;

    /// The names of all its slots. A checkpoint writes each to a file of that name.
    fn slots(&self) -> &'static [&'static str];

    /// Whether a parameter of that role has that slot. By default every one has all.
    fn holds(&self, slot: &str, role: &Role) -> bool {
        let _ = (slot, role);
        true
    }

    /// The same rule in a run whose products are computed in `precision`, which only a rule with products of its own
    /// asks about.
    #[must_use]
    fn in_precision(self, precision: Precision) -> Self {
        let _ = precision;
        self
    }

    /// f32 numbers of state for each entry of a parameter of that role.
    fn numbers_per_entry(&self, role: &Role) -> usize {
        self.slots().iter().filter(|slot| self.holds(slot, role)).count()
    }
}

/// A rule on a device that has its kernels.
pub trait RuleOn<D: OptimKernel>: Rule {
    /// Hands one parameter over to be updated, in place.
    ///
    /// # Errors
    /// Where the tensors do not fit each other.
    fn update<S: NamedShape>(
        &self,
        pass: &mut D::Pass<'_>,
        parameter: Parameter<'_, S, D>,
        update: &Update,
    ) -> Result<()>;
}

/// One parameter as a rule sees it.
#[derive(Debug)]
pub struct Parameter<'a, S: Shape, D: OptimKernel> {
    /// Its values.
    pub tensor: &'a mut Param<S, D>,
    /// The slots that the rule [holds](Rule::holds) for it, in the rule's order.
    pub slots: Vec<&'a mut Param<S, D>>,
    /// What it is for.
    pub role: Role,
    /// Its sizes, outermost first, and the age group of each unit.
    pub entries: EntryGroups<'a>,
    /// The birth and the start of each age group, in updates, oldest first: what the age counts from is the start.
    pub born: Vec<(u64, u64)>,
    /// Updates applied so far.
    pub applied: u64,
}

impl<'a, S: Shape, D: OptimKernel> Parameter<'a, S, D> {
    /// A row for each age group, oldest first, from its age in this update (1 in its first) and its learning rate.
    pub fn table<T>(&self, update: &Update, row: impl Fn(f64, f64) -> T) -> Vec<T> {
        let each = |&(birth, start): &(u64, u64)| {
            let age = (self.applied + 1 - start) as f64;
            let factor = if birth == update.new_since { update.new_factor } else { 1.0 };
            row(age, update.lr * factor)
        };
        self.born.iter().map(each).collect()
    }

    /// The values and `N` slots.
    ///
    /// # Errors
    /// [`Error::Count`] for another number of slots.
    pub fn parts<const N: usize>(self) -> Result<(&'a mut Param<S, D>, [&'a mut Param<S, D>; N])> {
        let count =
            |slots: Vec<_>| Error::Count { what: "slots of a parameter", expected: N, got: slots.len() };
        Ok((self.tensor, self.slots.try_into().map_err(count)?))
    }
}

/// What differs from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate in force.
    pub lr: f64,
    /// Largest global norm of the gradient; larger ones are scaled down to it.
    pub clip: Option<f64>,
    /// Factor on the learning rate of the entries born at `new_since` (`rewarm-new`), whatever the
    /// [`StatePolicy`](super::StatePolicy) says about their age.
    pub new_factor: f64,
    /// What [`Optimizer::applied`](super::Optimizer::applied) was at the boundary that `new_factor` is about; entries born at others keep
    /// the full rate. Entries that were there from the start are born at 0.
    pub new_since: u64,
}

impl Update {
    /// A plain update.
    pub fn at(lr: f64) -> Self {
        Update { lr, clip: None, new_factor: 1.0, new_since: u64::MAX }
    }

    /// Refuses numbers that would spoil the parameters.
    ///
    /// # Errors
    /// [`Error::Value`] names the number.
    pub fn check(&self) -> Result<()> {
        let rate = |rate: f64| rate.is_finite() && rate >= 0.0;
        within("update: lr", "at least 0", self.lr, rate)?;
        within("update: new_factor", "at least 0", self.new_factor, rate)?;
        let clip = self.clip.unwrap_or(1.0);
        within("update: clip", "more than 0", clip, |clip| clip > 0.0)
    }
}

/// Refuses a number that is not `admissible`.
pub(crate) fn within(
    what: &'static str,
    expected: &'static str,
    got: f64,
    admissible: impl Fn(f64) -> bool,
) -> Result<()> {
    if admissible(got) { Ok(()) } else { Err(Error::Value { what, expected, got }) }
}
