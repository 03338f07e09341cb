//! The settings and masks of a block's pass, the same for every family.

use crate::{
    growing::masks::{MaskPlace, MaskSite, Masks},
    layers::{attention::Attention, linear::Linear, norm::LayerNorm},
};
use msg_core::{
    Backend,
    axis::{Ffn, HeadDim, Hidden},
    error::Result,
    ops::{self, AttentionMask, BlockMasks, Compute, Dropout, Gelu, NormOrder},
};

/// A block's layers, by what they are for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockLayers<'a, D: Backend> {
    pub(crate) attention_norm: &'a LayerNorm<Hidden, D>,
    pub(crate) attention: &'a Attention<D>,
    pub(crate) feed_forward_norm: &'a LayerNorm<Hidden, D>,
    pub(crate) up: &'a Linear<Hidden, Ffn, D>,
    pub(crate) down: &'a Linear<Ffn, Hidden, D>,
}

/// What a block needs besides its input and its tensors.
#[derive(Clone, Copy, Debug)]
pub struct BlockContext<'a, D: Backend> {
    /// The growth masks of this pass.
    pub masks: &'a Masks<D>,
    /// Which keys each query sees.
    pub attention_mask: &'a AttentionMask<f32, D>,
    /// The dropout of this micro-batch.
    pub dropout: Dropout,
    /// Size of one head.
    pub head_dim: HeadDim,
    /// Added to the variance in every norm.
    pub eps: f64,
    /// Form of the activation.
    pub gelu: Gelu,
    /// The block's place in the stack.
    pub layer: usize,
    /// The block's identity.
    pub layer_id: u64,
    /// Precision, and what is kept for the backward pass.
    pub compute: Compute,
}

impl<D: Backend> BlockContext<'_, D> {
    /// Sends `x` through a stack of blocks, bottom first, each with its own place and identity.
    pub(crate) fn through<B, X>(
        &self,
        blocks: &[B],
        ids: &[u64],
        x: X,
        forward: impl Fn(&B, X, &Self) -> Result<X>,
    ) -> Result<X> {
        let mut stack = blocks.iter().zip(ids).enumerate();
        stack.try_fold(x, |x, (layer, (block, &layer_id))| {
            forward(block, x, &BlockContext { layer, layer_id, ..*self })
        })
    }

    /// The operation of this block's layers in this pass.
    pub(crate) fn block(&self, order: NormOrder, layers: BlockLayers<'_, D>) -> ops::Block<D> {
        let Attention { qkv_weight, qkv_bias, output } = layers.attention;
        ops::Block {
            order,
            attention_norm: layers.attention_norm.tensors(),
            qkv: (qkv_weight.clone(), qkv_bias.clone()),
            output: output.tensors(),
            feed_forward_norm: layers.feed_forward_norm.tensors(),
            up: layers.up.tensors(),
            down: layers.down.tensors(),
            masks: self.block_masks(),
            attention_mask: self.attention_mask.clone(),
            head_dim: self.head_dim,
            eps: self.eps,
            gelu: self.gelu,
            dropout: self.dropout,
            layer_id: self.layer_id,
            compute: self.compute,
        }
    }

    /// The growth masks of this block.
    fn block_masks(&self) -> BlockMasks<D> {
        let site = |place| MaskSite::in_layer(self.layer, place);
        BlockMasks {
            attention_norm: self.masks.hidden(site(MaskPlace::AttentionNorm)),
            feed_forward_norm: self.masks.hidden(site(MaskPlace::FeedForwardNorm)),
            qkv: [MaskPlace::Query, MaskPlace::Key, MaskPlace::Value]
                .map(|place| self.masks.inner(site(place))),
            feed_forward: self.masks.ffn(site(MaskPlace::FeedForward)),
            gate: self.masks.gate(self.layer),
        }
    }
}
