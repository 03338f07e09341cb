//! Reading a tensor's values on the host.

use super::slice::values;
use crate::error::{Context, Result};
use dfdx::{
    shapes::{HasShape, Shape, Unit},
    tensor::{Cpu, Tensor},
    tensor_ops::{Device, ReshapeTo},
};

/// A contiguous tensor's values.
pub(crate) fn host<S: Shape, E: Unit, T>(tensor: &Tensor<S, E, Cpu, T>) -> Vec<E> {
    let mut values = vec![E::default(); tensor.shape().num_elements()];
    tensor.copy_into(&mut values);
    values
}

/// A device whose tensors the host can read.
pub trait HostSlice: Device<f32> {
    /// Calls `f` with the values in row-major order: borrowed on the CPU, copied from a GPU.
    fn with_host_slice<S: Shape, R>(tensor: &Tensor<S, f32, Self>, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
        // `copy_into` copies the storage in its own order; `as_vec` would look up each element by its index.
        let contiguous = tensor.clone().try_contiguous().during("read")?;
        let mut values = vec![0.0; contiguous.shape().num_elements()];
        contiguous.copy_into(&mut values);
        Ok(f(&values))
    }
}

impl HostSlice for Cpu {
    fn with_host_slice<S: Shape, R>(tensor: &Tensor<S, f32, Self>, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
        let contiguous = tensor.clone().try_contiguous().during("read")?;
        Ok(f(values(&contiguous)))
    }
}

#[cfg(feature = "cuda")]
impl HostSlice for dfdx::tensor::Cuda {}
