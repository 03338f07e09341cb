//! The AdamW update of one tensor on host slices.

use crate::simd::vectorized;
use rayon::prelude::*;

/// The numbers that differ between entries of different age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cohort {
    /// Learning rate.
    pub lr: f32,
    /// `lr / (1 - beta1^age)`: the step size after bias correction of the first moment.
    pub step_size: f32,
    /// `sqrt(1 - beta2^age)`: the bias correction of the second moment's root.
    pub root_correction: f32,
}

/// One update of one tensor. An entry belongs to the latest cohort among its units'.
#[derive(Clone, Debug)]
pub struct AdamStep<'a> {
    /// The tensor's sizes, outermost first.
    pub sizes: &'a [usize],
    /// Per axis the cohort of each unit; an empty list means cohort 0 throughout.
    pub units: &'a [Vec<u32>],
    /// The cohorts, oldest first.
    pub cohorts: &'a [Cohort],
    /// `1 - beta1`: what the gradient adds to the first moment.
    pub first_share: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// `1 - beta2`: what the squared gradient adds to the second moment.
    pub second_share: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay; 0 for biases and norms.
    pub weight_decay: f32,
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
    /// Asserts what the kernel relies on: one list per axis, of its size, naming cohorts that there are.
    fn check(&self, entries: usize) {
        assert_eq!(self.sizes.iter().product::<usize>(), entries, "adamw: entries of the tensor");
        assert_eq!(self.sizes.len(), self.units.len(), "adamw: axes with cohorts");
        for (&size, units) in self.sizes.iter().zip(self.units) {
            assert!(units.is_empty() || units.len() == size, "adamw: cohorts of an axis");
            assert!(units.iter().all(|&cohort| (cohort as usize) < self.cohorts.len()), "adamw: cohort");
        }
        assert!(!self.cohorts.is_empty(), "adamw: at least one cohort");
    }

    /// The cohort that the leading axes give a row of the last axis.
    fn row_cohort(&self, mut row: usize) -> u32 {
        let mut cohort = 0;
        for (size, units) in self.sizes.iter().zip(self.units).rev().skip(1) {
            cohort = cohort.max(units.get(row % size).copied().unwrap_or(0));
            row /= size;
        }
        cohort
    }

    /// Runs of units of the last axis with the same cohort: where each ends, and the cohort.
    fn runs(&self) -> Vec<(usize, u32)> {
        let units = self.units.last().map_or(&[][..], Vec::as_slice);
        if self.cohorts.len() == 1 || units.is_empty() {
            return vec![(usize::MAX, 0)];
        }
        let mut end = 0;
        let run = |units: &[u32]| {
            end += units.len();
            (end, units[0])
        };
        units.chunk_by(|a, b| a == b).map(run).collect()
    }

    /// The entries of one cohort. The same operations in the same order for each of them, so that neither
    /// its place nor its neighbours' cohorts change an entry's bits.
    #[inline(always)]
    fn update(&self, cohort: u32, grad_scale: f32, entries: Entries<'_>) {
        let Cohort { lr, step_size, root_correction } = self.cohorts[cohort as usize];
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
/// If they have not, or if the lists of cohorts do not fit the axes.
pub(crate) fn adamw(
    p: &mut [f32],
    g: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    grad_scale: f32,
    step: &AdamStep<'_>,
) {
    step.check(p.len());
    assert!([g.len(), m.len(), v.len()] == [p.len(); 3], "adamw: gradient and moments of the tensor's size");
    // A tensor of one cohort is one long row to be cut anywhere.
    let one = step.cohorts.len() == 1;
    let width = if one { CHUNK } else { step.sizes.last().copied().unwrap_or(1).max(1) };
    let rows = (CHUNK / width).max(1);
    let runs = step.runs();
    let pieces = p.par_chunks_mut(rows * width).zip(g.par_chunks(rows * width));
    let pieces = pieces.zip(m.par_chunks_mut(rows * width)).zip(v.par_chunks_mut(rows * width));
    pieces.enumerate().for_each(|(piece, (((p, g), m), v))| {
        let lines =
            p.chunks_mut(width).zip(g.chunks(width)).zip(m.chunks_mut(width)).zip(v.chunks_mut(width));
        for (at, (((mut p, mut g), mut m), mut v)) in lines.enumerate() {
            let lead = if one { 0 } else { step.row_cohort(piece * rows + at) };
            let mut start = 0;
            for &(end, cohort) in &runs {
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
                    || step.update(lead.max(cohort), grad_scale, run),
                );
            }
        }
    });
}

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
mod tests;
