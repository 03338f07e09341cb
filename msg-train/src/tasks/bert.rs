//! BERT: fill in masked tokens and tell whether the second sentence follows the first.

use crate::{
    config::{Family, RunConfig},
    data::MlmBatch,
    error::Result,
    task::{Counts, HeadScores, Task},
};
use dfdx::tensor::{NoneTape, Tape, Tensor};
use msg_core::{device::Backend, ops::Dropout, params::Init};
use msg_models::{
    Growable, Masks,
    bert::{Bert, BertBatch, BertConfig, BertInput, names},
    hf::Naming,
};

impl<D: Backend> Task<D> for Bert<D> {
    type Host = MlmBatch;
    type Batch = BertBatch<D>;
    type Config = BertConfig;
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
        Ok(BertBatch::new(self.device(), &input, self.config())?)
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

    fn scores(&self, batch: &BertBatch<D>, masks: &Masks<D>) -> Result<HeadScores> {
        let (tokens, pairs) = Bert::scores(self, batch, masks)?;
        Ok(HeadScores { tokens, pairs })
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
    fn config_of(run: &RunConfig, vocab: usize) -> BertConfig {
        run.bert(vocab)
    }

    fn config_now(&self) -> BertConfig {
        BertConfig { sizes: self.growing().sizes, ..*self.config() }
    }

    fn build(device: &D, config: BertConfig, init: Init) -> Result<Self> {
        Ok(Bert::new(device, config, init)?)
    }
}
