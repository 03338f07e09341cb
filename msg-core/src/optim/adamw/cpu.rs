//! The optimizer on the Cpu: AdamW of one tensor on host slices.

use super::step::{AdamStep, AgeGroup};
use crate::{
    device::slice::values_mut,
    error::{Context, Result},
    optim::{
        kernel::{OptimKernel, OptimizerPass},
        status::UpdateStatus,
    },
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

    fn adamw<S: Shape>(
        &mut self,
        tensor: &mut Param<S, Cpu>,
        first: &mut Param<S, Cpu>,
        second: &mut Param<S, Cpu>,
        step: &AdamStep<'_>,
    ) -> Result<()> {
        if !self.status.applied {
            return Ok(());
        }
        let grad: &Vec<f32> = self.grads.get_or_alloc_mut(tensor).during("adamw")?;
        let (values, m, v) = (values_mut(tensor), values_mut(first), values_mut(second));
        adamw(values, grad, m, v, self.status.grad_scale, step);
        Ok(())
    }

    fn finish(self) -> Result<UpdateStatus> {
        Ok(self.status)
    }
}

/// Entries per parallel piece, and per partial sum; fixed, so that no result depends on the threads.
const CHUNK: usize = 1 << 14;

/// Interleaved accumulators of a partial sum; fixed for the same reason.
const LANES: usize = 8;

/// The slices that one update works on; all have the same length.
struct Entries<'a> {
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl AdamStep<'_> {
    /// Asserts what the kernel relies on: one list per axis, of its size, naming age groups that there are.
    fn check(&self, entries: usize) {
        assert_eq!(self.sizes.iter().product::<usize>(), entries, "adamw: entries of the tensor");
        assert_eq!(self.sizes.len(), self.units.len(), "adamw: axes with age groups");
        for (&size, units) in self.sizes.iter().zip(self.units) {
            assert!(units.is_empty() || units.len() == size, "adamw: age groups of an axis");
            assert!(units.iter().all(|&group| (group as usize) < self.groups.len()), "adamw: age group");
        }
        assert!(!self.groups.is_empty(), "adamw: at least one age group");
    }

    /// The age group that the leading axes give a row of the last axis.
    fn row_group(&self, mut row: usize) -> u32 {
        let mut group = 0;
        for (size, units) in self.sizes.iter().zip(self.units).rev().skip(1) {
            group = group.max(units.get(row % size).copied().unwrap_or(0));
            row /= size;
        }
        group
    }

    /// Runs of units of the last axis with the same age group: where each ends, and the age group.
    fn runs(&self) -> Vec<(usize, u32)> {
        let units = self.units.last().map_or(&[][..], Vec::as_slice);
        if self.groups.len() == 1 || units.is_empty() {
            return vec![(usize::MAX, 0)];
        }
        let mut end = 0;
        let run = |units: &[u32]| {
            end += units.len();
            (end, units[0])
        };
        units.chunk_by(|a, b| a == b).map(run).collect()
    }

    /// The entries of one age group. The same operations in the same order for each of them, so that neither
    /// its place nor its neighbours' age groups change an entry's bits.
    #[inline(always)]
    fn update(&self, group: u32, grad_scale: f32, entries: Entries<'_>) {
        let AgeGroup { lr, step_size, root_correction } = self.groups[group as usize];
        let decay = lr * self.weight_decay;
        let Entries { p, g, m, v } = entries;
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * grad_scale;
            *p -= *p * decay;
            *m += (g - *m) * self.first_share;
            *v = *v * self.beta2 + g * g * self.second_share;
            *p -= step_size * *m / (v.sqrt() / root_correction + self.eps);
        }
    }
}

/// Updates parameters and moments in place, with the gradient times `grad_scale`. All slices have the
/// tensor's number of entries.
///
/// # Panics
/// If they have not, or if the lists of age groups do not fit the axes.
fn adamw(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], grad_scale: f32, step: &AdamStep<'_>) {
    step.check(p.len());
    assert!([g.len(), m.len(), v.len()] == [p.len(); 3], "adamw: gradient and moments of the tensor's size");
    // A tensor of one age group is one long row to be cut anywhere.
    let one = step.groups.len() == 1;
    let width = if one { CHUNK } else { step.sizes.last().copied().unwrap_or(1).max(1) };
    let rows = (CHUNK / width).max(1);
    let runs = step.runs();
    let pieces = p.par_chunks_mut(rows * width).zip(g.par_chunks(rows * width));
    let pieces = pieces.zip(m.par_chunks_mut(rows * width)).zip(v.par_chunks_mut(rows * width));
    pieces.enumerate().for_each(|(piece, (((p, g), m), v))| {
        let lines =
            p.chunks_mut(width).zip(g.chunks(width)).zip(m.chunks_mut(width)).zip(v.chunks_mut(width));
        for (at, (((mut p, mut g), mut m), mut v)) in lines.enumerate() {
            let lead = if one { 0 } else { step.row_group(piece * rows + at) };
            let mut start = 0;
            for &(end, group) in &runs {
                let len = (end - start).min(p.len());
                start = end;
                let run = Entries {
                    p: p.split_off_mut(..len).unwrap_or_default(),
                    g: g.split_off(..len).unwrap_or_default(),
                    m: m.split_off_mut(..len).unwrap_or_default(),
                    v: v.split_off_mut(..len).unwrap_or_default(),
                };
                vectorized(
                    #[inline(always)]
                    || step.update(lead.max(group), grad_scale, run),
                );
            }
        }
    });
}

/// Sum of squares in double precision, in pieces of fixed size added in order.
fn sum_of_squares(values: &[f32]) -> f64 {
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
mod tests;
