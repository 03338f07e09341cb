//! A Transformer block as one operation: attention, feed-forward layer, norms, residuals, masks and gate.
//!
//! The granularity is the block because every activation that leaves a node costs a tensor and a gradient: with finer
//! nodes all of them would be allocated and summed, with this one only the residual stream is.
//! The plain body ([`plain`]) is a chain of the operations in [`crate::ops`]; tests hold each
//! device's [`BlockKernel::block`] against it.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub mod plain;

use crate::{
    axis::{AttnDim, Batch, Ffn, HeadDim, Hidden, Qkv, Query},
    error::{Result, same_size, some_entries},
    mask::{Gate, Mask},
    ops::{
        attention::AttentionMask,
        compute::Compute,
        dropout::{Dropout, DropoutSite},
        gelu::Gelu,
        kernels::Kernels,
        stream::Stream,
    },
    params::Param,
};
use dfdx::{shapes::HasShape, tensor::Tape, tensor_ops::Device};

/// The place of a block's norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormOrder {
    /// `x + m f(norm(x))` for both branches f (GPT).
    Pre,
    /// `m norm(h + mlp(h)) + (1 - m) x` with `h = norm(x + attention(x))` (BERT).
    Post,
}

/// Weight and bias of a linear map or of a norm.
pub type Pair<W, B, D> = (Param<W, D>, Param<B, D>);

/// A block: its tensors (shared with the module that owns them) and everything else that one pass needs.
#[derive(Clone, Debug)]
pub struct Block<D: Device<f32>> {
    /// The place of the norms.
    pub order: NormOrder,
    /// Weight and bias of the attention branch's norm.
    pub attention_norm: Pair<(Hidden,), (Hidden,), D>,
    /// The projections to queries, keys and values.
    pub qkv: Pair<(Qkv, AttnDim, Hidden), (Qkv, AttnDim), D>,
    /// The projection back.
    pub output: Pair<(Hidden, AttnDim), (Hidden,), D>,
    /// Weight and bias of the feed-forward branch's norm.
    pub feed_forward_norm: Pair<(Hidden,), (Hidden,), D>,
    /// The map to the feed-forward units.
    pub up: Pair<(Ffn, Hidden), (Ffn,), D>,
    /// The map back.
    pub down: Pair<(Hidden, Ffn), (Hidden,), D>,
    /// The growth masks.
    pub masks: BlockMasks<D>,
    /// Which keys each query sees.
    pub attention_mask: AttentionMask<f32, D>,
    /// Size of one head.
    pub head_dim: HeadDim,
    /// Added to the variance in both norms.
    pub eps: f64,
    /// Form of the activation.
    pub gelu: Gelu,
    /// The dropout of this micro-batch.
    pub dropout: Dropout,
    /// The block's identity, for dropout.
    pub layer_id: u64,
    /// Precision, and what is kept for the backward pass.
    pub compute: Compute,
}

/// The growth masks of one block in one pass.
#[derive(Clone, Debug)]
pub struct BlockMasks<D: Device<f32>> {
    /// Of the attention branch's norm.
    pub attention_norm: Mask<Hidden, f32, D>,
    /// Of the feed-forward branch's norm.
    pub feed_forward_norm: Mask<Hidden, f32, D>,
    /// Of queries, keys and values.
    pub qkv: [Mask<AttnDim, f32, D>; 3],
    /// Of the feed-forward units.
    pub feed_forward: Mask<Ffn, f32, D>,
    /// Of the block.
    pub gate: Gate,
}

/// A device that computes a block.
pub trait BlockKernel: Kernels<f32> {
    /// The block's output; sizes fit ([`Block::forward`] has checked them).
    fn block<T: Tape<f32, Self>>(x: Stream<Self, T>, block: Block<Self>) -> Result<Stream<Self, T>>;
}

impl<D: BlockKernel> Block<D> {
    /// The block's output, by the device's fastest implementation.
    ///
    /// # Errors
    /// Where the sizes differ.
    pub fn forward<T: Tape<f32, D>>(self, x: Stream<D, T>) -> Result<Stream<D, T>> {
        self.check(x.shape())?;
        D::block(x, self)
    }

    /// Refuses tensors that do not fit each other or the input.
    fn check(&self, shape: &(Batch, Query, Hidden)) -> Result<()> {
        const OP: &str = "block";
        let &(_, _, hidden) = shape;
        let &(Qkv(parts), inner, qkv_inputs) = self.qkv.0.shape();
        let &(ffn, up_inputs) = self.up.0.shape();
        some_entries("block: number of inputs", shape)?;
        same_size(OP, "Qkv", 3, parts)?;
        let norms = [&self.attention_norm, &self.feed_forward_norm];
        let hidden_sizes = norms.iter().flat_map(|(weight, bias)| [weight.shape().0, bias.shape().0]);
        let linear = [qkv_inputs, up_inputs, self.output.0.shape().0, self.output.1.shape().0];
        let back = [self.down.0.shape().0, self.down.1.shape().0];
        for got in hidden_sizes.chain(linear).chain(back) {
            same_size(OP, "Hidden", hidden.0, got.0)?;
        }
        same_size(OP, "Inner", inner.0, self.output.0.shape().1.0)?;
        same_size(OP, "Inner", inner.0, self.qkv.1.shape().1.0)?;
        for got in [self.up.1.shape().0, self.down.0.shape().1] {
            same_size(OP, "Ffn", ffn.0, got.0)?;
        }
        if self.head_dim.0 == 0 || !inner.0.is_multiple_of(self.head_dim.0) {
            return Err(crate::Error::Heads { inner: inner.0, head_dim: self.head_dim.0 });
        }
        for norm in [&self.masks.attention_norm, &self.masks.feed_forward_norm] {
            crate::ops::masked_norm::some_unit(norm)?;
        }
        let BlockMasks { attention_norm, feed_forward_norm, qkv, feed_forward, gate: _ } = &self.masks;
        attention_norm.fits(&hidden)?;
        feed_forward_norm.fits(&hidden)?;
        qkv.iter().try_for_each(|mask| mask.fits(&inner))?;
        feed_forward.fits(&ffn)
    }

    /// The dropout of a place in this block.
    fn dropout_at(&self, place: &'static str) -> (Dropout, DropoutSite) {
        (self.dropout, DropoutSite { layer: Some(self.layer_id), place })
    }
}
