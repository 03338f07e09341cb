//! Cross-entropy: its chain in f64 is the reference.

use super::{Results, tensor, values};
use dfdx::{
    tensor::{Cpu, Trace},
    tensor_ops::Backward,
};
use msg_core::{
    Backend, Result,
    axis::{Batch, Query, Vocab},
    float::Float,
    ops::{Kernels, Labels, cross_entropy},
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
    let logits = tensor::<_, E, D>(device, "logits", (Batch(2), Query(3), Vocab(13)));
    let labels = Labels::new(device, &[3, -100, 12, 0, -100, 5], (Batch(2), Query(3)), Vocab(13))?;
    let loss = cross_entropy(logits.leaky_trace(), &labels, labels.counted())?;
    let value = loss.as_vec().into_iter().map(|value| value.to_f64().unwrap_or(f64::NAN)).collect();
    let gradient = values(&loss.backward().get(&logits));
    Ok(vec![("loss".into(), value), ("gradient of logits".into(), gradient)])
}
