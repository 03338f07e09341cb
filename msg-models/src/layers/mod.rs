//! One layer a file, generic over axes: tensors, their list, and the operation.

mod attention;
mod context;
mod embedding;
mod linear;
mod norm;

pub use attention::Attention;
pub use context::BlockContext;
pub(crate) use context::BlockLayers;
pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::LayerNorm;

use msg_core::{Result, error::Context, params::Param};

/// A parameter of the given shape before it has values.
pub(crate) fn zeros<S: dfdx::shapes::Shape, D: msg_core::Backend>(
    device: &D,
    shape: S,
) -> Result<Param<S, D>> {
    device.try_zeros_like(&shape).during("model")
}
