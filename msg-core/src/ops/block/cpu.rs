//! The block as one node on the Cpu: every activation in our own buffers, the backward pass by hand.
//!
//! Kept for the backward pass are, in rows of the batch: the input, queries, keys, values and the attention output, the
//! inputs of the norms (pre-norm: the first one's is the block's), and the feed-forward units before their
//! activation: 6 or 7 of Hidden's or AttnDim's width and one of Ffn's. Norm outputs and activations are
//! recomputed; with `recompute`, everything but the input.

use super::{Block, BlockKernel, NormOrder, Pair};
use crate::{
    axis::{Hidden, Qkv},
    device::{
        buffers::Buffer,
        host::host,
        slice::{values, values_mut},
    },
    error::{Context, Result},
    float::Stored,
    mask::Mask,
    ops::{
        attention::cpu::Sequences,
        compute::Precision,
        dropout,
        masked_norm::cpu::{HostMask, Operands, Statistics, with_operands},
        rows::{accumulate, add_row_sums, combine, mask_rows},
        stream::Stream,
    },
    params::Param,
};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cpu, Gradients, PutTape, SplitTape, Tape, ZerosTensor},
    tensor_ops::ReshapeTo,
};
use half::bf16;
use rayon::prelude::*;

use arithmetic::{Arithmetic, BiasAndMask};

mod arithmetic;

impl BlockKernel for Cpu {
    fn block<T: Tape<f32, Self>>(x: Stream<Self, T>, block: Block<Self>) -> Result<Stream<Self, T>> {
        match block.compute.precision {
            Precision::F32 => node::<f32, T>(x, block),
            Precision::Bf16 => node::<bf16, T>(x, block),
        }
    }
}

fn node<E: Body, T: Tape<f32, Cpu>>(x: Stream<Cpu, T>, block: Block<Cpu>) -> Result<Stream<Cpu, T>> {
    const OP: &str = "block";
    let gate = block.masks.gate;
    gate.count();
    if gate.is_closed() {
        return Ok(x);
    }
    let (x, mut tape) = x.try_contiguous().during(OP)?.split_tape();
    let pass = Pass::new(block, *x.shape())?;
    let mut y = x.device().try_zeros_like(x.shape()).during(OP)?;
    let kept = E::block_forward(&pass, values(&x), values_mut(&mut y));
    if T::OWNS_TAPE {
        let result = y.ghost();
        let kept = (!pass.block.compute.recompute).then_some(kept);
        tape.add_backward_op(move |grads| {
            let gradient: &mut Vec<f32> = grads.get_or_alloc_mut(&result)?;
            let dy = std::mem::take(gradient);
            let kept = match kept {
                Some(kept) => kept,
                None => E::block_forward(&pass, values(&x), &mut Buffer::of(dy.len())),
            };
            let mut dx = Buffer::of(dy.len());
            E::block_backward(&pass, (values(&x), &kept), &dy, &mut dx, grads)?;
            drop(kept);
            let of_x: &mut Vec<f32> = grads.get_or_alloc_mut(&x)?;
            accumulate(of_x, &dx);
            let slot: &mut Vec<f32> = grads.get_or_alloc_mut(&result)?;
            *slot = dy;
            Ok(())
        });
    }
    Ok(y.put_tape(tape))
}

/// The passes in one precision. Functions of each type and not generic, so that they are compiled in this crate: the
/// node is generic over tapes, and compiled again in each crate that runs a block.
trait Body: Arithmetic {
    fn block_forward(pass: &Pass, x: &[f32], y: &mut [f32]) -> Kept<Self>;

    fn block_backward(
        pass: &Pass,
        at: (&[f32], &Kept<Self>),
        dy: &[f32],
        dx: &mut [f32],
        grads: &mut Gradients<f32, Cpu>,
    ) -> DeviceResult;
}

macro_rules! body {
    ($type:ty) => {
        impl Body for $type {
            fn block_forward(pass: &Pass, x: &[f32], y: &mut [f32]) -> Kept<Self> {
                pass.forward(x, y)
            }

            fn block_backward(
                pass: &Pass,
                at: (&[f32], &Kept<Self>),
                dy: &[f32],
                dx: &mut [f32],
                grads: &mut Gradients<f32, Cpu>,
            ) -> DeviceResult {
                pass.backward(at, dy, dx, grads)
            }
        }
    };
}

