//! The block as one node on the Cpu: every activation in our own buffers, the backward pass by hand.
//!
//! Kept for the backward pass are, in rows of the batch: the input, queries, keys, values and their mix, the
//! inputs of the norms (pre-norm: the first one's is the block's), and the feed-forward units before their
//! activation: 6 or 7 of Hidden's or Inner's width and one of Ffn's. Norm outputs and activations are computed
//! again; with [`Block::recompute`] all but the input is.

use super::{Block, BlockKernel, NormOrder, Pair, Stream};
use crate::{
    axis::{Hidden, Qkv},
    device::{
        buffers::Buffer,
        host,
        view::{values, values_mut},
    },
    error::{Context, Result},
    mask::Mask,
    ops::{
        attention::cpu::Sequences,
        dropout,
        masked_norm::cpu::{HostMask, Operands, Statistics, with_operands},
        matmul::gemm::{Matrix, Mode, Size, gemm},
        rows::{add_row_sums, bias_and_mask, combine, mask_rows},
    },
    params::Param,
};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cpu, Gradients, PutTape, SplitTape, Tape, ZerosTensor},
    tensor_ops::ReshapeTo,
};
use rayon::prelude::*;

impl BlockKernel for Cpu {
    fn block<T: Tape<f32, Self>>(x: Stream<Self, T>, block: Block<Self>) -> Result<Stream<Self, T>> {
        const OP: &str = "block";
        let gate = block.masks.gate;
        gate.count();
        if gate.is_closed() {
            return Ok(x);
        }
        let (x, mut tape) = x.try_contiguous().during(OP)?.split_tape();
        let pass = Pass::new(block, *x.shape())?;
        let mut y = x.device().try_zeros_like(x.shape()).during(OP)?;
        let kept = pass.forward(values(&x), values_mut(&mut y));
        if T::OWNS_TAPE {
            let result = y.ghost();
            let kept = (!pass.block.recompute).then_some(kept);
            tape.add_backward_op(move |grads| {
                let gradient: &mut Vec<f32> = grads.get_or_alloc_mut(&result)?;
                let dy = std::mem::take(gradient);
                let kept = match kept {
                    Some(kept) => kept,
                    None => pass.forward(values(&x), &mut Buffer::of(dy.len())),
                };
                let mut dx = Buffer::of(dy.len());
                pass.backward((values(&x), &kept), &dy, &mut dx, grads)?;
                drop(kept);
                let of_x: &mut Vec<f32> = grads.get_or_alloc_mut(&x)?;
                combine(of_x, &dx, |sum, dx| sum + dx);
                let slot: &mut Vec<f32> = grads.get_or_alloc_mut(&result)?;
                *slot = dy;
                Ok(())
            });
        }
        Ok(y.put_tape(tape))
    }
}

type DeviceResult = std::result::Result<(), dfdx::tensor::CpuError>;

/// A block at work on one batch: its host-side constants.
struct Pass {
    block: Block<Cpu>,
    sequences: Sequences,
    norm_masks: [HostMask; 2],
    /// One value per column of the three projections.
    qkv_mask: Option<Vec<f32>>,
    units_mask: Option<Vec<f32>>,
    branch_dropout: [Option<dropout::Stream>; 2],
    rows: usize,
    hidden: usize,
    inner: usize,
    ffn: usize,
}

/// What the backward pass needs besides the input.
struct Kept {
    qkv: Buffer,
    mixed: Buffer,
    log_sums: Buffer,
    /// Input and statistics of the attention branch's norm; pre-norm: the block's input, so not here.
    attention_norm: (Option<Buffer>, Statistics),
    feed_forward_norm: (Buffer, Statistics),
    units: Buffer,
}

/// `y = x W^T` for rows of `x`.
fn forward(x: &[f32], weight: &[f32], y: &mut [f32], outputs: usize) {
    let inputs = weight.len() / outputs;
    let size = Size { m: x.len() / inputs, n: outputs, k: inputs };
    gemm(
        size,
        Matrix::row_major(x, inputs),
        Matrix::row_major(weight, inputs).transposed(),
        y,
        Mode::Overwrite,
    );
}

/// `dx = dy W`.
fn back_to_inputs(dy: &[f32], weight: &[f32], dx: &mut [f32], outputs: usize) {
    let inputs = weight.len() / outputs;
    let size = Size { m: dy.len() / outputs, n: inputs, k: outputs };
    gemm(size, Matrix::row_major(dy, outputs), Matrix::row_major(weight, inputs), dx, Mode::Overwrite);
}

