//! One AdamW update of one tensor, as the kernels of all devices take it.

use crate::{
    error::Result,
    optim::{age_groups::EntryGroups, kernel::OptimKernel},
    params::Param,
};
use dfdx::shapes::Shape;

/// A device with the update of AdamW.
pub trait AdamWKernel: OptimKernel {
    /// Updates one parameter and its moments in place, unless the status forbids it. Clones of the parameter keep
    /// their values. Clones of the moments may change: see [`OptimKernel::make_unique`].
    ///
    /// # Errors
    /// Where the tensors do not fit each other.
    fn adamw<S: Shape>(
        pass: &mut Self::Pass<'_>,
        tensor: &mut Param<S, Self>,
        moments: [&mut Param<S, Self>; 2],
        step: &AdamStep<'_>,
    ) -> Result<()>;
}

/// The numbers that differ between entries of different age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AgeGroup {
    /// Learning rate.
    pub lr: f32,
    /// `lr / (1 - beta1^age)`: the step size after bias correction of the first moment.
    pub step_size: f32,
    /// `sqrt(1 - beta2^age)`: the bias correction of the second moment's root.
    pub root_correction: f32,
}

/// One update of one tensor.
#[derive(Clone, Debug)]
pub struct AdamStep<'a> {
    /// Which entry belongs to which age group.
    pub entries: EntryGroups<'a>,
    /// The age groups, oldest first.
    pub groups: &'a [AgeGroup],
    /// `1 - beta1`: what the gradient adds to the first moment.
    pub first_share: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// `1 - beta2`: what the squared gradient adds to the second moment.
    pub second_share: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay; 0 for biases and norms.
    pub weight_decay: f32,
}
