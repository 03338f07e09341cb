//! Parameters before they have values.

use dfdx::shapes::Shape;
use msg_core::{
    Backend,
    error::{Context, Result},
    params::Param,
};

/// A parameter of the given shape before it has values.
pub(crate) fn zeros<S: Shape, D: Backend>(device: &D, shape: S) -> Result<Param<S, D>> {
    device.try_zeros_like(&shape).during("model")
}
