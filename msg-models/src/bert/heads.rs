//! The pooler, the masked-token head (transform and tied decoder) and the next-sentence head.

use crate::{
    growing::masks::{MaskPlace, MaskSite, Masks},
    layers::{linear::Linear, norm::LayerNorm, zeros::zeros},
};
use dfdx::{
    shapes::Dim,
    tensor::{Tape, Tensor},
    tensor_ops::SelectTo,
};
use msg_core::{
    Backend,
    axis::{Batch, Hidden, HiddenOut, Labelled, Query, Vocab, hidden_in},
    error::{Context, Result},
    mask::Mask,
    ops::{self, Gelu, Labels, Precision, masked_gelu},
    params::{Module, Param, ParamName, Role, Visitor},
};

/// The sentence-level view: `c tanh(W x[0] + b)`.
#[derive(Clone, Debug)]
pub struct Pooler<D: Backend> {
    dense: Linear<Hidden, HiddenOut, D>,
}

impl<D: Backend> Pooler<D> {
    pub(super) fn new(device: &D, hidden: Hidden) -> Result<Self> {
        Ok(Pooler { dense: Linear::new(device, hidden, HiddenOut(hidden.0))? })
    }

    pub(super) fn forward<T: Tape<f32, D>>(
        &self,
        x: Tensor<(Batch, Query, Hidden), f32, D, T>,
        batch: Batch,
        masks: &Masks<D>,
    ) -> Result<Tensor<(Batch, Hidden), f32, D, T>> {
        const OP: &str = "pooler";
        let first = x.device().try_tensor_from_vec(vec![0; batch.0], (batch,)).during(OP)?;
        let first = x.try_select::<(Batch, Hidden), (Batch,)>(first).during(OP)?;
        let pooled = self.dense.forward(first)?.try_tanh().during(OP)?;
        hidden_in(masks.hidden_out(MaskSite::outside(MaskPlace::Pooler)).apply(pooled)?)
    }
}

impl<D: Backend> Module<D> for Pooler<D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let Pooler { dense } = self;
        dense.walk(&at.join("dense"), visitor)
    }
}

/// Predicts tokens: transform, norm, the token table as decoder, a bias per token.
#[derive(Clone, Debug)]
pub struct MlmHead<D: Backend> {
    dense: Linear<Hidden, HiddenOut, D>,
    norm: LayerNorm<HiddenOut, D>,
    bias: Param<(Vocab,), D>,
}

/// What the masked-token head needs of the model's configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct MlmConfig {
    pub(super) gelu: Gelu,
    pub(super) eps: f64,
    /// Of the product with the table.
    pub(super) precision: Precision,
}

impl<D: Backend> MlmHead<D> {
    pub(super) fn new(device: &D, hidden: Hidden, vocab: Vocab) -> Result<Self> {
        let out = HiddenOut(hidden.0);
        Ok(MlmHead {
            dense: Linear::new(device, hidden, out)?,
            norm: LayerNorm::new(device, out)?,
            bias: zeros(device, (vocab,))?,
        })
    }

    /// The logits of any list `L` of positions.
    pub(super) fn forward<L: Dim, T: Tape<f32, D>>(
        &self,
        x: Tensor<(L, Hidden), f32, D, T>,
        table: &Param<(Vocab, Hidden), D>,
        masks: &Masks<D>,
        config: MlmConfig,
    ) -> Result<Tensor<(L, Vocab), f32, D, T>> {
        let x = self.transformed(x, masks, config)?;
        ops::head_logits(x, table, Some(&self.bias), config.precision)
    }

    /// The loss of labelled positions, divided by `divisor`.
    pub(super) fn loss<T: Tape<f32, D>>(
        &self,
        x: Tensor<(Labelled, Hidden), f32, D, T>,
        table: &Param<(Vocab, Hidden), D>,
        (labels, divisor): (&Labels<Vocab, (Labelled,), f32, D>, usize),
        masks: &Masks<D>,
        config: MlmConfig,
    ) -> Result<Tensor<(), f32, D, T>> {
        let x = self.transformed(x, masks, config)?;
        ops::head_loss(x, table, Some(&self.bias), labels, divisor, config.precision)
    }

    fn transformed<L: Dim, T: Tape<f32, D>>(
        &self,
        x: Tensor<(L, Hidden), f32, D, T>,
        masks: &Masks<D>,
        MlmConfig { gelu, eps, precision: _ }: MlmConfig,
    ) -> Result<Tensor<(L, Hidden), f32, D, T>> {
        // The norm's mask leaves out what the new units of the activation hold.
        let x = masked_gelu(self.dense.forward(x)?, gelu, &Mask::none())?;
        let mask = masks.hidden_out(MaskSite::outside(MaskPlace::TransformNorm));
        hidden_in(self.norm.forward(x, &mask, eps)?)
    }
}

impl<D: Backend> Module<D> for MlmHead<D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let MlmHead { dense, norm, bias } = self;
        visitor.visit(&at.join("bias"), Role::bias(), bias)?;
        dense.walk(&at.join("transform.dense"), visitor)?;
        norm.walk(&at.join("transform.LayerNorm"), visitor)
    }
}
