//! The linear map: dfdx's own product is the reference.

use super::{Results, tensor};
use crate::with_gradients;
use dfdx::{
    shapes::Axes2,
    tensor::{Cpu, Trace},
    tensor_ops::{BroadcastTo, PermuteTo, TryAdd, TryMatMul},
};
use msg_core::{
    Backend, Result,
    axis::{Batch, Ffn, Hidden, Query},
    error::Context,
    ops::linear,
};

/// Relative to the largest value.
pub const TOLERANCE: f64 = 1e-5;

const SHAPE: (Batch, Query, Hidden) = (Batch(2), Query(3), Hidden(301));
const OUTPUTS: Ffn = Ffn(37);

/// # Errors
/// Where dfdx refuses.
pub fn plain() -> Result<Results> {
    let mut results = Results::new();
    let device = Cpu::default();
    let x = tensor::<_, f64, _>(&device, "x", SHAPE);
    let weight = tensor::<_, f64, _>(&device, "weight", (OUTPUTS, SHAPE.2));
    let bias = tensor::<_, f64, _>(&device, "bias", (OUTPUTS,));
    let turned = weight.leaky_trace().permute::<(Hidden, Ffn), Axes2<1, 0>>();
    let added = bias.leaky_trace().broadcast_like::<_, Axes2<0, 1>>(&(SHAPE.0, SHAPE.1, OUTPUTS));
    let y = x.leaky_trace().matmul(turned).try_add(added).during("test")?;
    with_gradients!(results, "value", y, [x, weight, bias]);
    Ok(results)
}

/// # Errors
/// Where the operation refuses.
pub fn on<D: Backend>(device: &D) -> Result<Results> {
    let mut results = Results::new();
    let x = tensor::<_, f32, D>(device, "x", SHAPE);
    let weight = tensor::<_, f32, D>(device, "weight", (OUTPUTS, SHAPE.2));
    let bias = tensor::<_, f32, D>(device, "bias", (OUTPUTS,));
    let y = linear(x.leaky_trace(), weight.leaky_trace(), Some(bias.leaky_trace()))?;
    with_gradients!(results, "value", y, [x, weight, bias]);
    Ok(results)
}
