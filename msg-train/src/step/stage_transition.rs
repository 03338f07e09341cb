//! What happens between two stages: model and optimizer grow, and the receipt shows what that did to the function.

use crate::{
    error::Result,
    families::family::{HostOf, Trainable},
    metrics::{self, Growth, RampEnd},
    parity::measure::{compare, measure},
    schedule::plan::{Boundary, Stage},
    step::running::Running,
};
use msg_core::{Backend, error::Context};
use msg_models::{GrowthSpec, Masks};

/// Grows the model into a stage, and compares it with the old one on the batch `host`.
///
/// # Errors
/// [`Error::Receipt`](crate::error::Error::Receipt) where the difference is over the tolerance: the model stays small.
pub(crate) fn grow_into<D: Backend, M: Trainable<D>>(
    run: &mut Running<D, M>,
    stage: &Stage,
    boundary: &Boundary,
    host: &HostOf<D, M>,
) -> Result<Growth> {
    let now = run.state.step;
    let before = measure(&run.model, host, &run.model.masks(now)?)?;

    run.grads = None;
    let (from_stage, from) = (run.state.stage, run.model.growing().sizes);
    let spec = GrowthSpec {
        seed: run.options.seed,
        number: boundary.number,
        units: boundary.units,
        layers: boundary.layers,
    };
    let growth = run.model.growth_to(stage.sizes, &spec)?;
    let mut model = run.model.grown(&growth, &boundary.units.operator(), boundary.ramp)?;
    let mut masks = model.masks(now)?;
    if let Some(fault) = run.fault {
        masks = fault.apply(&mut model, masks)?;
    }
    let after = measure(&model, host, &masks)?;
    let receipt = compare(run.options.receipt_tolerance, D::DETERMINISTIC_SUMS, &before, &after);
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
    Ok(Growth {
        step: now + 1,
        from_stage,
        to_stage: stage.number,
        from,
        to: stage.sizes,
        params: run.model.num_params() as u64,
        receipt: record,
    })
}

/// The receipt of a ramp's end: `kept` masks that are 1 throughout against none.
pub(crate) fn ramp_end<D: Backend, M: Trainable<D>>(
    run: &Running<D, M>,
    kept: &Masks<D>,
    host: &HostOf<D, M>,
) -> Result<RampEnd> {
    let step = run.state.step;
    let masked = measure(&run.model, host, kept)?;
    // Of the same step: other ramps may still run.
    let dropped = measure(&run.model, host, &run.model.masks(step)?)?;
    let receipt = compare(run.options.receipt_tolerance, D::DETERMINISTIC_SUMS, &masked, &dropped);
    receipt.check(&format!("end of the ramp after step {step}"))?;
    Ok(RampEnd { step, receipt: receipt.into() })
}
