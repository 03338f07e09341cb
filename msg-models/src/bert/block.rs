//! One post-norm block, with the gate that raises it from 0 to 1 while it is new.

use crate::{
    layers::{
        attention::Attention,
        context::{BlockContext, BlockLayers},
        linear::Linear,
        norm::LayerNorm,
    },
    sizes::Sizes,
};
use dfdx::tensor::Tape;
use msg_core::{
    Backend,
    axis::{Ffn, HeadDim, Hidden},
    error::Result,
    ops::{NormOrder, Stream},
    params::{Module, ParamName, Role, Visitor},
};

/// The tensors of one block.
#[derive(Clone, Debug)]
pub struct Block<D: Backend> {
    attention: Attention<D>,
    attention_norm: LayerNorm<Hidden, D>,
    intermediate: Linear<Hidden, Ffn, D>,
    output: Linear<Ffn, Hidden, D>,
    output_norm: LayerNorm<Hidden, D>,
}

impl<D: Backend> Block<D> {
    pub(crate) fn new(device: &D, sizes: Sizes, head_dim: HeadDim) -> Result<Self> {
        Ok(Block {
            attention: Attention::new(device, sizes.hidden(), sizes.inner(head_dim))?,
            attention_norm: LayerNorm::new(device, sizes.hidden())?,
            intermediate: Linear::new(device, sizes.hidden(), sizes.ffn())?,
            output: Linear::new(device, sizes.ffn(), sizes.hidden())?,
            output_norm: LayerNorm::new(device, sizes.hidden())?,
        })
    }

    /// `m Layer(x) + (1 - m) x`, with m the block's gate and
    /// `Layer(x) = norm(h + mlp(h)), h = norm(x + attention(x))`.
    ///
    /// # Errors
    /// Where the sizes differ.
    pub fn forward<T: Tape<f32, D>>(
        &self,
        x: Stream<D, T>,
        cx: &BlockContext<'_, D>,
    ) -> Result<Stream<D, T>> {
        let layers = BlockLayers {
            attention_norm: &self.attention_norm,
            attention: &self.attention,
            feed_forward_norm: &self.output_norm,
            up: &self.intermediate,
            down: &self.output,
        };
        cx.block(NormOrder::Post, layers).forward(x)
    }

    /// Lists the block's tensors. The three projections have one name each in files, in braces here.
    pub(crate) fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let Block { attention, attention_norm, intermediate, output, output_norm } = self;
        let Attention { qkv_weight, qkv_bias, output: attention_output } = attention;
        let qkv = at.join("attention.self.{query,key,value}");
        visitor.visit(&qkv.join("weight"), Role::weights(), qkv_weight)?;
        visitor.visit(&qkv.join("bias"), Role::biases(), qkv_bias)?;
        attention_output.walk(&at.join("attention.output.dense"), visitor)?;
        attention_norm.walk(&at.join("attention.output.LayerNorm"), visitor)?;
        intermediate.walk(&at.join("intermediate.dense"), visitor)?;
        output.walk(&at.join("output.dense"), visitor)?;
        output_norm.walk(&at.join("output.LayerNorm"), visitor)
    }
}
