//! The block as one node on Cuda: kernels on buffers of our own, the backward pass by hand.
//!
//! What is kept for the backward pass is what the Cpu's node keeps; the feed-forward units are kept without bias and
//! mask. With bf16 the operands of products and all activations inside are bf16, the residual stream and the sums f32.

use super::{Block, BlockKernel, NormOrder, plain};
use crate::{
    device::{
        cuda::{
            cast::{Operand, operand},
            element::{Element, Values},
            launch::DeviceResult,
            products::{Epilogue, Sizes},
        },
        raw_pointer::{self, Address},
    },
    error::{Context, Result},
    ops::{
        attention::cuda::{AttentionKernels, LARGEST_HEAD},
        compute::Precision,
        elementwise::{self, AddScaled, Shape},
        masked_norm::cuda::{NormBackward, ResidualNorm, Statistics, residual},
        stream::Stream,
    },
    params::Param,
};
use cudarc::driver::DevicePtr;
use dfdx::{
    shapes::HasShape,
    tensor::{Cuda, Gradients, PutTape, SplitTape, Tape, ZerosTensor},
    tensor_ops::ReshapeTo,
};
use half::bf16;
use setup::Pass;

mod setup;

impl BlockKernel for Cuda {
    fn block<T: Tape<f32, Self>>(x: Stream<Self, T>, block: Block<Self>) -> Result<Stream<Self, T>> {
        if block.head_dim.0 > LARGEST_HEAD {
            return plain::block(x, &block);
        }
        match block.compute.precision {
            Precision::F32 => node::<f32, T>(x, block),
            Precision::Bf16 => node::<bf16, T>(x, block),
        }
    }
}

fn node<E: AttentionKernels, T: Tape<f32, Cuda>>(
    x: Stream<Cuda, T>,
    block: Block<Cuda>,
) -> Result<Stream<Cuda, T>> {
    const OP: &str = "block";
    let gate = block.masks.gate;
    gate.count();
    if gate.is_closed() {
        return Ok(x);
    }
    let (x, mut tape) = x.try_contiguous().during(OP)?.split_tape();
    let pass = Pass::<E>::new(block, x.device(), *x.shape())?;
    let y = x.device().try_zeros_like(x.shape()).during(OP)?;
    let from = raw_pointer::address(&x)?;
    let kept = pass.forward(from, raw_pointer::address(&y)?).during(OP)?;
    if T::OWNS_TAPE {
        let result = y.ghost();
        let kept = (!pass.block.compute.recompute).then_some(kept);
        tape.add_backward_op(move |grads| {
            let dy = *grads.get_or_alloc_mut(&result)?.device_ptr();
            let dx = *grads.get_or_alloc_mut(&x)?.device_ptr();
            let kept = match kept {
                Some(kept) => kept,
                None => pass.forward(from, pass.stream::<f32>()?.address())?,
            };
            pass.backward((from, &kept), dy, dx, grads)
        });
    }
    Ok(y.put_tape(tape))
}

/// What the backward pass needs besides the input.
struct Kept<E: Element> {
    qkv: Values<E>,
    attn_out: Values<E>,
    logsumexp: Values<f32>,
    /// Input and statistics of the attention branch's norm; pre-norm: the block's input, so not here.
    attention_norm: (Option<Values<f32>>, Statistics),
    feed_forward_norm: (Values<f32>, Statistics),
    /// Before their activation, and what is still to be added to them; without mask.
    units: Values<E>,
    units_bias: Address,
}

/// Where a parameter's gradient lies.
fn slot<S: dfdx::shapes::Shape>(
    grads: &mut Gradients<f32, Cuda>,
    of: &Param<S, Cuda>,
) -> DeviceResult<Address> {
    Ok(*grads.get_or_alloc_mut(of)?.device_ptr())
}

impl<E: AttentionKernels> Pass<E> {
    fn sizes(&self, inputs: usize, outputs: usize) -> Sizes {
        Sizes { rows: self.rows, inputs, outputs }
    }

    fn values<V: Element>(&self, columns: usize) -> DeviceResult<Values<V>> {
        Values::of(&self.gpu, self.rows * columns)
    }

    /// Rows as long as those of the residual stream.
    fn stream<V: Element>(&self) -> DeviceResult<Values<V>> {
        self.values(self.hidden)
    }

    fn matrix(&self, columns: usize, part: usize) -> Shape {
        Shape { rows: self.rows, columns, part }
    }

