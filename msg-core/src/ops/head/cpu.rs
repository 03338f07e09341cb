//! The head with its loss as one node on the Cpu, some rows at a time.
//!
//! The loss is a scalar whose own gradient is a factor, so the gradients of input, table and bias are computed
//! in the forward pass, while a chunk's logits are in memory; the backward pass only scales and adds them.

use super::{HeadKernel, LOGITS_ON_CPU};
use crate::{
    axis::{Axis, EndsWith},
    device::{buffers::Buffer, slice::values},
    error::{Context, Result},
    ops::{
        compute::Precision,
        cross_entropy::Labels,
        math::exp,
        matmul::gemm::{BLOCK, Matrix, Mode, Size, gemm},
        rows::{accumulate_scaled, add_row_sums},
    },
    params::Param,
    simd::{largest, sum, vectorized},
};
use dfdx::{
    shapes::{HasShape, ReduceShapeTo, RemoveDimTo, Shape},
    tensor::{Cpu, PutTape, SplitTape, Tape, Tensor, TensorFromVec},
    tensor_ops::ReshapeTo,
};
use rayon::prelude::*;

mod bf16_path;

/// Rows whose logits are held at once: whole blocks of the products' sums over rows, so that no bit depends on
/// how many. Each chunk packs the whole table, so that more rows cost less.
fn chunk_rows(classes: usize) -> usize {
    (Cpu::LOGITS / classes / BLOCK).clamp(1, 4) * BLOCK
}

impl HeadKernel for Cpu {
    const LOGITS: usize = LOGITS_ON_CPU;

    fn head_loss<A, H, S, T>(
        x: Tensor<S, f32, Self, T>,
        table: &Param<(A, H), Self>,
        bias: Option<&Param<(A,), Self>>,
        labels: &Labels<A, S::Rest, f32, Self>,
        divisor: usize,
        precision: Precision,
    ) -> Result<Tensor<(), f32, Self, T>>
    where
        A: Axis,
        H: Axis,
        S: EndsWith<H>,
        S::With<A>: RemoveDimTo<S::Rest, S::Rest>,
        S::Rest: ReduceShapeTo<(), <S::Rest as Shape>::AllAxes>,
        T: Tape<f32, Self>,
    {
        const OP: &str = "head";
        let (x, mut tape) = x.try_contiguous().during(OP)?.split_tape();
        let (ids, counts) = labels.host();
        let (table, bias) = (table.clone(), bias.cloned());
        let head = Head {
            classes: table.shape().0.size(),
            inputs: table.shape().1.size(),
            labels: ids,
            counts,
            share: (1.0 / divisor.max(1) as f64) as f32,
        };
        let mut gradients = T::OWNS_TAPE.then(|| Gradients {
            x: Buffer::of(x.shape().num_elements()),
            table: Buffer::of(head.classes * head.inputs),
            bias: bias.as_ref().map(|_| Buffer::zeros(head.classes)),
        });
        let operands = (values(&x), values(&table), bias.as_ref().map(values));
        let total = match precision {
            Precision::F32 => head.run(operands, gradients.as_mut()),
            Precision::Bf16 => head.run_half(operands, gradients.as_mut()),
        };
        let loss = x.device().try_tensor_from_vec(vec![total], ()).during(OP)?;
        if let Some(made) = gradients {
            let result = loss.ghost();
            tape.add_backward_op(move |grads| {
                let gradient: &mut Vec<f32> = grads.get_or_alloc_mut(&result)?;
                let factor = gradient[0];
                let of_x: &mut Vec<f32> = grads.get_or_alloc_mut(&x)?;
                accumulate_scaled(of_x, factor, &made.x);
                let of_table: &mut Vec<f32> = grads.get_or_alloc_mut(&table)?;
                accumulate_scaled(of_table, factor, &made.table);
                if let (Some(bias), Some(made)) = (&bias, &made.bias) {
                    let of_bias: &mut Vec<f32> = grads.get_or_alloc_mut(bias)?;
                    accumulate_scaled(of_bias, factor, made);
                }
                Ok(())
            });
        }
        Ok(loss.put_tape(tape))
    }
}