/// Adds the gradients of weight and bias: `dW += dy^T x`, `db += sum of the rows of dy`.
fn back_to_map<W: Shape, B: Shape>(
    (weight, bias): &(Param<W, Cpu>, Param<B, Cpu>),
    (x, dy): (&[f32], &[f32]),
    outputs: usize,
    grads: &mut Gradients<f32, Cpu>,
) -> DeviceResult {
    let inputs = weight.shape().num_elements() / outputs;
    let size = Size { m: outputs, n: inputs, k: dy.len() / outputs };
    let dw: &mut Vec<f32> = grads.get_or_alloc_mut(weight)?;
    let dy_columns = Matrix::row_major(dy, outputs).transposed();
    gemm(size, dy_columns, Matrix::row_major(x, inputs), dw, Mode::Accumulate);
    let db: &mut Vec<f32> = grads.get_or_alloc_mut(bias)?;
    add_row_sums(dy, db);
    Ok(())
}

impl Pass {
    fn new(block: Block<Cpu>, shape: (crate::axis::Batch, crate::axis::Query, Hidden)) -> Result<Self> {
        let (batch, length, hidden) = shape;
        let (Qkv(_), inner, _) = *block.qkv.0.shape();
        let ffn = block.up.0.shape().0;
        let (padding, causal) = block.seen.host(batch, length)?;
        let at = |place| {
            let (dropout, site) = block.dropout_at(place);
            dropout.stream(site)
        };
        let sequences = Sequences {
            length: length.0,
            heads: inner.0 / block.head_dim.0,
            head_dim: block.head_dim.0,
            causal,
            padding,
            dropout: at("attention"),
        };
        let masks = &block.masks;
        masks.qkv.iter().for_each(Mask::count);
        masks.feed_forward.count();
        let qkv_mask = masks.qkv.iter().any(|mask| mask.values().is_some()).then(|| {
            let of = |mask: &Mask<_, f32, Cpu>| mask.values().map_or_else(|| vec![1.0; inner.0], host);
            masks.qkv.iter().flat_map(of).collect()
        });
        Ok(Pass {
            sequences,
            norm_masks: [
                HostMask::new(&masks.attention_norm, hidden.0),
                HostMask::new(&masks.feed_forward_norm, hidden.0),
            ],
            qkv_mask,
            units_mask: masks.feed_forward.values().map(host),
            branch_dropout: [at("attention output"), at("feed-forward output")],
            rows: batch.0 * length.0,
            hidden: hidden.0,
            inner: inner.0,
            ffn: ffn.0,
            block,
        })
    }

