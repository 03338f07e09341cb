//! GPT: predict the next token.

use crate::{
    config::{Family, Resolved},
    data::{Causal, CausalBatch, Prepared, Specials},
    error::Result,
    families::{
        draw,
        family::{Counts, HeadScores, HfConfig, NoModel, Task},
        object,
    },
    step::stage_transition::receipt_batch,
};
use dfdx::tensor::{NoneTape, Tape, Tensor};
use msg_core::{
    device::Backend,
    growth::Init,
    ops::{Compute, Dropout, Scores, cross_entropy::IGNORED},
};
use msg_models::{
    GrowingModel, Masks,
    gpt::{Gpt, GptBatch, GptConfig, GptHfConfig, hf::names},
    hf::{Naming, Unrepresentable},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

impl<D: Backend> Task<D> for Gpt<D> {
    type Host = CausalBatch;
    type Batch = GptBatch<D>;
    type Config = GptConfig;
    const FAMILY: Family = Family::Gpt;
    const NAMING: Naming = names::NAMING;

    fn upload(&self, host: &CausalBatch) -> Result<GptBatch<D>> {
        let device = self.device();
        Ok(GptBatch::new(device, &host.ids, &host.labels, host.shape, self.config())?)
    }

    fn counts(host: &CausalBatch) -> Counts {
        Counts { labels: host.labels.iter().filter(|label| **label >= 0).count(), pairs: 0 }
    }

    fn loss<T: Tape<f32, D>>(
        &self,
        batch: &GptBatch<D>,
        step: Counts,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>> {
        Ok(Gpt::loss(self, batch, step.labels, masks, dropout, tape)?)
    }

    fn scores(&self, batch: &GptBatch<D>, masks: &Masks<D>) -> Result<HeadScores> {
        Ok(HeadScores { tokens: Gpt::scores(self, batch, masks)?, pairs: Scores::default() })
    }

    fn outputs(&self, batch: &GptBatch<D>, masks: &Masks<D>) -> Result<Vec<f32>> {
        Ok(self.logits(batch, masks, &Dropout::OFF, NoneTape)?.as_vec())
    }

    fn positions(&self) -> usize {
        self.config().positions
    }

    fn dropout(&self) -> f32 {
        self.config().dropout
    }

    fn set_compute(&mut self, compute: Compute) {
        Gpt::set_compute(self, compute);
    }

    fn set_dropout(&mut self, rate: f32) -> Result<()> {
        Ok(Gpt::set_dropout(self, rate)?)
    }

    /// The label of each position is the next id; the last one has none.
    fn of_ids(&self, ids: Vec<u32>, shape: (usize, usize)) -> CausalBatch {
        let last = |at: usize| (at + 1).is_multiple_of(shape.1);
        let label = |at: usize| if last(at) { IGNORED } else { i64::from(ids[at + 1]) };
        let labels = (0..ids.len()).map(label).collect();
        CausalBatch { ids, labels, shape }
    }

    fn drawn(&self, shape: (usize, usize), seed: u64) -> CausalBatch {
        let (count, vocab) = (shape.0 * shape.1, self.config().vocab);
        let labels = draw(seed, "labels", count, vocab).into_iter().map(i64::from).collect();
        CausalBatch { ids: draw(seed, "ids", count, vocab), labels, shape }
    }

    fn receipt_host(data: Arc<Prepared>, config: &Resolved, length: usize) -> Result<CausalBatch> {
        receipt_batch(&Causal::new(data, config.run().seed, length)?, length)
    }

    fn hugging_face(&self, specials: Option<Specials>) -> Result<HfConfig, Unrepresentable> {
        let end = match specials {
            Some(Specials::Gpt { end }) => Some(end),
            _ => None,
        };
        let config = object(json!(GptHfConfig::new(self.config(), self.growing(), end)?));
        let generation = json!({"_from_model_config": true, "bos_token_id": end, "eos_token_id": end});
        Ok(HfConfig { config, generation: Some(object(generation)) })
    }

    fn published(config: &Map<String, Value>) -> Result<(GptConfig, Vec<String>), NoModel> {
        Ok(GptHfConfig::deserialize(config)?.model()?)
    }

    fn outline(config: &GptConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
        names::outline(config)
    }

    fn config_of(run: &Resolved, vocab: usize) -> GptConfig {
        run.gpt(vocab)
    }

    fn config_now(&self) -> GptConfig {
        GptConfig { sizes: self.growing().sizes, ..*self.config() }
    }

    fn build(device: &D, config: GptConfig, init: Init) -> Result<Self> {
        Ok(Gpt::new(device, config, init)?)
    }
}
