//! GPT: predict the next token.

use crate::{
    config::{Family, RunConfig},
    data::{CausalBatch, Specials},
    error::Result,
    task::{Counts, HeadScores, HfConfig, Task},
    tasks::draw,
};
use dfdx::tensor::{NoneTape, Tape, Tensor};
use msg_core::{
    device::Backend,
    ops::{Dropout, Scores},
    params::Init,
};
use msg_models::{
    Growable, Masks,
    gpt::{Gpt, GptBatch, GptConfig, GptHfConfig, names},
    hf::{Naming, Unrepresentable},
};
use serde_json::json;

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

    fn dropout(&self) -> f32 {
        self.config().dropout
    }

    fn set_recompute(&mut self, recompute: bool) {
        Gpt::set_recompute(self, recompute);
    }

    fn set_dropout(&mut self, rate: f32) -> Result<()> {
        Ok(Gpt::set_dropout(self, rate)?)
    }

    fn drawn(&self, shape: (usize, usize), seed: u64) -> CausalBatch {
        let (count, vocab) = (shape.0 * shape.1, self.config().vocab);
        let ids = draw(seed, "ids", count, vocab);
        let labels = draw(seed, "labels", count, vocab).into_iter().map(i64::from).collect();
        CausalBatch { ids, labels, shape }
    }

    fn hugging_face(&self, specials: Specials) -> Result<HfConfig, Unrepresentable> {
        let end = match specials {
            Specials::Gpt { end } => Some(end),
            Specials::Bert(_) => None,
        };
        let config = json!(GptHfConfig::new(self.config(), self.growing(), end)?);
        let generation = json!({"_from_model_config": true, "bos_token_id": end, "eos_token_id": end});
        Ok(HfConfig { config, generation: Some(generation) })
    }

    fn config_of(run: &RunConfig, vocab: usize) -> GptConfig {
        run.gpt(vocab)
    }

    fn config_now(&self) -> GptConfig {
        GptConfig { sizes: self.growing().sizes, ..*self.config() }
    }

    fn build(device: &D, config: GptConfig, init: Init) -> Result<Self> {
        Ok(Gpt::new(device, config, init)?)
    }
}
