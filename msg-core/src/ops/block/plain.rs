//! The block as a chain of operations: the reference of the faster ones.

use super::{Block, BlockKernel, NormOrder, Pair};
use crate::{
    axis::{AttnDim, Batch, Hidden, Query, query_as_key},
    error::{Context, Result},
    mask::Mask,
    ops::{
        attention::attention_in, compute::rounded, gelu::masked_gelu, linear, masked_norm::plain::layer_norm,
        stream::Stream,
    },
    params::Param,
};
use dfdx::{
    tensor::{Tape, Tensor},
    tensor_ops::{SelectTo, TryAdd},
};

/// The block's output.
///
/// # Errors
/// Where the sizes differ.
pub fn block<D: BlockKernel, T: Tape<f32, D>>(x: Stream<D, T>, block: &Block<D>) -> Result<Stream<D, T>> {
    let gate = block.masks.gate;
    match block.order {
        NormOrder::Pre => {
            let x = gate.branch(x, |x| block.attend(block.attention_normed(x)?))?;
            gate.branch(x, |x| block.feed_forward(block.feed_forward_normed(x)?))
        }
        NormOrder::Post => gate.blend(x, |x| {
            let branch = block.attend(x.retaped::<T>())?;
            let x = block.attention_normed(x.try_add(branch).during("block")?)?;
            let branch = block.feed_forward(x.retaped::<T>())?;
            block.feed_forward_normed(x.try_add(branch).during("block")?)
        }),
    }
}

impl<D: BlockKernel> Block<D> {
    fn normed<T: Tape<f32, D>>(
        &self,
        x: Stream<D, T>,
        (weight, bias): &Pair<(Hidden,), (Hidden,), D>,
        mask: &Mask<Hidden, f32, D>,
    ) -> Result<Stream<D, T>> {
        layer_norm(x, weight, bias, mask, self.eps)
    }

    fn attention_normed<T: Tape<f32, D>>(&self, x: Stream<D, T>) -> Result<Stream<D, T>> {
        self.normed(x, &self.attention_norm, &self.masks.attention_norm)
    }

    fn feed_forward_normed<T: Tape<f32, D>>(&self, x: Stream<D, T>) -> Result<Stream<D, T>> {
        self.normed(x, &self.feed_forward_norm, &self.masks.feed_forward_norm)
    }

    /// One of the three projections, behind its mask.
    fn project<T: Tape<f32, D>>(
        &self,
        x: Stream<D, T>,
        which: usize,
    ) -> Result<Tensor<(Batch, Query, AttnDim), f32, D, T>> {
        const OP: &str = "attention projection";
        let precision = self.compute.precision;
        let index = || x.device().try_tensor_from_vec(vec![which], ()).during(OP);
        let weight: Tensor<(AttnDim, Hidden), f32, D, T> =
            rounded(self.qkv.0.retaped::<T>().try_select(index()?).during(OP)?, precision)?;
        let bias: Tensor<(AttnDim,), f32, D, T> =
            self.qkv.1.retaped::<T>().try_select(index()?).during(OP)?;
        self.masks.qkv[which].apply(linear(rounded(x, precision)?, weight, Some(bias))?)
    }

    fn attend<T: Tape<f32, D>>(&self, x: Stream<D, T>) -> Result<Stream<D, T>> {
        let key = self.project(x.retaped::<T>(), 1)?;
        let value = self.project(x.retaped::<T>(), 2)?;
        let query = self.project(x, 0)?;
        let (key, value) = (query_as_key(key)?, query_as_key(value)?);
        let probabilities = self.dropout_at("attention");
        let precision = self.compute.precision;
        let attn_out =
            attention_in(precision, query, key, value, self.head_dim, &self.attention_mask, probabilities)?;
        self.mapped(attn_out, &self.output, "attention output")
    }

    fn feed_forward<T: Tape<f32, D>>(&self, x: Stream<D, T>) -> Result<Stream<D, T>> {
        let (weight, bias) = &self.up;
        let precision = self.compute.precision;
        let (x, weight) = (rounded(x, precision)?, rounded(weight.retaped::<T>(), precision)?);
        let units = linear(x, weight, Some(bias.retaped()))?;
        let units = masked_gelu(units, self.gelu, &self.masks.feed_forward)?;
        self.mapped(units, &self.down, "feed-forward output")
    }

    /// Back to the residual stream, with dropout.
    fn mapped<I: crate::axis::Axis, T: Tape<f32, D>>(
        &self,
        x: Tensor<(Batch, Query, I), f32, D, T>,
        (weight, bias): &(Param<(Hidden, I), D>, Param<(Hidden,), D>),
        place: &'static str,
    ) -> Result<Stream<D, T>> {
        let (dropout, site) = self.dropout_at(place);
        let precision = self.compute.precision;
        let (x, weight) = (rounded(x, precision)?, rounded(weight.retaped::<T>(), precision)?);
        dropout.apply(linear(x, weight, Some(bias.retaped()))?, site)
    }
}
