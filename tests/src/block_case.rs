//! One Transformer block at any sizes on any device, for tests that hold its ways of computing against each other.

use crate::finite::normals;
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{OwnedTape, Tensor, Trace},
    tensor_ops::{Backward, SumTo, TryMul},
};
use msg_core::{
    Backend, Result,
    axis::{AttnDim, Axis, Batch, Ffn, HeadDim, Hidden, Qkv, Query},
    error::Context,
    mask::{Gate, Mask},
    ops::{AttentionMask, Block, BlockMasks, Compute, Dropout, Gelu, Kernels, NormOrder, Precision, Stream},
};

/// A block and its input: sizes and everything that acts in it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Where the norms stand; pre-norm is causal.
    pub order: NormOrder,
    /// Form of the activation.
    pub gelu: Gelu,
    /// Whether the axes have masks.
    pub masked: bool,
    /// The block's gate.
    pub gate: f32,
    /// Whether some keys are padding.
    pub padded: bool,
    /// Its rate.
    pub dropout: f32,
    /// Batch, length, hidden size.
    pub shape: (usize, usize, usize),
    /// Heads and their size.
    pub heads: (usize, usize),
    /// Feed-forward units.
    pub ffn: usize,
    /// Of the products.
    pub precision: Precision,
}

impl Case {
    /// A small case in the order, at odd sizes, with nothing special.
    pub fn new(order: NormOrder, precision: Precision) -> Self {
        Case {
            order,
            gelu: Gelu::Tanh,
            masked: false,
            gate: 1.0,
            padded: false,
            dropout: 0.0,
            shape: (2, 5, 7),
            heads: (3, 4),
            ffn: 11,
            precision,
        }
    }

    /// Cases that cover what a block can meet: both activations, masks, gates, dropout, padding, odd sizes.
    pub fn all(order: NormOrder, precision: Precision) -> Vec<Self> {
        let base = Case::new(order, precision);
        vec![
            base,
            Case { gelu: Gelu::Erf, ..base },
            Case { masked: true, ..base },
            Case { masked: true, gate: 0.4, ..base },
            Case { dropout: 0.3, gate: 0.4, ..base },
            Case { padded: true, masked: true, ..base },
            // Several blocks of queries, none of them whole; widths beyond a vector and a tile.
            Case { shape: (2, 131, 50), heads: (2, 9), ffn: 70, masked: true, ..base },
            // Widths that are multiples of 4 and of 8.
            Case { shape: (1, 70, 64), heads: (2, 32), ffn: 72, masked: true, dropout: 0.1, ..base },
            Case { shape: (2, 33, 64), heads: (2, 32), ffn: 72, ..base },
            Case { shape: (1, 1, 1), heads: (1, 1), ffn: 1, ..base },
        ]
    }

    /// The input.
    pub fn input<D: Kernels<f32>>(&self, device: &D) -> Stream<D, dfdx::tensor::NoneTape> {
        let (batch, length, hidden) = self.shape;
        tensor(device, "x", (Batch(batch), Query(length), Hidden(hidden)))
    }

    /// The block.
    pub fn block<D: Kernels<f32>>(&self, device: &D) -> Result<Block<D>> {
        let (batch, length, hidden) = self.shape;
        let (heads, head_dim) = self.heads;
        let (hidden, inner, ffn) = (Hidden(hidden), AttnDim(heads * head_dim), Ffn(self.ffn));
        let seen = match self.order {
            NormOrder::Pre => AttentionMask::causal(Query(length)),
            NormOrder::Post => AttentionMask::full(),
        };
        let padding: Vec<bool> =
            (0..batch * length).map(|at| at % length < length - at / length % 3).collect();
        let seen = match self.padded {
            true => seen.with_padding(device, &padding, Batch(batch), Query(length))?,
            false => seen,
        };
        Ok(Block {
            order: self.order,
            attention_norm: (tensor(device, "gain 1", (hidden,)), tensor(device, "shift 1", (hidden,))),
            qkv: (
                tensor(device, "qkv", (Qkv(3), inner, hidden)),
                tensor(device, "qkv bias", (Qkv(3), inner)),
            ),
            output: (tensor(device, "output", (hidden, inner)), tensor(device, "output bias", (hidden,))),
            feed_forward_norm: (tensor(device, "gain 2", (hidden,)), tensor(device, "shift 2", (hidden,))),
            up: (tensor(device, "up", (ffn, hidden)), tensor(device, "up bias", (ffn,))),
            down: (tensor(device, "down", (hidden, ffn)), tensor(device, "down bias", (hidden,))),
            masks: BlockMasks {
                attention_norm: mask(device, hidden, self.masked)?,
                feed_forward_norm: mask(device, hidden, self.masked)?,
                qkv: [
                    mask(device, inner, self.masked)?,
                    mask(device, inner, false)?,
                    mask(device, inner, self.masked)?,
                ],
                feed_forward: mask(device, ffn, self.masked)?,
                gate: Gate::new(self.gate),
            },
            attention_mask: seen,
            head_dim: HeadDim(head_dim),
            eps: 1e-5,
            gelu: self.gelu,
            dropout: Dropout::new(self.dropout, 7, 3, 1)?,
            layer_id: 2,
            compute: Compute { precision: self.precision, ..Compute::default() },
        })
    }
}

