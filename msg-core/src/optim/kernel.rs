//! What an optimizer asks of a device.

use super::status::UpdateStatus;
use crate::{error::Result, params::Param};
use dfdx::{shapes::Shape, tensor::Gradients, tensor_ops::Device};

/// A device that can update parameters in place. What an optimizer computes there is a trait of its own on top, such as
/// [`AdamWKernel`](super::AdamWKernel).
pub trait OptimKernel: Device<f32> {
    /// Whether updates run asynchronously. If so, read a status one step later: reading it at once would stall the
    /// device.
    const ASYNC_RESULTS: bool;

    /// The [`UpdateStatus`] of one update in the device's memory: computed and consumed there, so that the host never
    /// waits for it.
    type DeviceStatus: std::fmt::Debug;

    /// One update of a module's parameters.
    type Pass<'g>: OptimizerPass<Self>;

    /// Begins an update by some gradients. `reuse` is an old status whose buffer may be reused.
    fn begin_pass<'g>(
        &self,
        grads: &'g mut Gradients<f32, Self>,
        reuse: Option<Self::DeviceStatus>,
    ) -> Result<Self::Pass<'g>>;

    /// Reads a status; waits until the device has computed it, and for nothing that was queued later.
    fn read_status(status: &Self::DeviceStatus) -> Result<UpdateStatus>;

    /// Makes the buffer unique, so that an in-place update is not seen by clones. Host-backed storage is copied to
    /// the device first. Does nothing where writing copies a shared buffer by itself.
    fn make_unique<S: Shape>(tensor: &mut Param<S, Self>) -> Result<()>;

    /// Sets a parameter's gradient to zero.
    fn zero_grad<S: Shape>(tensor: &Param<S, Self>, grads: &mut Gradients<f32, Self>) -> Result<()>;
}

/// One update of all parameters of a module by its gradients.
///
/// In this order: every gradient is seen, the status is computed, every parameter is handed over in the order in
/// which its gradient was seen, the pass is finished. A device may act at each call, or collect what there is to do
/// and do it at the end, all tensors together.
pub trait OptimizerPass<D: OptimKernel>: Sized {
    /// Adds the squares of a parameter's gradient, in double precision.
    fn add_squares<S: Shape>(&mut self, tensor: &Param<S, D>) -> Result<()>;

    /// Decides by the loss, where there is one, and all gradients seen, whether to apply the update and by which
    /// factor to clip it; `clip` is the largest norm, infinite for none.
    fn check_finite_and_clip(&mut self, loss: Option<&Param<(), D>>, clip: f64) -> Result<()>;

    /// Does what is left, and returns the status, still in the device's memory.
    fn finish(self) -> Result<D::DeviceStatus>;
}

/// The status alone of an update without a loss.
pub(super) fn status_of<D: OptimKernel>(mut pass: D::Pass<'_>) -> Result<UpdateStatus> {
    pass.check_finite_and_clip(None, f64::INFINITY)?;
    D::read_status(&pass.finish()?)
}
