//! Self-attention: three projections in one tensor, heads, one projection back.

use super::{BlockContext, Linear, zeros};
use crate::{Masks, Place, Site};
use dfdx::{
    tensor::{Tape, Tensor},
    tensor_ops::SelectTo,
};
use msg_core::{
    Result,
    axis::{Batch, Hidden, Inner, Qkv, Query, query_as_key},
    device::Backend,
    error::Context,
    ops,
    params::Param,
};

/// Self-attention. Each family lists its tensors under its own names.
#[derive(Clone, Debug)]
pub struct Attention<D: Backend> {
    /// The projections to query, key and value: (3, outputs, inputs), the bytes of one fused matrix.
    pub qkv_weight: Param<(Qkv, Inner, Hidden), D>,
    /// Their biases.
    pub qkv_bias: Param<(Qkv, Inner), D>,
    /// The projection back to the residual stream.
    pub output: Linear<Inner, Hidden, D>,
}

impl<D: Backend> Attention<D> {
    /// Attention of zeros.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn new(device: &D, hidden: Hidden, inner: Inner) -> Result<Self> {
        Ok(Attention {
            qkv_weight: zeros(device, (Qkv(3), inner, hidden))?,
            qkv_bias: zeros(device, (Qkv(3), inner))?,
            output: Linear::new(device, inner, hidden)?,
        })
    }

    /// One of the three projections, behind the mask of its site.
    fn project<T: Tape<f32, D>>(
        &self,
        x: Tensor<(Batch, Query, Hidden), f32, D, T>,
        which: usize,
        masks: &Masks<D>,
        site: Site,
    ) -> Result<Tensor<(Batch, Query, Inner), f32, D, T>> {
        const OP: &str = "attention projection";
        let index = || x.device().try_tensor_from_vec(vec![which], ()).during(OP);
        let weight = self.qkv_weight.retaped::<T>().try_select::<(Inner, Hidden), ()>(index()?).during(OP)?;
        let bias = self.qkv_bias.retaped::<T>().try_select::<(Inner,), ()>(index()?).during(OP)?;
        masks.inner(site).apply(ops::linear(x, weight, Some(bias))?)
    }

    /// Attention of `x` to itself, and the projection back.
    ///
    /// # Errors
    /// Where the sizes differ or the device fails.
    pub fn forward<T: Tape<f32, D>>(
        &self,
        x: Tensor<(Batch, Query, Hidden), f32, D, T>,
        cx: &BlockContext<'_, D>,
    ) -> Result<Tensor<(Batch, Query, Hidden), f32, D, T>> {
        let key = self.project(x.retaped::<T>(), 1, cx.masks, cx.site(Place::Key))?;
        let value = self.project(x.retaped::<T>(), 2, cx.masks, cx.site(Place::Value))?;
        let query = self.project(x, 0, cx.masks, cx.site(Place::Query))?;
        let (key, value) = (query_as_key(key)?, query_as_key(value)?);
        let probabilities = cx.dropout("attention");
        let x = ops::attention(query, key, value, cx.head_dim, cx.seen, probabilities)?;
        self.output.forward(x)
    }
}
