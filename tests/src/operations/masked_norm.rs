//! The norm: its plain chain in f64 is the reference.

use super::{MASKS, Results, mask, tensor};
use crate::with_gradients;
use dfdx::tensor::{Cpu, Trace};
use msg_core::{
    Backend, Result,
    axis::{Batch, Hidden, Query},
    float::Float,
    ops::{Kernels, masked_layer_norm},
};

/// Relative to the largest value.
pub const TOLERANCE: f64 = 2e-5;

/// # Errors
/// Where the operation refuses.
pub fn plain() -> Result<Results> {
    results::<f64, _>(&Cpu::default())
}

/// # Errors
/// Where the operation refuses.
pub fn on<D: Backend>(device: &D) -> Result<Results> {
    results::<f32, _>(device)
}

fn results<E: Float, D: Kernels<E>>(device: &D) -> Result<Results> {
    let mut results = Results::new();
    for (length, units) in [(3, 37), (70, 5)] {
        let x = tensor::<_, E, D>(device, "x", (Batch(2), Query(length), Hidden(units)));
        let weight = tensor::<_, E, D>(device, "weight", (Hidden(units),));
        let bias = tensor::<_, E, D>(device, "bias", (Hidden(units),));
        for m in MASKS {
            let mask = mask(device, Hidden(units), m)?;
            let y = masked_layer_norm(x.leaky_trace(), &weight, &bias, &mask, 1e-5)?;
            with_gradients!(results, format!("{units} units, mask {m:?}"), y, [x, weight, bias]);
        }
    }
    Ok(results)
}
