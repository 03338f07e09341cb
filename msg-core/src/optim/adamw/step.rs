//! The numbers of one AdamW update of one tensor, as the kernels of all devices take them.

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

/// One update of one tensor. An entry belongs to the latest age group among its units'.
#[derive(Clone, Debug)]
pub struct AdamStep<'a> {
    /// The tensor's sizes, outermost first.
    pub sizes: &'a [usize],
    /// Per axis the age group of each unit; an empty list means age group 0 throughout.
    pub units: &'a [Vec<u32>],
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