    fn operand(&self, x: Address) -> DeviceResult<Operand<E>> {
        operand::<E>(&self.gpu, x, self.rows * self.hidden)
    }

    /// A norm of `x` alone, as the operand of a map.
    fn normed(&self, which: usize, x: Address) -> DeviceResult<(Values<E>, Statistics)> {
        let normal = self.stream::<E>()?;
        let with = ResidualNorm { x, normal: normal.address(), ..ResidualNorm::default() };
        let statistics = self.norms[which].forward::<E>(&self.gpu, self.rows, with)?;
        Ok((normal, statistics))
    }

    /// `x + gate * drop(branch + bias)`, for the kernels.
    fn joined(&self, which: usize, x: Address, branch: &Values<E>) -> ResidualNorm {
        ResidualNorm {
            x,
            branch: branch.address(),
            branch_bias: [self.biases.output, self.biases.down][which],
            dropout: self.branch_dropout[which],
            gate: self.branch_gate(),
            length: self.sequences.length as u32,
            ..ResidualNorm::default()
        }
    }

    /// The gate's factor on a branch.
    fn branch_gate(&self) -> f32 {
        match self.block.order {
            NormOrder::Pre => self.block.masks.gate.value(),
            NormOrder::Post => 1.0,
        }
    }

    /// Projections, attention, and the branch's output without its bias.
    fn attend(&self, x: Address) -> DeviceResult<(Values<E>, Values<E>, Values<f32>, Values<E>)> {
        let (gpu, width) = (&self.gpu, 3 * self.inner);
        let qkv = self.values::<E>(width)?;
        let size = self.sizes(self.hidden, width);
        let operands = (x, self.qkv.address());
        let [bias, _] = &self.fused;
        let epilogue = bias.as_ref().map(|bias| Epilogue::Bias(bias.address()));
        if !epilogue.is_some_and(|epilogue| {
            self.products.linear_with_epilogue(size, operands, qkv.address(), epilogue)
        }) {
            self.products.linear::<E, E>(size, operands, qkv.address())?;
            let matrix = self.matrix(width, self.inner);
            matrix.bias_and_mask::<E>(gpu, qkv.address(), self.biases.qkv, self.qkv_mask)?;
        }
        let attn_out = self.values::<E>(self.inner)?;
        let logsumexp = Values::of(gpu, self.sequences.statistics())?;
        self.sequences.forward::<E>(gpu, qkv.address(), attn_out.address(), logsumexp.address())?;
        let branch = self.stream::<E>()?;
        let size = self.sizes(self.inner, self.hidden);
        let operands = (attn_out.address(), self.output.address());
        self.products.linear::<E, E>(size, operands, branch.address())?;
        Ok((qkv, attn_out, logsumexp, branch))
    }

    /// The gradient of the branch's input, from that of its output.
    fn attend_back(
        &self,
        (x, kept): (Address, &Kept<E>),
        dbranch: &Values<E>,
        grads: &mut Gradients<f32, Cuda>,
    ) -> DeviceResult<Values<E>> {
        let (gpu, products, width) = (&self.gpu, &self.products, 3 * self.inner);
        let Kept { qkv, attn_out, logsumexp, .. } = kept;
        let Block { qkv: projections, output, .. } = &self.block;
        let size = self.sizes(self.inner, self.hidden);
        let operands = (dbranch.address(), attn_out.address());
        products.back_to_weight::<E>(size, operands, slot(grads, &output.0)?, true)?;
        let dattn_out = self.values::<E>(self.inner)?;
        let operands = (dbranch.address(), self.output.address());
        products.back_to_inputs::<E, E>(size, operands, dattn_out.address())?;
        let dqkv = self.values::<E>(width)?;
        let forward = (qkv.address(), attn_out.address(), logsumexp.address());
        self.sequences.backward::<E>(gpu, forward, dattn_out.address(), dqkv.address())?;
        let matrix = self.matrix(width, self.inner);
        matrix.mask_back::<E>(gpu, dqkv.address(), self.qkv_mask, slot(grads, &projections.1)?)?;
        let size = self.sizes(self.hidden, width);
        products.back_to_weight::<E>(size, (dqkv.address(), x), slot(grads, &projections.0)?, true)?;
        let dx = self.stream::<E>()?;
        products.back_to_inputs::<E, E>(size, (dqkv.address(), self.qkv.address()), dx.address())?;
        Ok(dx)
    }

