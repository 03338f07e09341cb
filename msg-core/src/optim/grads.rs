//! Gradients of a module: its parameters' are kept, all others dropped after each backward pass.

use super::kernel::OptimKernel;
use crate::{
    axis::{NamedShape, as_leaf},
    error::{Context, Result},
    params::{Module, Param, ParamName, Role, Visitor},
};
use dfdx::{
    nn::ZeroGrads,
    tensor::{Gradients, OwnedTape, SplitTape, Trace},
    tensor_ops::Device,
};

/// Zero gradients for every parameter of the module. A backward pass over a tape that holds them (see
/// [`tape`]) adds to them and drops the gradients of everything else.
///
/// # Errors
/// Where the device fails.
pub fn zero_grads<D: Device<f32>, M: Module<D>>(module: &M) -> Result<Gradients<f32, D>> {
    struct Mark<D: Device<f32>>(Gradients<f32, D>);
    impl<D: Device<f32>> Visitor<D> for Mark<D> {
        fn visit<S: NamedShape>(&mut self, _: &ParamName, _: Role, tensor: &mut Param<S, D>) -> Result<()> {
            as_leaf(tensor)?.try_zero_grads(&mut self.0).during("zero_grads")
        }
    }
    let mut mark = Mark(Gradients::leaky());
    module.inspect(&mut mark)?;
    Ok(mark.0)
}

/// As [`zero_grads`], in the memory of gradients that the same module has had before. A growth replaces parameters:
/// after it gradients begin anew.
///
/// # Errors
/// Where the device fails.
pub fn zeroed_again<D: OptimKernel, M: Module<D>>(
    module: &M,
    grads: Gradients<f32, D>,
) -> Result<Gradients<f32, D>> {
    struct Clear<D: OptimKernel>(Gradients<f32, D>);
    impl<D: OptimKernel> Visitor<D> for Clear<D> {
        fn visit<S: NamedShape>(&mut self, _: &ParamName, _: Role, tensor: &mut Param<S, D>) -> Result<()> {
            D::zero_grad(tensor, &mut self.0)
        }
    }
    let mut clear = Clear(grads);
    module.inspect(&mut clear)?;
    Ok(clear.0)
}

/// A tape whose backward pass adds to `grads`.
///
/// # Errors
/// Where the device fails.
pub fn tape<D: Device<f32>>(device: &D, grads: Gradients<f32, D>) -> Result<OwnedTape<f32, D>> {
    let anchor: Param<(), D> = device.try_zeros_like(&()).during("tape")?;
    Ok(anchor.traced(grads).split_tape().1)
}
