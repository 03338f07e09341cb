//! Dropout: the factors that the host makes are the reference, and no device may differ by a bit.

use super::{Results, tensor, values};
use crate::with_gradients;
use dfdx::tensor::{Cpu, Trace};
use msg_core::{
    Backend, Result,
    axis::{Batch, Hidden, Query},
    float::Float,
    ops::{Dropout, DropoutSite, Kernels},
};

/// None.
pub const TOLERANCE: f64 = 0.0;

/// # Errors
/// Where the operation refuses.
pub fn plain() -> Result<Results> {
    results::<f32, _>(&Cpu::default())
}

/// # Errors
/// Where the operation refuses.
pub fn on<D: Backend>(device: &D) -> Result<Results> {
    results::<f32, _>(device)
}

fn results<E: Float, D: Kernels<E>>(device: &D) -> Result<Results> {
    let mut results = Results::new();
    let x = tensor::<_, E, D>(device, "x", (Batch(3), Query(5), Hidden(70)));
    let site = DropoutSite { layer: Some(4), place: "test" };
    let y = Dropout::new(0.3, 5, 6, 7)?.apply(x.leaky_trace(), site)?;
    with_gradients!(results, "value", y, [x]);
    let dropped = results[0].1.iter().filter(|value| **value == 0.0).count();
    assert!((200..450).contains(&dropped), "{dropped} of {} dropped", values(&x).len());
    Ok(results)
}
