//! BERT: fill in masked tokens and tell whether the second sentence follows the first.

use crate::{
    config::{Family, RunConfig},
    data::{MlmBatch, Specials},
    error::Result,
    task::{Counts, HeadScores, HfConfig, Task},
    tasks::draw,
};
use dfdx::tensor::{NoneTape, Tape, Tensor};
use msg_core::{
    device::Backend,
    ops::{Dropout, cross_entropy::IGNORED},
    params::Init,
};
use msg_models::{
    Growable, Masks,
    bert::{Bert, BertBatch, BertConfig, BertHfConfig, BertInput, names},
    hf::{Naming, Unrepresentable},
};
use serde_json::json;

/// One position in so many has a label in drawn batches.
const LABELLED: usize = 3;

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

    fn set_recompute(&mut self, recompute: bool) {
        Bert::set_recompute(self, recompute);
    }

    fn set_dropout(&mut self, rate: f32) -> Result<()> {
        Ok(Bert::set_dropout(self, rate)?)
    }

    /// Two segments of equal length; the last position of every second sequence is padding.
    fn drawn(&self, shape: (usize, usize), seed: u64) -> MlmBatch {
        let (sequences, length) = shape;
        let (count, vocab) = (sequences * length, self.config().vocab);
        let labels = draw(seed, "labels", count, vocab).into_iter().zip(0..);
        let label = |(id, at)| if at % LABELLED == 0 { i64::from(id) } else { IGNORED };
        let segment = |at| u32::from(at % length >= length / 2 && self.config().segments > 1);
        MlmBatch {
            ids: draw(seed, "ids", count, vocab),
            segments: (0..count).map(segment).collect(),
            seen: (0..count).map(|at| length == 1 || at % (2 * length) != 2 * length - 1).collect(),
            labels: labels.map(label).collect(),
            next: (0..sequences).map(|at| (at % 2) as i64).collect(),
            shape,
        }
    }

    fn hugging_face(&self, specials: Specials) -> Result<HfConfig, Unrepresentable> {
        let pad = match specials {
            Specials::Bert(specials) => Some(specials.pad),
            Specials::Gpt { .. } => None,
        };
        let config = json!(BertHfConfig::new(self.config(), self.growing(), pad)?);
        Ok(HfConfig { config, generation: None })
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
