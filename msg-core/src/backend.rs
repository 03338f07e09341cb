//! All that a device must offer for training and growing a model, as one bound.

use crate::{
    device::host::HostSlice,
    growth::kernel::GrowKernel,
    ops::{block::BlockKernel, embedding::EmbedKernel, head::HeadKernel},
    optim::OptimizerKernels,
};
use dfdx::tensor::{Cache, Cpu};

/// A device that can train and grow a model: the sum of the kernel traits, each defined beside its operation.
///
/// Code that needs one of them asks for that one, so that it also runs on devices that offer less.
pub trait Backend:
    EmbedKernel + BlockKernel + HeadKernel + GrowKernel + OptimizerKernels + HostSlice + Cache
{
    /// Whether every sum has an order that the sizes do not change, so that growth changes no bit.
    const DETERMINISTIC_SUMS: bool;
}

impl Backend for Cpu {
    const DETERMINISTIC_SUMS: bool = true;
}

#[cfg(feature = "cuda")]
impl Backend for dfdx::tensor::Cuda {
    // cuBLAS and dfdx's atomic sums choose their order by the sizes.
    const DETERMINISTIC_SUMS: bool = false;
}
