//! What a model computes on a fixed batch, and the comparison of two models on it.

use super::receipt::Receipt;
use crate::{
    error::Result,
    families::{
        family::{HostOf, Trainable},
        objective::Objective,
    },
};
use dfdx::tensor::NoneTape;
use msg_core::{Backend, growth::Preserves, ops::Dropout};
use msg_models::Masks;

/// Largest |dlogit| on devices whose sums have no fixed order, as a share of the largest logit.
const INEXACT: f64 = 1e-5;

/// What a model computes on a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// All outputs.
    pub outputs: Vec<f32>,
    /// The loss.
    pub loss: f32,
}

/// Outputs and loss of a model on a host batch.
///
/// # Errors
/// Where the batch does not fit the model.
pub fn measure<D: Backend, M: Trainable<D>>(
    model: &M,
    host: &HostOf<D, M>,
    masks: &Masks<D>,
) -> Result<Measured> {
    let batch = <M::Objective>::upload(model, host)?;
    let counts = <M::Objective>::counts(host);
    let loss = <M::Objective>::loss(model, &batch, counts, masks, &Dropout::OFF, NoneTape)?;
    Ok(Measured { outputs: <M::Objective>::outputs(model, &batch, masks)?, loss: loss.as_vec()[0] })
}

/// What an operator promises, as far as a device can show it.
pub fn on_device<D: Backend>(preserves: Preserves) -> Preserves {
    match preserves {
        Preserves::Bits if !D::DETERMINISTIC_SUMS => Preserves::Within(INEXACT),
        other => other,
    }
}

/// Compares two computations on the same batch. Without a tolerance, the difference that `preserves` allows.
pub fn compare(tolerance: Option<f64>, preserves: Preserves, before: &Measured, after: &Measured) -> Receipt {
    let largest = before.outputs.iter().fold(0.0f64, |largest, x| largest.max(f64::from(x.abs())));
    let share = match preserves {
        Preserves::Within(share) => share,
        Preserves::Bits | Preserves::No => 0.0,
    };
    let tolerance = tolerance.unwrap_or(share * largest);
    Receipt::new((&before.outputs, before.loss), (&after.outputs, after.loss), tolerance)
}
