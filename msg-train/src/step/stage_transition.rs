//! What happens between two stages: growth of model and optimizer, and the receipt.

use crate::{
    data::Batches,
    error::Result,
    families::family::Task,
    metrics::{self, Growth, Record},
    parity::receipt::Receipt,
    schedule::plan::Stage,
    step::trainer::{On, Trainer},
};
use dfdx::tensor::NoneTape;
use msg_core::{Backend, error::Context, ops::Dropout};
use msg_models::{GrowthSpec, Masks};

/// Sequences of the fixed batch that receipts are taken on.
pub(crate) const RECEIPT_SEQUENCES: usize = 2;

/// Largest |dlogit| on devices whose sums have no fixed order, as a share of the largest logit.
const INEXACT: f64 = 1e-5;

/// The fixed batch of a receipt: the first held-out sequences, or the run's first ones.
pub(crate) fn receipt_batch<S: Batches>(source: &S, length: usize) -> Result<S::Batch> {
    match source.held_out(0, RECEIPT_SEQUENCES, length)? {
        Some(host) => Ok(host),
        None => source.batch(0, RECEIPT_SEQUENCES, length),
    }
}

/// Outputs and loss of a model on a host batch.
pub(crate) fn measure<D: Backend, M: Task<D>>(
    model: &M,
    host: &M::Host,
    masks: &Masks<D>,
) -> Result<(Vec<f32>, f32)> {
    let batch = model.upload(host)?;
    let loss = model.loss(&batch, M::counts(host), masks, &Dropout::OFF, NoneTape)?;
    Ok((model.outputs(&batch, masks)?, loss.as_vec()[0]))
}

/// Compares two computations on the fixed batch.
pub(crate) fn receipt(
    tolerance: Option<f64>,
    exact: bool,
    before: &(Vec<f32>, f32),
    after: &(Vec<f32>, f32),
) -> Receipt {
    let largest = before.0.iter().fold(0.0f64, |largest, x| largest.max(f64::from(x.abs())));
    let tolerance = tolerance.unwrap_or(if exact { 0.0 } else { INEXACT * largest });
    Receipt::new((&before.0, before.1), (&after.0, after.1), tolerance)
}

/// Grows the model into the stage. Over its tolerance, the receipt stops the run and the model stays small.
pub(crate) fn cross<D: Backend, M: Task<D>, S: Batches<Batch = M::Host>>(
    run: &mut Trainer<D, M, S>,
    stage: &Stage,
    on: &mut On<'_>,
) -> Result<()> {
    let now = run.state.step;
    let Some(boundary) = &stage.boundary else {
        run.state.stage = stage.number;
        return Ok(());
    };
    let host = receipt_batch(&*run.source, stage.sequence)?;
    let before = measure(&run.model, &host, &run.model.masks(now)?)?;

    run.grads = None;
    let (from_stage, from) = (run.state.stage, run.model.growing().sizes);
    let spec = GrowthSpec {
        seed: run.config.run().seed,
        number: boundary.number,
        units: boundary.units,
        layers: boundary.layers,
    };
    let growth = run.model.growth_to(stage.sizes, &spec)?;
    let mut model = run.model.grown(&growth, &boundary.units.operator(), boundary.ramp)?;
    let mut masks = model.masks(now)?;
    if let Some(fault) = run.fault {
        masks = fault.strike(&mut model, masks)?;
    }
    let after = measure(&model, &host, &masks)?;
    let receipt = receipt(run.config.train().receipt_tolerance, D::DETERMINISTIC_SUMS, &before, &after);
    receipt.check(&format!("growth into stage {} after step {now}", stage.number))?;

    run.optimizer = run.optimizer.grown(&model, &growth, boundary.state)?;
    run.model = model;
    run.state.births.push((now, run.optimizer.applied()));
    run.state.stage = stage.number;
    // Memory that waits for tensors of the old sizes.
    run.device.try_empty_cache().during("growth")?;
    let mut record = metrics::Receipt::from(receipt);
    // Without a ramp the function jumps at the first step, whatever the receipt says of the moment before.
    record.function_preserving &= boundary.ramp.length > 0;
    let growth = Growth {
        step: now + 1,
        from_stage,
        to_stage: stage.number,
        from,
        to: stage.sizes,
        params: run.model.num_params() as u64,
        receipt: record,
    };
    on(Record::Growth(growth), 0.0)
}

/// The receipt of a ramp's end: masks that are 1 throughout against none.
pub(crate) fn ramp_end<D: Backend, M: Task<D>, S: Batches<Batch = M::Host>>(
    run: &Trainer<D, M, S>,
    kept: &Masks<D>,
    step: u64,
) -> Result<Receipt> {
    let stage = run.plan.stage_at(step);
    let host = receipt_batch(&*run.source, stage.sequence)?;
    let masked = measure(&run.model, &host, kept)?;
    // Of the same step: other ramps may go on.
    let dropped = measure(&run.model, &host, &run.model.masks(step)?)?;
    let receipt = receipt(run.config.train().receipt_tolerance, D::DETERMINISTIC_SUMS, &masked, &dropped);
    receipt.check(&format!("end of the ramp after step {step}"))?;
    Ok(receipt)
}
