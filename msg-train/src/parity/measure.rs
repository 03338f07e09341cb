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
use msg_core::{Backend, ops::Dropout};
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

/// Compares two computations on the same batch. Without a tolerance they must be equal to the bit where sums are
/// `exact`, else within a fixed share of the largest logit.
pub fn compare(tolerance: Option<f64>, exact: bool, before: &Measured, after: &Measured) -> Receipt {
    let largest = before.outputs.iter().fold(0.0f64, |largest, x| largest.max(f64::from(x.abs())));
    let tolerance = tolerance.unwrap_or(if exact { 0.0 } else { INEXACT * largest });
    Receipt::new((&before.outputs, before.loss), (&after.outputs, after.loss), tolerance)
}
