//! The AdamW update of one tensor on host slices.

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
    /// Factor on the gradient (clipping).
    pub grad_scale: f32,
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

impl AdamStep<'_> {
    /// The cohort that the leading axes give a row of the last axis.
    fn row_cohort(&self, mut row: usize) -> u32 {
        let mut cohort = 0;
        for (size, units) in self.sizes.iter().zip(self.units).rev().skip(1) {
            cohort = cohort.max(units.get(row % size).copied().unwrap_or(0));
            row /= size;
        }
        cohort
    }

    /// One entry. The same operations in the same order for every cohort.
    fn entry(&self, cohort: u32, p: &mut f32, g: f32, m: &mut f32, v: &mut f32) {
        let Cohort { lr, step_size, root_correction } = self.cohorts[cohort as usize];
        let g = g * self.grad_scale;
        *p -= *p * (lr * self.weight_decay);
        *m += (g - *m) * self.first_share;
        *v = *v * self.beta2 + g * g * self.second_share;
        *p -= step_size * *m / (v.sqrt() / root_correction + self.eps);
    }
}

/// Updates parameters and moments in place. All slices have the tensor's number of entries.
pub(crate) fn adamw(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], step: &AdamStep<'_>) {
    let width = step.sizes.last().copied().unwrap_or(1).max(1);
    let rows = (CHUNK / width).max(1);
    let last = step.units.last().map_or(&[][..], Vec::as_slice);
    let pieces = p.par_chunks_mut(rows * width).zip(g.par_chunks(rows * width));
    let pieces = pieces.zip(m.par_chunks_mut(rows * width)).zip(v.par_chunks_mut(rows * width));
    pieces.enumerate().for_each(|(piece, (((p, g), m), v))| {
        let entries = p.iter_mut().zip(g).zip(m.iter_mut().zip(v.iter_mut()));
        let mut lead = 0;
        for (at, ((p, g), (m, v))) in entries.enumerate() {
            let column = at % width;
            if column == 0 {
                lead = step.row_cohort(piece * rows + at / width);
            }
            let cohort = lead.max(last.get(column).copied().unwrap_or(0));
            step.entry(cohort, p, *g, m, v);
        }
    });
}

/// Sum of squares in double precision, in pieces of fixed size added in order.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    let square = |piece: &[f32]| piece.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    let sums: Vec<f64> = values.par_chunks(CHUNK).map(square).collect();
    sums.iter().sum()
}
