//! How a model is computed: in which precision, and what is kept for the backward pass.

use crate::{
    error::{Context, Result},
    float::Float,
};
use dfdx::{
    shapes::Shape,
    tensor::{NoneTape, Tape, Tensor},
    tensor_ops::{Device, TryAdd, TryMul, TrySub},
};
use serde::{Deserialize, Serialize};

/// What matrix products are computed in. Weights, the residual stream, norms, softmax, loss and the optimizer are
/// f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// Operands rounded to bf16, sums in f32: the linear maps and the attention of blocks, and the tied head.
    /// Which products these are is fixed by their role, never by their size.
    Bf16,
}

/// How a model is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compute {
    /// Of the matrix products.
    pub precision: Precision,
    /// Whether blocks keep only their input and recompute their activations in the backward pass: less memory, one
    /// more forward pass, the same bits. The plain form of a block keeps everything.
    pub recompute: bool,
    /// On Cuda, whether f32 products of blocks may cut their operands to TF32 for tensor cores. Elsewhere, and in
    /// bf16, nothing changes.
    pub tf32: bool,
}

/// An operand rounded to a precision; the gradient passes through unchanged.
pub fn rounded<S: Shape, E: Float, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<S, E, D, T>,
    precision: Precision,
) -> Result<Tensor<S, E, D, T>> {
    const OP: &str = "rounded";
    /// Bits of a number's significand that are dropped: 24 - 8.
    const DROPPED: f64 = 65536.0;
    if precision == Precision::F32 {
        return Ok(x);
    }
    let point = x.retaped::<NoneTape>();
    let scaled = point.clone().try_mul(E::of(DROPPED + 1.0)).during(OP)?;
    let nearest = scaled.clone().try_sub(scaled.try_sub(point.clone()).during(OP)?).during(OP)?;
    // Both differences are exact.
    let change = nearest.try_sub(point).during(OP)?;
    x.try_add(change).during(OP)
}
