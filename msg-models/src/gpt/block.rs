//! One pre-norm block, with the gate that raises it from 0 to 1 while it is new.

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
    ln_1: LayerNorm<Hidden, D>,
    attn: Attention<D>,
    ln_2: LayerNorm<Hidden, D>,
    c_fc: Linear<Hidden, Ffn, D>,
    c_proj: Linear<Ffn, Hidden, D>,
}

impl<D: Backend> Block<D> {
    pub(crate) fn new(device: &D, sizes: Sizes, head_dim: HeadDim) -> Result<Self> {
        Ok(Block {
            ln_1: LayerNorm::new(device, sizes.hidden())?,
            attn: Attention::new(device, sizes.hidden(), sizes.inner(head_dim))?,
            ln_2: LayerNorm::new(device, sizes.hidden())?,
            c_fc: Linear::new(device, sizes.hidden(), sizes.ffn())?,
            c_proj: Linear::new(device, sizes.ffn(), sizes.hidden())?,
        })
    }

    /// `x + m attn(ln_1(x))`, then `x + m mlp(ln_2(x))`, with m the block's gate.
    ///
    /// # Errors
    /// Where the sizes differ.
    pub fn forward<T: Tape<f32, D>>(
        &self,
        x: Stream<D, T>,
        cx: &BlockContext<'_, D>,
    ) -> Result<Stream<D, T>> {
        let layers = BlockLayers {
            attention_norm: &self.ln_1,
            attention: &self.attn,
            feed_forward_norm: &self.ln_2,
            up: &self.c_fc,
            down: &self.c_proj,
        };
        cx.block(NormOrder::Pre, layers).forward(x)
    }

    /// Lists the block's tensors; `scale` is for the weights that write into the residual stream.
    pub(crate) fn walk<V: Visitor<D>>(&mut self, at: &ParamName, scale: f32, visitor: &mut V) -> Result<()> {
        let Block { ln_1, attn, ln_2, c_fc, c_proj } = self;
        let Attention { qkv_weight, qkv_bias, output } = attn;
        ln_1.walk(&at.join("ln_1"), visitor)?;
        visitor.visit(&at.join("attn.c_attn.weight"), Role::weights(), qkv_weight)?;
        visitor.visit(&at.join("attn.c_attn.bias"), Role::biases(), qkv_bias)?;
        output.walk_scaled(&at.join("attn.c_proj"), scale, visitor)?;
        ln_2.walk(&at.join("ln_2"), visitor)?;
        c_fc.walk(&at.join("mlp.c_fc"), visitor)?;
        c_proj.walk_scaled(&at.join("mlp.c_proj"), scale, visitor)
    }
}
