//! The tensors of self-attention: three projections in one, and one back.

use crate::layers::{linear::Linear, zeros::zeros};
use msg_core::{
    Backend,
    axis::{AttnDim, Hidden, Qkv},
    error::Result,
    params::Param,
};

/// The projections of self-attention. AttnDim is heads x head size and need not be Hidden.
#[derive(Clone, Debug)]
pub struct Attention<D: Backend> {
    /// (query/key/value, units of all heads, inputs).
    pub qkv_weight: Param<(Qkv, AttnDim, Hidden), D>,
    /// (query/key/value, units of all heads).
    pub qkv_bias: Param<(Qkv, AttnDim), D>,
    /// Back to the residual stream.
    pub output: Linear<AttnDim, Hidden, D>,
}

impl<D: Backend> Attention<D> {
    /// Projections of zeros.
    pub fn new(device: &D, hidden: Hidden, inner: AttnDim) -> Result<Self> {
        Ok(Attention {
            qkv_weight: zeros(device, (Qkv(3), inner, hidden))?,
            qkv_bias: zeros(device, (Qkv(3), inner))?,
            output: Linear::new(device, inner, hidden)?,
        })
    }
}