body!(f32);
body!(bf16);

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
struct Kept<E> {
    qkv: Buffer<E>,
    attn_out: Buffer<E>,
    logsumexp: Buffer,
    /// Input and statistics of the attention branch's norm; pre-norm: the block's input, so not here.
    attention_norm: (Option<Buffer>, Statistics),
    feed_forward_norm: (Buffer, Statistics),
    units: Buffer<E>,
}

/// Adds the gradients of weight and bias: `dW += dy^T x`, `db += sum of the rows of dy`.
fn back_to_map<W: Shape, B: Shape, E: Arithmetic>(
    (weight, bias): &(Param<W, Cpu>, Param<B, Cpu>),
    (x, dy): (&[E], &[E]),
    outputs: usize,
    grads: &mut Gradients<f32, Cpu>,
) -> DeviceResult {
    let dw: &mut Vec<f32> = grads.get_or_alloc_mut(weight)?;
    E::back_to_weight(x, dy, dw, outputs);
    let db: &mut Vec<f32> = grads.get_or_alloc_mut(bias)?;
    add_row_sums(dy, db);
    Ok(())
}

impl Pass {
    fn new(block: Block<Cpu>, shape: (crate::axis::Batch, crate::axis::Query, Hidden)) -> Result<Self> {
        let (batch, length, hidden) = shape;
        let (Qkv(_), inner, _) = *block.qkv.0.shape();
        let ffn = block.up.0.shape().0;
        let (padding, causal) = block.attention_mask.host(batch, length)?;
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
        let (weight, bias) = self.norm_tensors(which);
        with_operands((weight, bias), &self.norm_masks[which], self.block.eps, work)
    }

    fn norm_tensors(&self, which: usize) -> &Pair<(Hidden,), (Hidden,), Cpu> {
        [&self.block.attention_norm, &self.block.feed_forward_norm][which]
    }

    fn normed<Y: Stored>(&self, which: usize, x: &[f32]) -> (Buffer<Y>, Statistics) {
        let mut y = Buffer::of(x.len());
        let statistics = self.with_norm(which, |norm| norm.forward(x, &mut y));
        (y, statistics)
    }

    /// Adds the gradient of a norm's input to `dx`.
    fn norm_back<Y: Stored>(
        &self,
        which: usize,
        (x, statistics): (&[f32], &Statistics),
        dy: &[Y],
        dx: &mut [f32],
        grads: &mut Gradients<f32, Cpu>,
    ) -> DeviceResult {
        let (weight, bias) = self.norm_tensors(which);
        let (mut dweight, mut dbias) = (Buffer::<f32>::zeros(self.hidden), Buffer::<f32>::zeros(self.hidden));
        self.with_norm(which, |norm| norm.backward(x, statistics, dy, dx, (&mut dweight, &mut dbias)));
        let of_weight: &mut Vec<f32> = grads.get_or_alloc_mut(weight)?;
        accumulate(of_weight, &dweight);
        let of_bias: &mut Vec<f32> = grads.get_or_alloc_mut(bias)?;
        accumulate(of_bias, &dbias);
        Ok(())
    }

    /// Projections, attention, and the branch's output without its bias.
    fn attend<E: Arithmetic>(&self, x: &[E], branch: &mut [f32]) -> (Buffer<E>, Buffer<E>, Buffer) {
        let Block { qkv: (weight, bias), output, .. } = &self.block;
        let mut qkv = Buffer::of(3 * self.rows * self.inner);
        let to = BiasAndMask { bias: values(bias), mask: self.qkv_mask.as_deref() };
        E::linear(x, values(weight), to, &mut qkv);
        let mut attn_out = Buffer::of(self.rows * self.inner);
        let mut logsumexp = Buffer::of(self.rows * self.sequences.heads);
        self.sequences.forward(&qkv[..], &mut attn_out, &mut logsumexp);
        E::to_stream(&attn_out, values(&output.0), branch, self.hidden);
        (qkv, attn_out, logsumexp)
    }

