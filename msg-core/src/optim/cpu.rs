//! An update on the Cpu: every call acts at once.

use super::{
    kernel::{OptimKernel, OptimizerPass},
    status::UpdateStatus,
};
use crate::{
    error::{Context, Result},
    params::Param,
    simd::vectorized,
};
use dfdx::{
    shapes::Shape,
    tensor::{AsArray, Cpu, Gradients},
};
use rayon::prelude::*;

impl OptimKernel for Cpu {
    // Every call works until it is done.
    const ASYNC_RESULTS: bool = false;

    type DeviceStatus = UpdateStatus;

    type Pass<'g> = CpuPass<'g>;

    fn begin_pass<'g>(
        &self,
        grads: &'g mut Gradients<f32, Self>,
        _: Option<UpdateStatus>,
    ) -> Result<CpuPass<'g>> {
        Ok(CpuPass { grads, status: UpdateStatus::default() })
    }

    fn read_status(status: &UpdateStatus) -> Result<UpdateStatus> {
        Ok(*status)
    }

    fn make_unique<S: Shape>(_: &mut Param<S, Self>) -> Result<()> {
        // Writing to a tensor here copies its buffer first where that is shared.
        Ok(())
    }

    fn zero_grad<S: Shape>(tensor: &Param<S, Self>, grads: &mut Gradients<f32, Self>) -> Result<()> {
        let gradient: &mut Vec<f32> = grads.get_or_alloc_mut(tensor).during("zero_grads")?;
        gradient.par_chunks_mut(1 << 16).for_each(|piece| piece.fill(0.0));
        Ok(())
    }
}

/// An update on the Cpu: every call acts at once.
#[derive(Debug)]
pub struct CpuPass<'g> {
    grads: &'g mut Gradients<f32, Cpu>,
    status: UpdateStatus,
}

impl OptimizerPass<Cpu> for CpuPass<'_> {
    fn add_squares<S: Shape>(&mut self, tensor: &Param<S, Cpu>) -> Result<()> {
        let gradient = self.grads.get_or_alloc_mut(tensor).during("grad norm")?;
        self.status.square += sum_of_squares(gradient);
        Ok(())
    }

    fn check_finite_and_clip(&mut self, loss: Option<&Param<(), Cpu>>, clip: f64) -> Result<()> {
        self.status.check_finite_and_clip(loss.map(|loss| loss.array()), clip);
        Ok(())
    }

    fn finish(self) -> Result<UpdateStatus> {
        Ok(self.status)
    }
}

impl CpuPass<'_> {
    /// A parameter's gradient and the factor on it; `None` where the status forbids the update.
    pub(crate) fn gradient<S: Shape>(&mut self, tensor: &Param<S, Cpu>) -> Result<Option<(&[f32], f32)>> {
        if !self.status.applied {
            return Ok(None);
        }
        let gradient: &Vec<f32> = self.grads.get_or_alloc_mut(tensor).during("optimizer")?;
        Ok(Some((gradient, self.status.grad_scale)))
    }
}

/// Entries of a partial sum; fixed, so that no result depends on the threads.
const CHUNK: usize = 1 << 14;

/// Interleaved accumulators of a partial sum; fixed for the same reason.
const LANES: usize = 8;

/// Sum of squares in double precision, in pieces of fixed size added in order.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    #[inline(always)]
    fn square(piece: &[f32]) -> f64 {
        let mut lanes = [0.0; LANES];
        let (blocks, rest) = piece.as_chunks::<LANES>();
        for block in blocks {
            for i in 0..LANES {
                lanes[i] += f64::from(block[i]) * f64::from(block[i]);
            }
        }
        for (lane, &x) in lanes.iter_mut().zip(rest) {
            *lane += f64::from(x) * f64::from(x);
        }
        lanes.iter().sum::<f64>()
    }
    let sums: Vec<f64> = values
        .par_chunks(CHUNK)
        .map(|piece| {
            vectorized(
                #[inline(always)]
                || square(piece),
            )
        })
        .collect();
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values in -1..1 from a counter, of many magnitudes: squares of small ones vanish beside large ones.
    fn values(seed: u32, count: usize) -> Vec<f32> {
        let value = |at: usize| {
            let bits = (at as u32 ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
            let bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
            let unit = f64::from(bits >> 8) / f64::from(1 << 23) - 1.0;
            (unit * 10f64.powi(-((bits & 7) as i32))) as f32
        };
        (0..count).map(value).collect()
    }

    #[test]
    fn the_sum_of_squares_is_that_of_double_precision() {
        for count in [0, 1, LANES - 1, LANES + 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 11] {
            let values = values(5, count);
            let want: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let got = sum_of_squares(&values);
            assert!((got - want).abs() <= 1e-12 * want, "{count}: {got} {want}");
        }
        // Squares that overflow or vanish in f32 count in full.
        assert_eq!(sum_of_squares(&[1e30, -1e30]), 2.0 * f64::from(1e30_f32) * f64::from(1e30_f32));
        assert!(sum_of_squares(&[1e-30]) > 0.0);
    }

    #[test]
    fn one_entry_that_is_not_finite_makes_the_sum_of_squares_not_finite() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, CHUNK, 2 * CHUNK + 4] {
                let mut values = values(6, 2 * CHUNK + 5);
                values[at] = bad;
                assert!(!sum_of_squares(&values).is_finite());
            }
        }
    }
}
