//! Attention: its plain chain in f64 is the reference.

use super::{Results, tensor};
use crate::with_gradients;
use dfdx::tensor::{Cpu, Trace};
use msg_core::{
    Backend, Result,
    axis::{AttnDim, Batch, HeadDim, Key, Query},
    float::Float,
    ops::{AttentionMask, Dropout, DropoutSite, Kernels, attention},
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
    let (batch, length, inner) = (Batch(2), Query(5), AttnDim(6));
    let query = tensor::<_, E, D>(device, "query", (batch, length, inner));
    let key = tensor::<_, E, D>(device, "key", (batch, Key(5), inner));
    let value = tensor::<_, E, D>(device, "value", (batch, Key(5), inner));
    let site = DropoutSite { layer: Some(1), place: "attention" };
    let seen: Vec<bool> = (0..10).map(|at| at != 4 && at < 8).collect();
    let padding = AttentionMask::full().with_padding(device, &seen, batch, length)?;
    for (name, mask, dropout) in [
        ("causal", AttentionMask::causal(length), Dropout::OFF),
        ("padding", padding, Dropout::OFF),
        ("dropout", AttentionMask::full(), Dropout::new(0.3, 1, 2, 3)?),
    ] {
        let (key_in, value_in) = (key.retaped(), value.retaped());
        let y = attention(query.leaky_trace(), key_in, value_in, HeadDim(3), &mask, (dropout, site))?;
        with_gradients!(results, name, y, [query, key, value]);
    }
    Ok(results)
}
