//! The activations that flow from layer to layer.

use crate::axis::{Batch, Hidden, Query};
use dfdx::tensor::Tensor;

/// The residual stream.
pub type Stream<D, T> = Tensor<(Batch, Query, Hidden), f32, D, T>;