    /// The gradient of the branch's input, from that of its output.
    fn attend_back<E: Arithmetic>(
        &self,
        (x, kept): (&[E], &Kept<E>),
        dbranch: &[E],
        grads: &mut Gradients<f32, Cpu>,
    ) -> std::result::Result<Buffer<E>, dfdx::tensor::CpuError> {
        let Kept { qkv, attn_out, logsumexp, .. } = kept;
        let Block { qkv: projections, output, .. } = &self.block;
        back_to_map(output, (&attn_out[..], dbranch), self.hidden, grads)?;
        let mut dattn_out = Buffer::of(attn_out.len());
        E::back_to_inputs(dbranch, values(&output.0), &mut dattn_out, self.hidden);
        let mut dqkv = Buffer::of(qkv.len());
        self.sequences.backward(qkv, (attn_out, logsumexp), &dattn_out, &mut dqkv);
        mask_rows(&mut dqkv[..], self.qkv_mask.as_deref());
        back_to_map(projections, (x, &dqkv[..]), 3 * self.inner, grads)?;
        let mut dx = Buffer::of(self.rows * self.hidden);
        E::back_to_inputs(&dqkv, values(&projections.0), &mut dx, 3 * self.inner);
        Ok(dx)
    }

    fn activated<E: Arithmetic>(&self, units: &[E]) -> Buffer<E> {
        let mut active = Buffer::of(units.len());
        self.block.gelu.forward(units, &mut active[..]);
        active
    }

    /// Writes the branch's output without its bias; gives the units before their activation.
    fn feed_forward<E: Arithmetic>(&self, x: &[E], branch: &mut [f32]) -> Buffer<E> {
        let Block { up: (weight, bias), down, .. } = &self.block;
        let mut units = Buffer::of(self.rows * self.ffn);
        let to = BiasAndMask { bias: values(bias), mask: self.units_mask.as_deref() };
        E::linear(x, values(weight), to, &mut units);
        E::to_stream(&self.activated(&units[..]), values(&down.0), branch, self.hidden);
        units
    }

    fn feed_forward_back<E: Arithmetic>(
        &self,
        (x, units): (&[E], &[E]),
        dbranch: &[E],
        grads: &mut Gradients<f32, Cpu>,
    ) -> std::result::Result<Buffer<E>, dfdx::tensor::CpuError> {
        let Block { up, down, gelu, .. } = &self.block;
        let (mut active, mut dunits) = (Buffer::of(units.len()), Buffer::of(units.len()));
        E::back_to_inputs(dbranch, values(&down.0), &mut dunits, self.hidden);
        gelu.backward(units, &mut active[..], &mut dunits[..]);
        back_to_map(down, (&active[..], dbranch), self.hidden, grads)?;
        drop(active);
        mask_rows(&mut dunits[..], self.units_mask.as_deref());
        back_to_map(up, (x, &dunits[..]), self.ffn, grads)?;
        let mut dx = Buffer::of(self.rows * self.hidden);
        E::back_to_inputs(&dunits, values(&up.0), &mut dx, self.ffn);
        Ok(dx)
    }

    /// The gate's factor on a branch.
    fn branch_gate(&self) -> f32 {
        match self.block.order {
            NormOrder::Pre => self.block.masks.gate.value(),
            NormOrder::Post => 1.0,
        }
    }

