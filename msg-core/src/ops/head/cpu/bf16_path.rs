//! The head with operands in bf16: the table is packed once for each direction, a task keeps the logits of its
//! rows in f32, and the gradients of logits wait in bf16.

use super::{Gradients, Head};
use crate::{
    device::buffers::Buffer,
    float::Stored,
    ops::{
        matmul::{
            gemm::{Matrix, Size},
            mixed::{self, Accumulate, Overwrite, Right},
        },
        rows::add_row_sums,
    },
    simd::vectorized,
};
use half::bf16;
use rayon::prelude::*;

/// Gradients of logits held at once: 64 MB, unless a task has more.
const GRADIENTS: usize = 1 << 25;
/// Most rows of a task.
const TASK_ROWS: usize = 128;
/// Rows of a task come in these, as the products take them.
const PANEL: usize = 32;

impl Head {
    /// As [`Head::run`].
    pub(super) fn run_half(
        &self,
        (x, table, bias): (&[f32], &[f32], Option<&[f32]>),
        gradients: Option<&mut Gradients>,
    ) -> f32 {
        let Head { classes, inputs, .. } = *self;
        let table = Matrix::row_major(table, inputs);
        let across = Right::packed(table.transposed(), inputs, classes);
        let mut losses = Buffer::<f32>::of(self.labels.len());
        let task = self.labels.len().div_ceil(4 * rayon::current_num_threads());
        let task = task.next_multiple_of(PANEL).min(TASK_ROWS);
        let Some(Gradients { x: dx, table: dtable, bias: dbias }) = gradients else {
            let tasks = x.par_chunks(task * inputs).zip(losses.par_chunks_mut(task)).enumerate();
            tasks.for_each(|(at, (x, losses))| {
                self.rows(at * task, (x, &across, bias), losses, |_, _, _| {});
            });
            return self.total(&losses);
        };
        let down = Right::packed(table, classes, inputs);
        let most = (GRADIENTS / classes / task).max(1) * task;
        let mut all_dlogits = Buffer::<bf16>::of(most.min(self.labels.len()) * classes);
        let chunks = x.chunks(most * inputs).zip(losses.chunks_mut(most)).zip(dx.chunks_mut(most * inputs));
        for (chunk, ((x, losses), dx)) in chunks.enumerate() {
            let rows = losses.len();
            let dlogits = &mut all_dlogits[..rows * classes];
            let tasks = x.par_chunks(task * inputs).zip(losses.par_chunks_mut(task));
            let tasks = tasks.zip(dlogits.par_chunks_mut(task * classes)).enumerate();
            tasks.for_each(|(at, ((x, losses), dlogits))| {
                let first = chunk * most + at * task;
                self.rows(first, (x, &across, bias), losses, |row, shares, factor| {
                    self.gradient(first + row, shares, factor, &mut dlogits[row * classes..][..classes]);
                });
            });
            let (x, dlogits) = (Matrix::row_major(x, inputs), &*dlogits);
            let rows_of_dlogits = Matrix::row_major(dlogits, classes);
            down.product(rows, rows_of_dlogits, Overwrite { c: dx, columns: inputs });
            let to_table = Size { m: classes, n: inputs, k: rows };
            let (left, c, columns) = (rows_of_dlogits.transposed(), &mut dtable[..], inputs);
            match chunk {
                // It finds any contents; there is one, as no shape is empty.
                0 => mixed::product(to_table, left, x, Overwrite { c, columns }),
                _ => mixed::product(to_table, left, x, Accumulate { c, columns }),
            }
            if let Some(dbias) = dbias {
                add_row_sums(dlogits, dbias);
            }
        }
        self.total(&losses)
    }

    /// The losses of one task's rows; `then` sees each row's exponentials and factor as [`Head::loss`] leaves them.
    fn rows(
        &self,
        first: usize,
        (x, across, bias): (&[f32], &Right, Option<&[f32]>),
        losses: &mut [f32],
        mut then: impl FnMut(usize, &[f32], Option<f32>),
    ) {
        let Head { classes, inputs, .. } = *self;
        let mut logits = Buffer::<f32>::of(losses.len() * classes);
        let size = Size { m: losses.len(), n: classes, k: inputs };
        let out = Overwrite { c: &mut logits[..], columns: classes };
        across.times(size, Matrix::row_major(x, inputs), out);
        for (row, (logits, loss)) in logits.chunks_exact_mut(classes).zip(losses).enumerate() {
            let factor = self.loss(first + row, bias, logits, loss);
            then(row, logits, factor);
        }
    }

    fn gradient(&self, row: usize, shares: &[f32], factor: Option<f32>, to: &mut [bf16]) {
        let Some(factor) = factor else { return to.fill(bf16::ZERO) };
        vectorized(
            #[inline(always)]
            || to.iter_mut().zip(shares).for_each(|(to, share)| *to = bf16::of(share * factor)),
        );
        let label = self.labels[row];
        to[label] = bf16::of(shares[label] * factor - self.worth(row));
    }
}
