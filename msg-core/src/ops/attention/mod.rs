//! Multi-head attention on projected queries, keys and values, with causal and padding masks.
//!
//! The growth masks of AttnDim are applied to the projections beforehand: a head whose query, key and
//! value are 0 adds an exact 0 to every output. This chain of operations is the reference of the slice kernels, which a
//! whole block uses.

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use super::{
    compute::{Precision, rounded},
    dropout::{Dropout, DropoutKernel, DropoutSite},
    matmul::Matmul,
};
use crate::{
    axis::{AttnDim, Batch, HeadDim, Heads, Key, Query, merge_heads, split_heads},
    error::{Context, Result, same_size, some_entries},
    float::Float,
};
use dfdx::{
    shapes::{Axes2, HasShape},
    tensor::{Tape, Tensor},
    tensor_ops::{BroadcastTo, Device, TryAdd, TryMul},
};

/// Added to the score of a hidden key: its probability underflows to exactly 0, and a row whose keys are all hidden
/// becomes uniform instead of NaN (its scores still get a gradient, as with every additive mask).
const UNSEEN: f64 = -1e30;

/// Which keys each query attends to.
#[derive(Clone, Debug)]
pub struct AttentionMask<E: Float, D: Device<E>> {
    /// The length of the sequences in which no query sees a later key.
    causal: Option<Query>,
    padding: Option<Tensor<(Batch, Key), E, D>>,
}

impl<E: Float, D: Device<E>> AttentionMask<E, D> {
    /// Every query sees every key.
    pub fn full() -> Self {
        AttentionMask { causal: None, padding: None }
    }

    /// Each query of sequences of this length sees itself and earlier positions.
    pub fn causal(length: Query) -> Self {
        AttentionMask { causal: Some(length), padding: None }
    }

    /// Keys whose entry of `seen` (batch x length) is false are padding and seen by no query.
    ///
    /// # Errors
    /// Where the number of entries does not fit.
    pub fn with_padding(mut self, device: &D, seen: &[bool], batch: Batch, length: Query) -> Result<Self> {
        same_size("attention mask", "Batch x Query", batch.0 * length.0, seen.len())?;
        if seen.iter().all(|seen| *seen) {
            return Ok(self);
        }
        let bias = seen.iter().map(|&seen| E::of(if seen { 0.0 } else { UNSEEN })).collect();
        let shape = (batch, Key(length.0));
        self.padding = Some(device.try_tensor_from_vec(bias, shape).during("attention mask")?);
        Ok(self)
    }
}

impl<D: Device<f32>> AttentionMask<f32, D> {
    /// Refuses a mask for sequences of another number or length.
    fn fits(&self, batch: Batch, length: Query) -> Result<()> {
        const OP: &str = "attention mask";
        if let Some(causal) = self.causal {
            same_size(OP, "Query", length.0, causal.0)?;
        }
        if let Some(padding) = &self.padding {
            same_size(OP, "Batch", batch.0, padding.shape().0.0)?;
            same_size(OP, "Key", length.0, padding.shape().1.0)?;
        }
        Ok(())
    }
}

impl AttentionMask<f32, dfdx::tensor::Cpu> {
    /// On the host: what padding adds to the score of each key, by sequence, and whether the mask is causal.
    pub(crate) fn host(&self, batch: Batch, length: Query) -> Result<(Option<Vec<f32>>, bool)> {
        self.fits(batch, length)?;
        Ok((self.padding.as_ref().map(crate::device::host::host), self.causal.is_some()))
    }
}

#[cfg(feature = "cuda")]
impl AttentionMask<f32, dfdx::tensor::Cuda> {
    /// On the device, while this lives: as on the host, null where nothing is padding.
    pub(crate) fn on_device(
        &self,
        batch: Batch,
        length: Query,
    ) -> Result<(crate::device::raw_pointer::Address, bool)> {
        self.fits(batch, length)?;
        let padding = self.padding.as_ref().map_or(Ok(0), crate::device::raw_pointer::address)?;
        Ok((padding, self.causal.is_some()))
    }
}