/// The gradients for a loss whose own gradient is 1.
struct Gradients {
    x: Buffer,
    table: Buffer,
    bias: Option<Buffer>,
}

struct Head {
    classes: usize,
    inputs: usize,
    /// The label of each row, 0 where ignored, and 1 where it counts, else 0.
    labels: Vec<usize>,
    counts: Vec<f32>,
    /// The factor of one counted row.
    share: f32,
}

impl Head {
    /// The loss; writes the gradients where they are asked for.
    fn run(
        &self,
        (x, table, bias): (&[f32], &[f32], Option<&[f32]>),
        mut gradients: Option<&mut Gradients>,
    ) -> f32 {
        let Head { classes, inputs, .. } = *self;
        let most = chunk_rows(classes);
        let mut logits = Buffer::of(most.min(self.labels.len()) * classes);
        let mut losses = Buffer::<f32>::of(self.labels.len());
        let chunks = x.chunks(most * inputs).zip(losses.chunks_mut(most)).enumerate();
        for (chunk, (x, losses)) in chunks {
            let rows = losses.len();
            let logits = &mut logits[..rows * classes];
            let weights = Matrix::row_major(table, inputs);
            let (x, size) = (Matrix::row_major(x, inputs), Size { m: rows, n: classes, k: inputs });
            gemm(size, x, weights.transposed(), logits, Mode::Overwrite);
            self.losses(chunk * most, bias, logits, losses, gradients.is_some());
            let Some(Gradients { x: dx, table: dtable, bias: dbias }) = gradients.as_deref_mut() else {
                continue;
            };
            let dlogits = Matrix::row_major(logits, classes);
            let dx = &mut dx[chunk * most * inputs..][..rows * inputs];
            gemm(Size { m: rows, n: inputs, k: classes }, dlogits, weights, dx, Mode::Overwrite);
            let size = Size { m: classes, n: inputs, k: rows };
            // The first chunk finds any contents; there is one, as no shape is empty.
            let mode = if chunk == 0 { Mode::Overwrite } else { Mode::Accumulate };
            gemm(size, dlogits.transposed(), x, dtable, mode);
            if let Some(dbias) = dbias {
                add_row_sums(&*logits, dbias);
            }
        }
        self.total(&losses)
    }

    fn total(&self, losses: &[f32]) -> f32 {
        (losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() * f64::from(self.share)) as f32
    }

    /// The losses of rows from their logits, which become their own gradients where asked for.
    fn losses(&self, first: usize, bias: Option<&[f32]>, logits: &mut [f32], losses: &mut [f32], back: bool) {
        let rows = logits.par_chunks_exact_mut(self.classes).zip(losses.par_iter_mut()).enumerate();
        rows.for_each(|(row, (logits, loss))| {
            let Some(factor) = self.loss(first + row, bias, logits, loss) else {
                return logits.fill(0.0);
            };
            if back {
                vectorized(
                    #[inline(always)]
                    || logits.iter_mut().for_each(|share| *share *= factor),
                );
                logits[self.labels[first + row]] -= self.worth(first + row);
            }
        });
    }

    /// The factor of a row's loss in the sum.
    fn worth(&self, row: usize) -> f32 {
        self.counts[row] * self.share
    }

    /// The loss of one row; turns its logits into exponentials. Gives the factor that makes these the row's part
    /// of the gradient, but for its label's [`Head::worth`]; none where the row does not count.
    fn loss(&self, row: usize, bias: Option<&[f32]>, logits: &mut [f32], loss: &mut f32) -> Option<f32> {
        *loss = 0.0;
        if self.counts[row] == 0.0 {
            return None;
        }
        let (chosen, most, total) = vectorized(
            #[inline(always)]
            || {
                if let Some(bias) = bias {
                    logits.iter_mut().zip(bias).for_each(|(logit, bias)| *logit += bias);
                }
                let most = largest(logits);
                let chosen = logits[self.labels[row]];
                logits.iter_mut().for_each(|logit| *logit = exp(*logit - most));
                (chosen, most, sum(logits, |share| share))
            },
        );
        *loss = self.counts[row] * (most + total.ln() - chosen);
        Some(self.worth(row) / total)
    }
}
