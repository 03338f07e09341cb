//! What a block of either family needs besides its input and its tensors.

use crate::{Masks, Place, Site};
use msg_core::{
    Result,
    axis::HeadDim,
    device::Backend,
    ops::{AttentionMask, BlockMasks, Compute, Dropout, Gelu},
};

/// What a block needs besides its input and its tensors.
#[derive(Clone, Copy, Debug)]
pub struct BlockContext<'a, D: Backend> {
    /// The growth masks of this pass.
    pub masks: &'a Masks<D>,
    /// Which keys each query sees.
    pub seen: &'a AttentionMask<f32, D>,
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

    /// The growth masks of this block.
    pub(crate) fn block_masks(&self) -> BlockMasks<D> {
        let site = |place| Site::in_layer(self.layer, place);
        BlockMasks {
            attention_norm: self.masks.hidden(site(Place::AttentionNorm)),
            feed_forward_norm: self.masks.hidden(site(Place::FeedForwardNorm)),
            qkv: [Place::Query, Place::Key, Place::Value].map(|place| self.masks.inner(site(place))),
            feed_forward: self.masks.ffn(site(Place::FeedForward)),
            gate: self.masks.gate(self.layer),
        }
    }
}