    /// The units before their activation with what is still to be added, and the branch's output without its bias.
    fn feed_forward(&self, x: Address) -> DeviceResult<(Values<E>, Address, Values<E>)> {
        let (units, active) = (self.values::<E>(self.ffn)?, self.values::<E>(self.ffn)?);
        let (size, up) = (self.sizes(self.hidden, self.ffn), (x, self.up.address()));
        let [_, bias] = &self.fused;
        let sum = units.address();
        let epilogue = bias.as_ref().map(|bias| Epilogue::BiasAndGelu { bias: bias.address(), sum });
        let fused = epilogue
            .is_some_and(|epilogue| self.products.linear_with_epilogue(size, up, active.address(), epilogue));
        let bias = if fused { 0 } else { self.biases.up };
        if !fused {
            self.products.linear::<E, E>(size, up, units.address())?;
            let operands = (units.address(), bias, self.units_mask);
            let matrix = self.matrix(self.ffn, self.ffn);
            matrix.activate::<E>(&self.gpu, self.block.gelu, operands, active.address())?;
        }
        let branch = self.stream::<E>()?;
        let down = (active.address(), self.down.address());
        self.products.linear::<E, E>(self.sizes(self.ffn, self.hidden), down, branch.address())?;
        Ok((units, bias, branch))
    }

    fn feed_forward_back(
        &self,
        (x, kept): (Address, &Kept<E>),
        dbranch: &Values<E>,
        grads: &mut Gradients<f32, Cuda>,
    ) -> DeviceResult<Values<E>> {
        let products = &self.products;
        let Block { up, down, gelu, .. } = &self.block;
        let (active, dunits) = (self.values::<E>(self.ffn)?, self.values::<E>(self.ffn)?);
        let size = self.sizes(self.ffn, self.hidden);
        let operands = (dbranch.address(), self.down.address());
        products.back_to_inputs::<E, E>(size, operands, dunits.address())?;
        let operands = (kept.units.address(), kept.units_bias, self.units_mask);
        let to = (active.address(), dunits.address());
        let total = slot(grads, &up.1)?;
        self.matrix(self.ffn, self.ffn).activate_back::<E>(&self.gpu, *gelu, operands, to, total)?;
        let operands = (dbranch.address(), active.address());
        products.back_to_weight::<E>(size, operands, slot(grads, &down.0)?, true)?;
        let size = self.sizes(self.hidden, self.ffn);
        products.back_to_weight::<E>(size, (dunits.address(), x), slot(grads, &up.0)?, true)?;
        let dx = self.stream::<E>()?;
        products.back_to_inputs::<E, E>(size, (dunits.address(), self.up.address()), dx.address())?;
        Ok(dx)
    }

    fn forward(&self, x: Address, y: Address) -> DeviceResult<Kept<E>> {
        let (gpu, rows) = (&self.gpu, self.rows);
        match self.block.order {
            NormOrder::Pre => {
                let (normal, first) = self.normed(0, x)?;
                let (qkv, attn_out, logsumexp, branch) = self.attend(normal.address())?;
                let middle = self.stream::<f32>()?;
                let with = ResidualNorm {
                    sum: middle.address(),
                    normal: normal.address(),
                    ..self.joined(0, x, &branch)
                };
                let second = self.norms[1].forward::<E>(gpu, rows, with)?;
                let (units, units_bias, branch) = self.feed_forward(normal.address())?;
                let with = ResidualNorm { sum: y, ..self.joined(1, middle.address(), &branch) };
                residual::<E>(gpu, (rows, self.hidden), with)?;
                let (attention_norm, feed_forward_norm) = ((None, first), (middle, second));
                Ok(Kept { qkv, attn_out, logsumexp, attention_norm, feed_forward_norm, units, units_bias })
            }
            NormOrder::Post => {
                let operand = self.operand(x)?;
                let (qkv, attn_out, logsumexp, branch) = self.attend(operand.address())?;
                let (sum, middle, normal) =
                    (self.stream::<f32>()?, self.stream::<f32>()?, self.stream::<E>()?);
                let with = ResidualNorm {
                    sum: sum.address(),
                    stream: middle.address(),
                    normal: normal.address(),
                    ..self.joined(0, x, &branch)
                };
                let first = self.norms[0].forward::<E>(gpu, rows, with)?;
                let (units, units_bias, branch) = self.feed_forward(normal.address())?;
                let second_sum = self.stream::<f32>()?;
                let blend = self.block.masks.gate.value();
                let with = ResidualNorm {
                    sum: second_sum.address(),
                    stream: y,
                    base: if blend == 1.0 { 0 } else { x },
                    blend,
                    ..self.joined(1, middle.address(), &branch)
                };
                let second = self.norms[1].forward::<E>(gpu, rows, with)?;
                let (attention_norm, feed_forward_norm) = ((Some(sum), first), (second_sum, second));
                Ok(Kept { qkv, attn_out, logsumexp, attention_norm, feed_forward_norm, units, units_bias })
            }
        }
    }

