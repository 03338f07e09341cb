//! The kernels that blocks are built of, as one bound.

use super::{dropout::DropoutKernel, masked_norm::NormKernel, matmul::Matmul};
use crate::float::Float;

/// dfdx's operations with our matrix products, norm and dropout.
pub trait Kernels<E: Float>: Matmul<E> + NormKernel<E> + DropoutKernel<E> {}
impl<E: Float, D: Matmul<E> + NormKernel<E> + DropoutKernel<E>> Kernels<E> for D {}
