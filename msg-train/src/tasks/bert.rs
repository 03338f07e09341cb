//! BERT: fill in masked tokens and tell whether the second sentence follows the first.

use crate::{
    config::Family,
    data::MlmBatch,
    error::Result,
    task::{Counts, Setup, Task},
};
use dfdx::tensor::{NoneTape, Tape, Tensor};
use msg_core::{device::Backend, ops::Dropout, params::Init};
use msg_models::{
    Masks,
    bert::{Bert, BertBatch, BertConfig, BertInput, names},
    hf::Naming,
};

impl<D: Backend> Task<D> for Bert<D> {
    type Host = MlmBatch;
    type Batch = BertBatch<D>;
    const FAMILY: Family = Family::Bert;
    const NAMING: Naming = names::NAMING;

    fn upload(&self, host: &MlmBatch) -> Result<BertBatch<D>> {
        let input = BertInput {
            ids: &host.ids,
            segments: &host.segments,
            seen: &host.seen,
            labels: &host.labels,
            next: &host.next,
            shape: host.shape,
        };
        Ok(BertBatch::new(msg_models::Growable::device(self), &input, self.config())?)
    }

    fn counts(host: &MlmBatch) -> Counts {
        let counted = |labels: &[i64]| labels.iter().filter(|label| **label >= 0).count();
        Counts { labels: counted(&host.labels), pairs: counted(&host.next) }
    }

    fn loss<T: Tape<f32, D>>(
        &self,
        batch: &BertBatch<D>,
        step: Counts,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>> {
        Ok(Bert::loss(self, batch, (step.labels, step.pairs), masks, dropout, tape)?)
    }

    fn outputs(&self, batch: &BertBatch<D>, masks: &Masks<D>) -> Result<Vec<f32>> {
        let encoded = self.encode(batch, masks, &Dropout::OFF, NoneTape)?;
        let mut outputs = self.token_logits(encoded.clone(), masks)?.as_vec();
        outputs.extend(self.next_logits(encoded, masks)?.as_vec());
        Ok(outputs)
    }

    fn dropout(&self) -> f32 {
        self.config().dropout
    }
    fn build(device: &D, setup: &Setup, init: Init) -> Result<Self> {
        let Setup { vocab, positions, head_dim, sizes, eps, gelu, dropout } = *setup;
        let published = BertConfig::default();
        let config = BertConfig {
            vocab,
            positions,
            head_dim,
            sizes,
            eps: eps.unwrap_or(published.eps),
            gelu: gelu.unwrap_or(published.gelu),
            dropout: dropout.unwrap_or(published.dropout),
            ..published
        };
        Ok(Bert::new(device, config, init)?)
    }
}