    /// The gradient of a norm's input, of the branch that ends there, and of the tensors.
    fn norm_back(
        &self,
        (which, statistics): (usize, &Statistics),
        with: NormBackward,
        branch_bias: Option<Address>,
        grads: &mut Gradients<f32, Cuda>,
    ) -> DeviceResult {
        let (weight, bias) = [&self.block.attention_norm, &self.block.feed_forward_norm][which];
        let to = [slot(grads, weight)?, slot(grads, bias)?, branch_bias.unwrap_or(0)];
        self.norms[which].backward::<E>(&self.gpu, (self.rows, statistics), with, to)
    }

    /// Adds the input's gradient to `dx` and those of the tensors to theirs.
    fn backward(
        &self,
        (x, kept): (Address, &Kept<E>),
        dy: Address,
        dx: Address,
        grads: &mut Gradients<f32, Cuda>,
    ) -> DeviceResult {
        let (gpu, length) = (&self.gpu, self.sequences.length as u32);
        let (first_input, first) = &kept.attention_norm;
        let (second_input, second) = &kept.feed_forward_norm;
        let dbranch = self.stream::<E>()?;
        let (output_bias, down_bias) = (slot(grads, &self.block.output.1)?, slot(grads, &self.block.down.1)?);
        let [attention_dropout, down_dropout] = self.branch_dropout;
        // Makes the gradient of the branch that ends before a norm, too.
        let parted = |dropout| NormBackward {
            branch: dbranch.address(),
            dropout,
            gate: self.branch_gate(),
            length,
            ..NormBackward::default()
        };
        match self.block.order {
            NormOrder::Pre => {
                let from = (dy, self.branch_gate(), down_dropout, self.sequences.length);
                let matrix = self.matrix(self.hidden, self.hidden);
                matrix.branch_back::<E>(gpu, from, dbranch.address(), down_bias)?;
                let (normal, _) = self.normed(1, second_input.address())?;
                let dnormal = self.feed_forward_back((normal.address(), kept), &dbranch, grads)?;
                let dmiddle = self.stream::<f32>()?;
                let with = NormBackward {
                    x: second_input.address(),
                    dy_normal: dnormal.address(),
                    dx_in: dy,
                    dx: dmiddle.address(),
                    ..parted(attention_dropout)
                };
                self.norm_back((1, second), with, Some(output_bias), grads)?;
                let (normal, _) = self.normed(0, x)?;
                let dnormal = self.attend_back((normal.address(), kept), &dbranch, grads)?;
                let with = NormBackward {
                    x,
                    dy_normal: dnormal.address(),
                    dx_in: dmiddle.address(),
                    dx,
                    adds: 1,
                    ..NormBackward::default()
                };
                self.norm_back((0, first), with, None, grads)
            }
            NormOrder::Post => {
                let gate = self.block.masks.gate.value();
                let dsum = self.stream::<f32>()?;
                let with = NormBackward {
                    x: second_input.address(),
                    dy_stream: dy,
                    scale: gate,
                    dx: dsum.address(),
                    ..parted(down_dropout)
                };
                self.norm_back((1, second), with, Some(down_bias), grads)?;
                let first_input = first_input.as_ref().map_or(x, Values::address);
                let (middle, _) = self.normed(0, first_input)?;
                let back = self.feed_forward_back((middle.address(), kept), &dbranch, grads)?;
                let with = NormBackward {
                    x: first_input,
                    dy_stream: dsum.address(),
                    scale: 1.0,
                    dy_normal: back.address(),
                    dx: dsum.address(),
                    ..parted(attention_dropout)
                };
                self.norm_back((0, first), with, Some(output_bias), grads)?;
                let operand = self.operand(x)?;
                let back = self.attend_back((operand.address(), kept), &dbranch, grads)?;
                let with = AddScaled {
                    to: dx,
                    a: dsum.address(),
                    b: back.address(),
                    c: if gate == 1.0 { 0 } else { dy },
                    scale: 1.0 - gate,
                    count: self.rows * self.hidden,
                    ..AddScaled::default()
                };
                elementwise::add_scaled::<E>(gpu, with)
            }
        }
    }
}