/// A named tensor's values.
pub type Named = (&'static str, Vec<f32>);

/// The output of a way to compute a block, and the gradients of its input and of all its tensors.
///
/// # Errors
/// What the way refuses, or where the device fails.
pub fn outcome<D: Backend>(
    case: &Case,
    block: &Block<D>,
    device: &D,
    way: impl FnOnce(Stream<D, OwnedTape<f32, D>>) -> Result<Stream<D, OwnedTape<f32, D>>>,
) -> Result<Vec<Named>> {
    let x = case.input(device);
    let y = way(x.leaky_trace())?;
    let mut named = vec![("value", y.as_vec())];
    let weights = tensor(device, "weights of the outputs", *y.shape());
    let grads = y.try_mul(weights).during("test")?.sum::<(), _>().backward();
    macro_rules! gradients {
        ($($name:literal $of:expr;)+) => {
            $(named.push(($name, grads.get($of).as_vec()));)+
        };
    }
    gradients! {
        "x" &x;
        "attention gain" &block.attention_norm.0;
        "attention shift" &block.attention_norm.1;
        "qkv" &block.qkv.0;
        "qkv bias" &block.qkv.1;
        "output" &block.output.0;
        "output bias" &block.output.1;
        "feed-forward gain" &block.feed_forward_norm.0;
        "feed-forward shift" &block.feed_forward_norm.1;
        "up" &block.up.0;
        "up bias" &block.up.1;
        "down" &block.down.0;
        "down bias" &block.down.1;
    }
    Ok(named)
}

/// Fails unless ours is as near to the chain in f32 as a few times the chain with operands rounded to bf16 is, or a
/// few roundings of each value: ours rounds stored activations and gradients, too.
pub fn assert_rounded(what: &str, exact: &[f32], slow: &[f32], ours: &[f32]) {
    const STEP: f64 = 1.0 / 256.0;
    let apart = |x: &[f32], y: &[f32]| {
        assert_eq!(x.len(), y.len(), "{what}: number of values");
        x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>().sqrt()
    };
    let size = exact.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let (error, usual) = (apart(ours, exact), apart(slow, exact));
    assert!(
        error <= 3.0 * usual + 5.0 * STEP * size,
        "{what}: {error} where rounding makes {usual} of {size}"
    );
}

/// A random tensor on any device, the same for the same name and shape.
pub fn tensor<S: Shape, D: Kernels<f32>>(device: &D, name: &str, shape: S) -> Tensor<S, f32, D> {
    device.tensor_from_vec(normals(name, shape.num_elements()), shape)
}

/// Old units at 1, a ramping group, and at the end units that are not there yet.
pub fn mask<A: Axis, D: Kernels<f32>>(device: &D, axis: A, on: bool) -> Result<Mask<A, f32, D>> {
    if !on {
        return Ok(Mask::none());
    }
    let size = axis.size();
    let value = |at: usize| {
        if at < size / 2 {
            1.0
        } else if at + 2 < size {
            0.3
        } else {
            0.0
        }
    };
    Mask::new(device, axis, (0..size).map(value).collect())
}
