//! One Muon update of one tensor, as the kernels of all devices take it.

use crate::{
    error::Result,
    ops::compute::Precision,
    optim::{age_groups::EntryGroups, kernel::OptimKernel},
    params::Param,
};
use dfdx::shapes::Shape;

/// A device with the update of Muon.
pub trait MuonKernel: OptimKernel {
    /// Updates one parameter and its momentum in place, unless the status forbids it. Clones of the parameter keep
    /// their values. Clones of the momentum may change: see [`OptimKernel::make_unique`].
    ///
    /// # Errors
    /// Where the tensors do not fit each other.
    fn muon<S: Shape>(
        pass: &mut Self::Pass<'_>,
        tensor: &mut Param<S, Self>,
        momentum: &mut Param<S, Self>,
        step: &MuonStep<'_>,
    ) -> Result<()>;
}

/// Coefficients of the published quintic `a x + b x^3 + c x^5`: steep at zero, and then within 0.7 to 1.2 rather
/// than at 1.
pub(crate) const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Added to a matrix' norm before the division by it, as published.
pub(crate) const NORM_EPS: f32 = 1e-7;

/// The numbers that differ between entries of different age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MuonGroup {
    /// What the momentum is multiplied by in the update: `beta`, raised for young entries.
    pub momentum: f32,
    /// Learning rate times the shape factor.
    pub rate: f32,
    /// Learning rate times weight decay.
    pub decay: f32,
}

/// One Muon update of one tensor, whose last two axes are matrices (outputs, inputs).
#[derive(Clone, Debug)]
pub struct MuonStep<'a> {
    /// Which entry belongs to which age group.
    pub entries: EntryGroups<'a>,
    /// The groups, oldest first.
    pub groups: &'a [MuonGroup],
    /// `1 - beta`: what the gradient adds to the momentum, and to the update.
    pub share: f32,
    /// Newton-Schulz steps.
    pub steps: u32,
    /// What their products are computed in.
    pub precision: Precision,
}
