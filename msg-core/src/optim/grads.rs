//! Gradients of a module: those of its parameters are kept, all others are dropped after each backward pass.

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

/// As [`zero_grads`], reusing the memory of earlier gradients of the same module. After a growth, which replaces
/// parameters, start with [`zero_grads`].
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
pub fn tape<D: Device<f32>>(device: &D, grads: Gradients<f32, D>) -> Result<OwnedTape<f32, D>> {
    let anchor: Param<(), D> = device.try_zeros_like(&()).during("tape")?;
    Ok(anchor.traced(grads).split_tape().1)
}
