//! What happens between two stages: model and optimizer grow, and the receipt shows what that did to the function.

use crate::{
    error::Result,
    families::family::{HostOf, Trainable},
    metrics::{self, Growth, RampEnd},
    parity::measure::{compare, measure, on_device},
    schedule::plan::{Boundary, Stage},
    step::{
        growth_method::{enlarge, listed, spec_of},
        running::Running,
    },
};
use msg_core::{Backend, error::Context, growth::Preserves};
use msg_models::Masks;

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
    let listed = listed::<D, M>(boundary.growth.operator, boundary.growth.units);
    let method = run.operator.as_deref().unwrap_or(&*listed);
    let spec = spec_of(boundary, run.options.seed);
    // The old model stays: it is kept if the receipt does not hold.
    let (mut model, growth) = enlarge(run.model.clone(), stage.sizes, &spec, boundary.ramp, method)?;
    let mut masks = model.masks(now)?;
    if let Some(fault) = run.fault {
        masks = fault.apply(&mut model, masks)?;
    }
    let after = measure(&model, host, &masks)?;
    let preserves = on_device::<D>(method.preserves());
    let receipt = compare(run.options.receipt_tolerance, preserves, &before, &after);
    if preserves != Preserves::No {
        receipt.check(&format!("growth into stage {} after step {now}", stage.number))?;
    }

    run.optimizer = method.grow_optimizer(&run.optimizer, &model, &growth, boundary.growth.state)?;
    run.model = model;
    run.state.births.push((now, run.optimizer.applied()));
    run.state.stage = stage.number;
    // Memory that waits for tensors of the old sizes.
    run.device.try_empty_cache().during("growth")?;
    let mut record = metrics::Receipt::from(receipt);
    // Without a ramp the function jumps at the first step, whatever the receipt says of the moment before.
    record.function_preserving &= boundary.ramp.length > 0 || !method.masked();
    Ok(Growth {
        step: now + 1,
        from_stage,
        to_stage: stage.number,
        from,
        to: stage.sizes,
        params: run.model.num_params() as u64,
        operator: run.operator.as_ref().map(|own| own.describe()),
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
    let receipt = compare(run.options.receipt_tolerance, on_device::<D>(Preserves::Bits), &masked, &dropped);
    receipt.check(&format!("end of the ramp after step {step}"))?;
    Ok(RampEnd { step, receipt: receipt.into() })
}
