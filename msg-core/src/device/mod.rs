//! What a device must offer: dfdx's own operations, and ours below them.

pub(crate) mod buffers;
mod cpu;
pub(crate) mod cuda;
mod memory;
#[cfg(feature = "cuda")]
pub mod raw_pointer;
pub(crate) mod slice;
pub(crate) mod storage;

pub use buffers::release_buffers;
pub(crate) use cpu::host;
#[cfg(not(feature = "cuda"))]
pub use cuda::disabled::{Gpu, open_cuda};
#[cfg(feature = "cuda")]
pub use cuda::enabled::{Gpu, open_cuda};
pub use memory::{out_of_memory_as_error, says_out_of_memory};

use crate::{
    axis::as_leaf,
    error::{Context, Result},
    growth::{AxisMap, NewEntries},
    ops::{
        block::BlockKernel, dropout::DropoutKernel, embedding::EmbedKernel, head::HeadKernel,
        masked_norm::NormKernel, matmul::Matmul,
    },
    optim::{Updates, Verdict},
    params::Param,
};
use dfdx::{
    nn::ZeroGrads,
    shapes::{Dtype, HasShape, Shape},
    tensor::{Cache, Gradients},
    tensor_ops::{Device, ReshapeTo},
};

/// Floating point numbers that the operations are written for: f32, and f64 for finite differences.
pub trait Float: Dtype + num_traits::Float {
    /// Rounds a constant to this type.
    fn of(value: f64) -> Self;
}

impl Float for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
}

impl Float for f64 {
    fn of(value: f64) -> Self {
        value
    }
}

/// What the masked operations need: dfdx's operations, our matrix product, norm and dropout.
pub trait Kernels<E: Float>: Device<E> + Matmul<E> + NormKernel<E> + DropoutKernel<E> {}
impl<E: Float, D: Device<E> + Matmul<E> + NormKernel<E> + DropoutKernel<E>> Kernels<E> for D {}

/// What modules, growth and the optimizer need besides.
pub trait Backend: Kernels<f32> + EmbedKernel + BlockKernel + HeadKernel + Cache {
    /// Whether sums have a fixed order here, so that growth changes no bit.
    const EXACT: bool;
    /// Whether what an update gives is better read a step late: the device works on what is queued for it, and
    /// would stand still while the host waits for the latest.
    const LATE: bool;

    /// A tensor of new entries only.
    ///
    /// # Errors
    /// Where the device fails.
    fn fresh<S: Shape>(&self, shape: &S, new: NewEntries) -> Result<Param<S, Self>>;

    /// A grown tensor: entries all of whose units have a source come from `old`, the others from the
    /// rule. `maps` has one map per axis, and `shape` their new sizes. The result is a new tensor.
    ///
    /// # Errors
    /// Where the device fails.
    fn grow<S: Shape, To: Shape>(
        &self,
        old: &Param<S, Self>,
        shape: To,
        maps: &[AxisMap],
        new: NewEntries,
    ) -> Result<Param<To, Self>>;

    /// Lends a tensor's values, row-major, to the host: as they lie where the host has them, else a copy.
    ///
    /// # Errors
    /// Where the device fails.
    fn lend<S: Shape, R>(tensor: &Param<S, Self>, to: impl FnOnce(&[f32]) -> R) -> Result<R> {
        // `copy_into` gives the storage as it lies; `as_vec` would ask for each element by its index.
        let contiguous = tensor.clone().try_contiguous().during("read")?;
        let mut values = vec![0.0; contiguous.shape().num_elements()];
        contiguous.copy_into(&mut values);
        Ok(to(&values))
    }

    /// Standard deviation of a tensor's values.
    ///
    /// # Errors
    /// Where the device fails.
    fn std_of<S: Shape>(tensor: &Param<S, Self>) -> Result<f32>;

    /// Makes a parameter's gradient zero.
    ///
    /// # Errors
    /// Where the device fails.
    fn zero_grad<S: Shape>(tensor: &Param<S, Self>, grads: &mut Gradients<f32, Self>) -> Result<()> {
        as_leaf(tensor)?.try_zero_grads(grads).during("zero_grads")
    }

    /// The [`Verdict`] on one update in the device's memory: made of gradients and loss there, and read there
    /// by the updates of all parameters, so that the host waits for none of it.
    type Guard: std::fmt::Debug;

    /// One update of a module's parameters.
    type Updates<'g>: Updates<Self>;

    /// Begins an update by some gradients. `spent` is the guard of an earlier one that is not needed any
    /// more, for its memory.
    ///
    /// # Errors
    /// Where the device fails.
    fn updates<'g>(
        &self,
        grads: &'g mut Gradients<f32, Self>,
        spent: Option<Self::Guard>,
    ) -> Result<Self::Updates<'g>>;

    /// What the guard says; waits for the device to come that far, and for nothing that was queued later.
    ///
    /// # Errors
    /// Where the device fails.
    fn verdict(guard: &Self::Guard) -> Result<Verdict>;

    /// Parts a tensor from its clones, unless changing it does so: an update then cannot reach them. Values that
    /// came from the host are given back there.
    ///
    /// # Errors
    /// Where the device fails.
    fn make_own<S: Shape>(tensor: &mut Param<S, Self>) -> Result<()>;
}