    /// Visits the rows of `y` with those of `x` and the factors of a branch: gate times dropout.
    fn by_rows<Y: Stored>(
        &self,
        which: usize,
        y: &mut [Y],
        x: &[f32],
        f: impl Fn(&mut [Y], &[f32], &[f32]) + Sync,
    ) {
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
    fn parted<E: Stored>(&self, which: usize, dy: &[f32]) -> Buffer<E> {
        let mut branch = Buffer::of(dy.len());
        self.by_rows(
            which,
            &mut branch[..],
            dy,
            #[inline(always)]
            |branch: &mut [E], dy: &[f32], factors: &[f32]| {
                branch.iter_mut().zip(dy).zip(factors).for_each(|((d, dy), factor)| *d = E::of(factor * dy));
            },
        );
        branch
    }

    fn forward<E: Arithmetic>(&self, x: &[f32], y: &mut [f32]) -> Kept<E> {
        match self.block.order {
            NormOrder::Pre => {
                let (normal, first) = self.normed::<E>(0, x);
                let mut middle = Buffer::of(x.len());
                let (qkv, attn_out, logsumexp) = self.attend(&normal[..], &mut middle);
                self.join(0, &mut middle, x);
                let (normal, second) = self.normed::<E>(1, &middle);
                let units = self.feed_forward(&normal[..], y);
                self.join(1, y, &middle);
                let (attention_norm, feed_forward_norm) = ((None, first), (middle, second));
                Kept { qkv, attn_out, logsumexp, attention_norm, feed_forward_norm, units }
            }
            NormOrder::Post => {
                let mut first_sum = Buffer::of(x.len());
                let (qkv, attn_out, logsumexp) = self.attend::<E>(&E::operand(x), &mut first_sum);
                self.join(0, &mut first_sum, x);
                let (middle, first) = self.normed::<f32>(0, &first_sum);
                let mut second_sum = Buffer::of(x.len());
                let units = self.feed_forward::<E>(&E::operand(&middle), &mut second_sum);
                self.join(1, &mut second_sum, &middle);
                let second = self.with_norm(1, |norm| norm.forward(&second_sum, y));
                let m = self.block.masks.gate.value();
                if m != 1.0 {
                    combine(y, x, |y, x| x * (1.0 - m) + m * y);
                }
                let (attention_norm, feed_forward_norm) = ((Some(first_sum), first), (second_sum, second));
                Kept { qkv, attn_out, logsumexp, attention_norm, feed_forward_norm, units }
            }
        }
    }

    /// Writes the input's gradient to `dx` and adds those of the tensors.
    fn backward<E: Arithmetic>(
        &self,
        (x, kept): (&[f32], &Kept<E>),
        dy: &[f32],
        dx: &mut [f32],
        grads: &mut Gradients<f32, Cpu>,
    ) -> DeviceResult {
        let (first_input, first) = &kept.attention_norm;
        let (second_input, second) = &kept.feed_forward_norm;
        match self.block.order {
            NormOrder::Pre => {
                combine(dx, dy, |_, dy| dy);
                let (normal, _) = self.normed::<E>(1, second_input);
                let dbranch = self.parted::<E>(1, dx);
                let dnormal = self.feed_forward_back((&normal[..], &kept.units), &dbranch, grads)?;
                self.norm_back(1, (second_input, second), &dnormal[..], dx, grads)?;
                drop((normal, dbranch, dnormal));
                let (normal, _) = self.normed::<E>(0, x);
                let dbranch = self.parted::<E>(0, dx);
                let dnormal = self.attend_back((&normal[..], kept), &dbranch, grads)?;
                self.norm_back(0, (x, first), &dnormal[..], dx, grads)
            }
            NormOrder::Post => {
                let m = self.block.masks.gate.value();
                let mut dlayer = Buffer::<f32>::of(dy.len());
                combine(&mut dlayer, dy, |_, dy| if m == 1.0 { dy } else { m * dy });
                let mut dsum = Buffer::<f32>::zeros(dy.len());
                self.norm_back(1, (second_input, second), &dlayer[..], &mut dsum, grads)?;
                let first_input = first_input.as_deref().unwrap_or(x);
                let (middle, _) = self.normed::<E>(0, first_input);
                let dbranch = self.parted::<E>(1, &dsum);
                let back = self.feed_forward_back((&middle[..], &kept.units), &dbranch, grads)?;
                combine(&mut dsum, &back[..], |sum, d| sum + d);
                combine(dx, dy, |_, _| 0.0);
                self.norm_back(0, (first_input, first), &dsum[..], dx, grads)?;
                let dbranch = self.parted::<E>(0, dx);
                let back = self.attend_back((&E::operand(x)[..], kept), &dbranch, grads)?;
                combine(dx, &back[..], |sum, d| sum + d);
                if m != 1.0 {
                    combine(dx, dy, |dx, dy| dx + (1.0 - m) * dy);
                }
                Ok(())
            }
        }
    }
}
