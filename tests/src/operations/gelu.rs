//! GELU: its chain in f64 is the reference.

use super::{MASKS, Results, mask, tensor};
use crate::with_gradients;
use dfdx::tensor::{Cpu, Trace};
use msg_core::{
    Backend, Result,
    axis::{Ffn, Rows},
    float::Float,
    ops::{Gelu, Kernels, masked_gelu},
};

/// Relative to the largest value.
pub const TOLERANCE: f64 = 1e-5;

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
    let x = tensor::<_, E, D>(device, "x", (Rows(3), Ffn(11)));
    for form in [Gelu::Erf, Gelu::Tanh] {
        for m in MASKS {
            let y = masked_gelu(x.leaky_trace(), form, &mask(device, Ffn(11), m)?)?;
            with_gradients!(results, format!("{form:?}, mask {m:?}"), y, [x]);
        }
    }
    Ok(results)
}
