//! The AdamW update of one tensor on host slices.

use super::step::{AdamStep, AdamWKernel, AgeGroup};
use crate::{device::slice::values_mut, error::Result, optim::cpu::CpuPass, params::Param, simd::vectorized};
use dfdx::{shapes::Shape, tensor::Cpu};
use rayon::prelude::*;

impl AdamWKernel for Cpu {
    fn adamw<S: Shape>(
        pass: &mut CpuPass<'_>,
        tensor: &mut Param<S, Cpu>,
        [first, second]: [&mut Param<S, Cpu>; 2],
        step: &AdamStep<'_>,
    ) -> Result<()> {
        let Some((grad, grad_scale)) = pass.gradient(tensor)? else { return Ok(()) };
        adamw(values_mut(tensor), grad, values_mut(first), values_mut(second), grad_scale, step);
        Ok(())
    }
}

/// Entries per parallel piece; fixed, so that no result depends on the threads.
const CHUNK: usize = 1 << 14;

/// The slices that one update works on; all have the same length.
struct Entries<'a> {
    p: &'a mut [f32],
    g: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl AdamStep<'_> {
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
    step.entries.check("adamw", p.len(), step.groups.len());
    assert!([g.len(), m.len(), v.len()] == [p.len(); 3], "adamw: gradient and moments of the tensor's size");
    // A tensor of one age group is one long row to be cut anywhere.
    let one = step.groups.len() == 1;
    let width = if one { CHUNK } else { step.entries.width() };
    let rows = (CHUNK / width).max(1);
    let runs = step.entries.runs(step.groups.len());
    let pieces = p.par_chunks_mut(rows * width).zip(g.par_chunks(rows * width));
    let pieces = pieces.zip(m.par_chunks_mut(rows * width)).zip(v.par_chunks_mut(rows * width));
    pieces.enumerate().for_each(|(piece, (((p, g), m), v))| {
        let lines =
            p.chunks_mut(width).zip(g.chunks(width)).zip(m.chunks_mut(width)).zip(v.chunks_mut(width));
        for (at, (((mut p, mut g), mut m), mut v)) in lines.enumerate() {
            let lead = if one { 0 } else { step.entries.row_group(piece * rows + at) };
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

#[cfg(test)]
mod tests;