    /// Runs `work` with a norm's operands.
    fn with_norm<R>(&self, which: usize, work: impl FnOnce(Operands<'_>) -> R) -> R {
        let (gain, shift) = self.norm_tensors(which);
        with_operands((gain, shift), &self.norm_masks[which], self.block.eps, work)
    }

    fn norm_tensors(&self, which: usize) -> &Pair<(Hidden,), (Hidden,), Cpu> {
        [&self.block.attention_norm, &self.block.feed_forward_norm][which]
    }

    fn normed(&self, which: usize, x: &[f32]) -> (Buffer, Statistics) {
        let mut y = Buffer::of(x.len());
        let statistics = self.with_norm(which, |norm| norm.forward(x, &mut y));
        (y, statistics)
    }

    /// Adds the gradient of a norm's input to `dx`.
    fn norm_back(
        &self,
        which: usize,
        (x, statistics): (&[f32], &Statistics),
        dy: &[f32],
        dx: &mut [f32],
        grads: &mut Gradients<f32, Cpu>,
    ) -> DeviceResult {
        let (gain, shift) = self.norm_tensors(which);
        let (mut dgain, mut dshift) = (Buffer::zeros(self.hidden), Buffer::zeros(self.hidden));
        self.with_norm(which, |norm| norm.backward(x, statistics, dy, dx, (&mut dgain, &mut dshift)));
        let of_gain: &mut Vec<f32> = grads.get_or_alloc_mut(gain)?;
        combine(of_gain, &dgain, |sum, d| sum + d);
        let of_shift: &mut Vec<f32> = grads.get_or_alloc_mut(shift)?;
        combine(of_shift, &dshift, |sum, d| sum + d);
        Ok(())
    }

    /// Projections, attention, and the branch's output without its bias.
    fn attend(&self, x: &[f32], branch: &mut [f32]) -> [Buffer; 3] {
        let mut qkv = Buffer::of(3 * self.rows * self.inner);
        forward(x, values(&self.block.qkv.0), &mut qkv, 3 * self.inner);
        bias_and_mask(&mut qkv, values(&self.block.qkv.1), self.qkv_mask.as_deref());
        let mut mixed = Buffer::of(self.rows * self.inner);
        let mut log_sums = Buffer::of(self.rows * self.sequences.heads);
        self.sequences.forward(&qkv, &mut mixed, &mut log_sums);
        forward(&mixed, values(&self.block.output.0), branch, self.hidden);
        [qkv, mixed, log_sums]
    }

    /// The gradient of the branch's input, from that of its output.
    fn attend_back(
        &self,
        (x, kept): (&[f32], &Kept),
        dbranch: &[f32],
        grads: &mut Gradients<f32, Cpu>,
    ) -> std::result::Result<Buffer, dfdx::tensor::CpuError> {
        let Kept { qkv, mixed, log_sums, .. } = kept;
        let Block { qkv: projections, output, .. } = &self.block;
        back_to_map(output, (mixed, dbranch), self.hidden, grads)?;
        let mut dmixed = Buffer::of(mixed.len());
        back_to_inputs(dbranch, values(&output.0), &mut dmixed, self.hidden);
        let mut dqkv = Buffer::of(qkv.len());
        self.sequences.backward(qkv, (mixed, log_sums), &dmixed, &mut dqkv);
        mask_rows(&mut dqkv, self.qkv_mask.as_deref());
        back_to_map(projections, (x, &dqkv), 3 * self.inner, grads)?;
        let mut dx = Buffer::of(self.rows * self.hidden);
        back_to_inputs(&dqkv, values(&projections.0), &mut dx, 3 * self.inner);
        Ok(dx)
    }

    fn activated(&self, units: &[f32]) -> Buffer {
        let mut active = Buffer::of(units.len());
        self.block.gelu.forward(units, &mut active);
        active
    }

    /// Writes the branch's output without its bias; gives the units before their activation.
    fn feed_forward(&self, x: &[f32], branch: &mut [f32]) -> Buffer {
        let mut units = Buffer::of(self.rows * self.ffn);
        forward(x, values(&self.block.up.0), &mut units, self.ffn);
        bias_and_mask(&mut units, values(&self.block.up.1), self.units_mask.as_deref());
        let active = self.activated(&units);
        forward(&active, values(&self.block.down.0), branch, self.hidden);
        units
    }

    fn feed_forward_back(
        &self,
        (x, units): (&[f32], &[f32]),
        dbranch: &[f32],
        grads: &mut Gradients<f32, Cpu>,
    ) -> std::result::Result<Buffer, dfdx::tensor::CpuError> {
        let Block { up, down, gelu, .. } = &self.block;
        back_to_map(down, (&self.activated(units), dbranch), self.hidden, grads)?;
        let mut dunits = Buffer::of(units.len());
        back_to_inputs(dbranch, values(&down.0), &mut dunits, self.hidden);
        gelu.backward(units, &mut dunits);
        mask_rows(&mut dunits, self.units_mask.as_deref());
        back_to_map(up, (x, &dunits), self.ffn, grads)?;
        let mut dx = Buffer::of(self.rows * self.hidden);
        back_to_inputs(&dunits, values(&up.0), &mut dx, self.ffn);
        Ok(dx)
    }

    /// What a branch's gate is worth where it multiplies the branch itself.
    fn branch_gate(&self) -> f32 {
        match self.block.order {
            NormOrder::Pre => self.block.masks.gate.value(),
            NormOrder::Post => 1.0,
        }
    }

    /// Visits the rows of `y` with those of `x` and the factors of a branch: gate times dropout.
    fn by_rows(&self, which: usize, y: &mut [f32], x: &[f32], f: impl Fn(&mut [f32], &[f32], &[f32]) + Sync) {
        let (hidden, length, gate) = (self.hidden, self.sequences.length, self.branch_gate());
        let rows = y.par_chunks_exact_mut(hidden).zip(x.par_chunks_exact(hidden)).enumerate();
        rows.for_each_init(
            || vec![gate; hidden],
            |factors, (row, (y, x))| {
                if let Some(stream) = &self.branch_dropout[which] {
                    stream.row([0, row / length, row % length], factors);
                    factors.iter_mut().for_each(|factor| *factor *= gate);
                }
                crate::simd::vectorized(
                    #[inline(always)]
                    || f(y, x, factors),
                );
            },
        );
    }

    /// `x + gate * drop(branch + bias)`, in place of the branch.
    fn join(&self, which: usize, branch: &mut [f32], x: &[f32]) {
        let bias = values([&self.block.output.1, &self.block.down.1][which]);
        self.by_rows(
            which,
            branch,
            x,
            #[inline(always)]
            |branch: &mut [f32], x: &[f32], factors: &[f32]| {
                for (((y, x), bias), factor) in branch.iter_mut().zip(x).zip(bias).zip(factors) {
                    *y = x + factor * (*y + bias);
                }
            },
        );
    }

    /// The gradient of a branch, from that of the sum.
    fn parted(&self, which: usize, dy: &[f32]) -> Buffer {
        let mut branch = Buffer::of(dy.len());
        self.by_rows(
            which,
            &mut branch,
            dy,
            #[inline(always)]
            |branch: &mut [f32], dy: &[f32], factors: &[f32]| {
                branch.iter_mut().zip(dy).zip(factors).for_each(|((d, dy), factor)| *d = factor * dy);
            },
        );
        branch
    }

    fn forward(&self, x: &[f32], y: &mut [f32]) -> Kept {
        match self.block.order {
            NormOrder::Pre => {
                let (normal, first) = self.normed(0, x);
                let mut middle = Buffer::of(x.len());
                let [qkv, mixed, log_sums] = self.attend(&normal, &mut middle);
                self.join(0, &mut middle, x);
                let (normal, second) = self.normed(1, &middle);
                let units = self.feed_forward(&normal, y);
                self.join(1, y, &middle);
                let (attention_norm, feed_forward_norm) = ((None, first), (middle, second));
                Kept { qkv, mixed, log_sums, attention_norm, feed_forward_norm, units }
            }
            NormOrder::Post => {
                let mut first_sum = Buffer::of(x.len());
                let [qkv, mixed, log_sums] = self.attend(x, &mut first_sum);
                self.join(0, &mut first_sum, x);
                let (middle, first) = self.normed(0, &first_sum);
                let mut second_sum = Buffer::of(x.len());
                let units = self.feed_forward(&middle, &mut second_sum);
                self.join(1, &mut second_sum, &middle);
                let second = self.with_norm(1, |norm| norm.forward(&second_sum, y));
                let m = self.block.masks.gate.value();
                if m != 1.0 {
                    combine(y, x, |y, x| x * (1.0 - m) + m * y);
                }
                let (attention_norm, feed_forward_norm) = ((Some(first_sum), first), (second_sum, second));
                Kept { qkv, mixed, log_sums, attention_norm, feed_forward_norm, units }
            }
        }
    }

    /// Writes the input's gradient to `dx` and adds those of the tensors.
    fn backward(
        &self,
        (x, kept): (&[f32], &Kept),
        dy: &[f32],
        dx: &mut [f32],
        grads: &mut Gradients<f32, Cpu>,
    ) -> DeviceResult {
        let (first_input, first) = &kept.attention_norm;
        let (second_input, second) = &kept.feed_forward_norm;
        match self.block.order {
            NormOrder::Pre => {
                dx.copy_from_slice(dy);
                let (normal, _) = self.normed(1, second_input);
                let dbranch = self.parted(1, dx);
                let dnormal = self.feed_forward_back((&normal, &kept.units), &dbranch, grads)?;
                self.norm_back(1, (second_input, second), &dnormal, dx, grads)?;
                drop((normal, dbranch, dnormal));
                let (normal, _) = self.normed(0, x);
                let dbranch = self.parted(0, dx);
                let dnormal = self.attend_back((&normal, kept), &dbranch, grads)?;
                self.norm_back(0, (x, first), &dnormal, dx, grads)
            }
            NormOrder::Post => {
                let m = self.block.masks.gate.value();
                let mut dlayer = Buffer::of(dy.len());
                dlayer.copy_from_slice(dy);
                if m != 1.0 {
                    combine(&mut dlayer, dy, |_, dy| m * dy);
                }
                let mut dsum = Buffer::zeros(dy.len());
                self.norm_back(1, (second_input, second), &dlayer, &mut dsum, grads)?;
                let first_input = first_input.as_deref().unwrap_or(x);
                let (middle, _) = self.normed(0, first_input);
                let dbranch = self.parted(1, &dsum);
                let back = self.feed_forward_back((&middle, &kept.units), &dbranch, grads)?;
                combine(&mut dsum, &back, |sum, d| sum + d);
                dx.fill(0.0);
                self.norm_back(0, (first_input, first), &dsum, dx, grads)?;
                let dbranch = self.parted(0, dx);
                let back = self.attend_back((x, kept), &dbranch, grads)?;
                combine(dx, &back, |sum, d| sum + d);
                if m != 1.0 {
                    combine(dx, dy, |dx, dy| dx + (1.0 - m) * dy);
                }
                Ok(())
            }
        }
    }
}
