//! The Cpu side of [`Backend`]: dfdx tensors in, the slice kernels of growth and optimizer, tensors out.

use super::{
    Backend,
    view::{values, values_mut},
};
use crate::{
    error::{Context, Result},
    growth::{
        AxisMap, NewEntries,
        grow_cpu::{self, AxisSource},
    },
    optim::{AdamStep, Verdict, adamw_cpu},
    params::Param,
};
use dfdx::{
    shapes::{HasShape, Shape, Unit},
    tensor::{AsArray, Cpu, Gradients, Tensor, TensorFromVec},
    tensor_ops::ReshapeTo,
};
use rayon::prelude::*;

/// A contiguous tensor's values.
pub(crate) fn host<S: Shape, E: Unit, T>(tensor: &Tensor<S, E, Cpu, T>) -> Vec<E> {
    let mut values = vec![E::default(); tensor.shape().num_elements()];
    tensor.copy_into(&mut values);
    values
}

/// Pads maps to four axes with leading axes of one unit.
fn padded<'a>(maps: &'a [AxisSource<'a>]) -> [AxisSource<'a>; 4] {
    std::array::from_fn(|at| match (at + maps.len()).checked_sub(4) {
        Some(axis) => maps[axis],
        None => AxisSource { old: 1, source: &[0] },
    })
}

impl Backend for Cpu {
    const EXACT: bool = true;

    fn fresh<S: Shape>(&self, shape: &S, new: NewEntries) -> Result<Param<S, Self>> {
        let sources: Vec<Vec<u32>> =
            shape.concrete().into_iter().map(|size| vec![grow_cpu::FRESH; size]).collect();
        let axes: Vec<_> = sources.iter().map(|source| AxisSource { old: 0, source }).collect();
        let values = grow_cpu::grow(&padded(&axes), &[], new.fill, new.key);
        self.try_tensor_from_vec(values, *shape).during("init")
    }

    fn grow<S: Shape, To: Shape>(
        &self,
        old: &Param<S, Self>,
        shape: To,
        maps: &[AxisMap],
        new: NewEntries,
    ) -> Result<Param<To, Self>> {
        let axes: Vec<_> =
            maps.iter().map(|map| AxisSource { old: map.old_size(), source: map.sources() }).collect();
        let values = grow_cpu::grow(&padded(&axes), values(old), new.fill, new.key);
        self.try_tensor_from_vec(values, shape).during("growth")
    }

    fn lend<S: Shape, R>(tensor: &Param<S, Self>, to: impl FnOnce(&[f32]) -> R) -> Result<R> {
        let contiguous = tensor.clone().try_contiguous().during("read")?;
        Ok(to(values(&contiguous)))
    }

    fn std_of<S: Shape>(tensor: &Param<S, Self>) -> Result<f32> {
        Ok(grow_cpu::std_of(values(tensor)))
    }

    fn zero_grad<S: Shape>(tensor: &Param<S, Self>, grads: &mut Gradients<f32, Self>) -> Result<()> {
        let gradient: &mut Vec<f32> = grads.get_or_alloc_mut(tensor).during("zero_grads")?;
        gradient.par_chunks_mut(1 << 16).for_each(|piece| piece.fill(0.0));
        Ok(())
    }

    type Guard = Verdict;

    fn guard(&self) -> Result<Verdict> {
        Ok(Verdict::default())
    }

    fn add_squares<S: Shape>(
        guard: &mut Verdict,
        tensor: &Param<S, Self>,
        grads: &mut Gradients<f32, Self>,
    ) -> Result<()> {
        guard.square += adamw_cpu::sum_of_squares(grads.get_or_alloc_mut(tensor).during("grad norm")?);
        Ok(())
    }

    fn judge(guard: &mut Verdict, loss: Option<&Param<(), Self>>, clip: f64) -> Result<()> {
        guard.judge(loss.map(|loss| loss.array()), clip);
        Ok(())
    }

    fn verdict(guard: &Verdict) -> Result<Verdict> {
        Ok(*guard)
    }

    fn adamw<S: Shape>(
        tensor: &mut Param<S, Self>,
        grads: &mut Gradients<f32, Self>,
        first: &mut Param<S, Self>,
        second: &mut Param<S, Self>,
        guard: &Verdict,
        step: &AdamStep<'_>,
    ) -> Result<()> {
        if !guard.applied {
            return Ok(());
        }
        let grad: &Vec<f32> = grads.get_or_alloc_mut(tensor).during("adamw")?;
        let (values, m, v) = (values_mut(tensor), values_mut(first), values_mut(second));
        adamw_cpu::adamw(values, grad, m, v, guard.grad_scale, step);
        Ok(())
    }
}