/// `softmax(q k^T / sqrt(head_dim) + mask) v`, heads side by side in the result.
///
/// # Errors
/// Where sizes differ or AttnDim is not a whole number of heads.
pub fn attention<E: Float, D: Matmul<E> + DropoutKernel<E>, T: Tape<E, D>>(
    query: Tensor<(Batch, Query, AttnDim), E, D, T>,
    key: Tensor<(Batch, Key, AttnDim), E, D, T>,
    value: Tensor<(Batch, Key, AttnDim), E, D, T>,
    head_dim: HeadDim,
    mask: &AttentionMask<E, D>,
    dropout: (Dropout, DropoutSite),
) -> Result<Tensor<(Batch, Query, AttnDim), E, D, T>> {
    attention_in(Precision::F32, query, key, value, head_dim, mask, dropout)
}

/// As [`attention`], with operands of the products as a precision takes them.
pub(crate) fn attention_in<E: Float, D: Matmul<E> + DropoutKernel<E>, T: Tape<E, D>>(
    precision: Precision,
    query: Tensor<(Batch, Query, AttnDim), E, D, T>,
    key: Tensor<(Batch, Key, AttnDim), E, D, T>,
    value: Tensor<(Batch, Key, AttnDim), E, D, T>,
    head_dim: HeadDim,
    mask: &AttentionMask<E, D>,
    dropout: (Dropout, DropoutSite),
) -> Result<Tensor<(Batch, Query, AttnDim), E, D, T>> {
    const OP: &str = "attention";
    for other in [key.shape(), value.shape()] {
        same_size(OP, "Batch", query.shape().0.0, other.0.0)?;
        same_size(OP, "Inner", query.shape().2.0, other.2.0)?;
    }
    same_size(OP, "Key", key.shape().1.0, value.shape().1.0)?;
    some_entries("attention: number of queries", query.shape())?;
    some_entries("attention: number of keys", key.shape())?;
    let query = split_heads(rounded(query, precision)?, head_dim)?;
    let key = split_heads(rounded(key, precision)?, head_dim)?;
    let value = split_heads(rounded(value, precision)?, head_dim)?;
    let scores = <D as Matmul<E>>::scores(query, key)?;
    let scores = scores.try_mul(E::of(1.0 / (head_dim.0 as f64).sqrt())).during(OP)?;
    let scores = hide(scores, mask)?;
    let probabilities = scores.try_softmax::<dfdx::shapes::Axis<3>>().during(OP)?;
    let probabilities = rounded(dropout.0.apply(probabilities, dropout.1)?, precision)?;
    merge_heads(<D as Matmul<E>>::weighted_values(probabilities, value)?)
}

type Scores<E, D, T> = Tensor<(Batch, Heads, Query, Key), E, D, T>;

/// Adds the masks to the scores.
fn hide<E: Float, D: Device<E>, T: Tape<E, D>>(
    mut scores: Scores<E, D, T>,
    mask: &AttentionMask<E, D>,
) -> Result<Scores<E, D, T>> {
    const OP: &str = "attention mask";
    let shape = *scores.shape();
    let (batch, _, queries, keys) = shape;
    if let Some(Query(length)) = mask.causal {
        same_size(OP, "Query", length, queries.0)?;
        same_size(OP, "Key", length, keys.0)?;
        let bias = |at: usize| E::of(if at % length > at / length { UNSEEN } else { 0.0 });
        let bias = (0..length * length).map(bias).collect();
        let bias = scores.device().try_tensor_from_vec(bias, (queries, keys)).during(OP)?;
        let bias = bias.try_broadcast_like::<_, Axes2<0, 1>>(&shape).during(OP)?;
        scores = scores.try_add(bias).during(OP)?;
    }
    if let Some(padding) = &mask.padding {
        same_size(OP, "Batch", padding.shape().0.0, batch.0)?;
        same_size(OP, "Key", padding.shape().1.0, keys.0)?;
        let bias = padding.clone().try_broadcast_like::<_, Axes2<1, 2>>(&shape).during(OP)?;
        scores = scores.try_add(bias).during(OP)?;
    }
    Ok(scores)
}
