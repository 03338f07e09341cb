//! The Cpu side of [`Backend`]: dfdx tensors in, the slice kernels of growth and optimizer, tensors out.

use super::{
    Backend,
    slice::{values, values_mut},
};
use crate::{
    error::{Context, Result},
    growth::{
        AxisMap, NewEntries,
        cpu::{self as grow_cpu, AxisSource},
    },
    optim::{AdamStep, Updates, Verdict, adamw::cpu as adamw_cpu},
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
    // Every call works until it is done.
    const LATE: bool = false;

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

    type Updates<'g> = CpuUpdates<'g>;

    fn updates<'g>(&self, grads: &'g mut Gradients<f32, Self>, _: Option<Verdict>) -> Result<CpuUpdates<'g>> {
        Ok(CpuUpdates { grads, verdict: Verdict::default() })
    }

    fn verdict(guard: &Verdict) -> Result<Verdict> {
        Ok(*guard)
    }

    fn make_own<S: Shape>(_: &mut Param<S, Self>) -> Result<()> {
        // Whoever changes a tensor's values here copies them first where they are shared.
        Ok(())
    }
}

/// An update on the Cpu: every call acts at once.
#[derive(Debug)]
pub struct CpuUpdates<'g> {
    grads: &'g mut Gradients<f32, Cpu>,
    verdict: Verdict,
}

impl Updates<Cpu> for CpuUpdates<'_> {
    fn add_squares<S: Shape>(&mut self, tensor: &Param<S, Cpu>) -> Result<()> {
        let gradient = self.grads.get_or_alloc_mut(tensor).during("grad norm")?;
        self.verdict.square += adamw_cpu::sum_of_squares(gradient);
        Ok(())
    }

    fn judge(&mut self, loss: Option<&Param<(), Cpu>>, clip: f64) -> Result<()> {
        self.verdict.judge(loss.map(|loss| loss.array()), clip);
        Ok(())
    }

    fn adamw<S: Shape>(
        &mut self,
        tensor: &mut Param<S, Cpu>,
        first: &mut Param<S, Cpu>,
        second: &mut Param<S, Cpu>,
        step: &AdamStep<'_>,
    ) -> Result<()> {
        if !self.verdict.applied {
            return Ok(());
        }
        let grad: &Vec<f32> = self.grads.get_or_alloc_mut(tensor).during("adamw")?;
        let (values, m, v) = (values_mut(tensor), values_mut(first), values_mut(second));
        adamw_cpu::adamw(values, grad, m, v, self.verdict.grad_scale, step);
        Ok(())
    }

    fn finish(self) -> Result<Verdict> {
        Ok(self.verdict)
    }
}
