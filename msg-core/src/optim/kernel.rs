//! What a device does for an update of all parameters of a module.

use super::{AdamStep, Verdict};
use crate::{device::Backend, error::Result, params::Param};
use dfdx::shapes::Shape;

/// One AdamW update of a module by its gradients.
///
/// In this order: every gradient is seen, the verdict is made, every parameter is handed over in the order in
/// which its gradient was seen, the update is finished. A device may act at each call, or collect what there
/// is to do and do it at the end, all tensors together.
pub trait Updates<D: Backend>: Sized {
    /// Adds the squares of a parameter's gradient, in double precision.
    ///
    /// # Errors
    /// Where the device fails.
    fn add_squares<S: Shape>(&mut self, tensor: &Param<S, D>) -> Result<()>;

    /// Judges by the loss, where there is one, and all gradients seen; `clip` is the largest norm, infinite
    /// for none.
    ///
    /// # Errors
    /// Where the device fails.
    fn judge(&mut self, loss: Option<&Param<(), D>>, clip: f64) -> Result<()>;

    /// Updates one parameter and its moments, in place; not where the verdict forbids it. Clones of the
    /// parameter keep their values. Clones of the moments may change: see [`Backend::make_own`].
    ///
    /// # Errors
    /// Where the tensors do not fit each other, or the device fails.
    fn adamw<S: Shape>(
        &mut self,
        tensor: &mut Param<S, D>,
        first: &mut Param<S, D>,
        second: &mut Param<S, D>,
        step: &AdamStep<'_>,
    ) -> Result<()>;

    /// Does what is left, and gives the verdict, still in the device's memory.
    ///
    /// # Errors
    /// Where the device fails.
    fn finish(self) -> Result<D::Guard>;
}

/// The verdict alone of an update that is judged without a loss.
///
/// # Errors
/// Where the device fails.
pub(super) fn verdict_on<D: Backend>(mut updates: D::Updates<'_>) -> Result<Verdict> {
    updates.judge(None, f64::INFINITY)?;
    D::verdict(&updates.finish()?)
}
