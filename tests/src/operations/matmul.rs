//! The products of attention: dfdx's own are the reference. That of a linear map is in `linear.rs`.

use super::{Results, tensor};
use crate::with_gradients;
use dfdx::{
    shapes::Axes4,
    tensor::{Cpu, Trace},
    tensor_ops::{PermuteTo, TryMatMul},
};
use msg_core::{
    Backend, Result,
    axis::{Batch, HeadDim, Heads, Key, Query},
    ops::matmul::Matmul,
};

/// Relative to the largest value.
pub const TOLERANCE: f64 = 1e-5;

const QUERIES: (Batch, Heads, Query, HeadDim) = (Batch(2), Heads(3), Query(5), HeadDim(7));
const KEYS: (Batch, Heads, Key, HeadDim) = (Batch(2), Heads(3), Key(11), HeadDim(7));
const SHARES: (Batch, Heads, Query, Key) = (Batch(2), Heads(3), Query(5), Key(11));

/// # Errors
/// Where dfdx refuses.
pub fn plain() -> Result<Results> {
    let mut results = Results::new();
    let device = Cpu::default();
    let query = tensor::<_, f64, _>(&device, "query", QUERIES);
    let key = tensor::<_, f64, _>(&device, "key", KEYS);
    let shares = tensor::<_, f64, _>(&device, "shares", SHARES);
    let turned = key.leaky_trace().permute::<(Batch, Heads, HeadDim, Key), Axes4<0, 1, 3, 2>>();
    with_gradients!(results, "scores", query.leaky_trace().matmul(turned), [query, key]);
    with_gradients!(results, "values", shares.leaky_trace().matmul(key.leaky_trace()), [shares, key]);
    Ok(results)
}

/// # Errors
/// Where the operation refuses.
pub fn on<D: Backend>(device: &D) -> Result<Results> {
    let mut results = Results::new();
    let query = tensor::<_, f32, D>(device, "query", QUERIES);
    let key = tensor::<_, f32, D>(device, "key", KEYS);
    let shares = tensor::<_, f32, D>(device, "shares", SHARES);
    let scores = <D as Matmul<f32>>::scores(query.leaky_trace(), key.leaky_trace())?;
    with_gradients!(results, "scores", scores, [query, key]);
    let values = <D as Matmul<f32>>::weighted_values(shares.leaky_trace(), key.leaky_trace())?;
    with_gradients!(results, "values", values, [shares, key]);
    Ok(results)
}
