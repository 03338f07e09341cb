//! The GPT family.

use super::{
    family::{CardWords, Family, HfConfig, NoModel, Trainable},
    object,
    objective::{
        NextToken,
        causal::{CausalLm, CausalModel},
    },
};
use crate::{
    config::{FamilyRules, Resolved, ResolvedModel, SpecialTokens},
    data::{CausalBatch, Specials},
    error::Result,
};
use dfdx::tensor::{NoneTape, Tape, Tensor};
use msg_core::{
    Backend,
    growth::Init,
    ops::{Compute, Dropout, Scores, cross_entropy::IGNORED},
};
use msg_models::{
    Cost, GrowingModel, Masks,
    gpt::{Gpt, GptBatch, GptConfig, GptHfConfig, hf::names},
    hf::{Naming, Unrepresentable},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

impl<D: Backend> Trainable<D> for Gpt<D> {
    type Objective = CausalLm;

    fn positions(&self) -> usize {
        self.config().positions
    }

    fn dropout(&self) -> f32 {
        self.config().dropout
    }

    fn set_dropout(&mut self, rate: f32) -> Result<()> {
        Ok(Gpt::set_dropout(self, rate)?)
    }

    fn set_compute(&mut self, compute: Compute) {
        Gpt::set_compute(self, compute);
    }
}

impl<D: Backend> CausalModel<D> for Gpt<D> {
    type Batch = GptBatch<D>;

    fn vocab(&self) -> usize {
        self.config().vocab
    }

    fn batch(&self, host: &CausalBatch) -> Result<GptBatch<D>> {
        Ok(GptBatch::new(self.device(), &host.ids, &host.labels, host.shape, self.config())?)
    }

    fn causal_loss<T: Tape<f32, D>>(
        &self,
        batch: &GptBatch<D>,
        labels: usize,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>> {
        Ok(self.loss(batch, labels, masks, dropout, tape)?)
    }

    fn causal_scores(&self, batch: &GptBatch<D>, masks: &Masks<D>) -> Result<Scores> {
        Ok(self.scores(batch, masks)?)
    }

    fn causal_logits(&self, batch: &GptBatch<D>, masks: &Masks<D>) -> Result<Vec<f32>> {
        Ok(self.logits(batch, masks, &Dropout::OFF, NoneTape)?.as_vec())
    }
}

impl<D: Backend> NextToken<D> for Gpt<D> {
    fn next_token_logits(&self, ids: &[u32], masks: &Masks<D>) -> Result<Vec<f32>> {
        let (labels, shape) = (vec![IGNORED; ids.len()], (1, ids.len()));
        let batch = GptBatch::new(self.device(), ids, &labels, shape, self.config())?;
        Ok(self.next_logits(&batch, masks)?.as_vec())
    }
}

impl<D: Backend> Family<D> for Gpt<D> {
    const RULES: FamilyRules = FamilyRules {
        name: "gpt",
        fill: |model| {
            let GptConfig { eps, gelu, dropout, .. } = GptConfig::default();
            model.eps.get_or_insert(eps);
            model.gelu.get_or_insert(gelu);
            model.dropout.get_or_insert(dropout);
        },
        axes: GptConfig::AXES,
        specials: SpecialTokens::EndOfText,
        whole_windows: true,
        mlm: false,
    };
    const NAMING: Naming = names::NAMING;
    const MODEL_TYPE: Option<&'static str> = Some("gpt2");
    const CARD: CardWords = CardWords { class: "GPT-2", pipeline: "text-generation", norms: "pre-norm" };
    type Config = GptConfig;

    fn config_of(run: &Resolved, vocab: usize) -> GptConfig {
        let default = GptConfig::default();
        let ResolvedModel { positions, head_dim, eps, gelu, dropout, .. } = *run.model();
        GptConfig {
            vocab,
            positions,
            head_dim,
            sizes: run.first_sizes(),
            eps: eps.unwrap_or(default.eps),
            gelu: gelu.unwrap_or(default.gelu),
            dropout,
        }
    }

    fn cost(config: &GptConfig) -> Cost {
        Cost::gpt(config)
    }

    fn config_now(&self) -> GptConfig {
        GptConfig { sizes: self.growing().sizes, ..*self.config() }
    }

    fn build(device: &D, config: GptConfig, init: Init) -> Result<Self> {
        Ok(Gpt::new(device, config, init)?)
    }

    fn outline(config: &GptConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
        names::outline(config)
    }

    fn hugging_face(&self, specials: Option<Specials>) -> Result<HfConfig, Unrepresentable> {
        let end = specials.and_then(Specials::end);
        let config = object(json!(GptHfConfig::new(self.config(), self.growing(), end)?));
        let generation = json!({"_from_model_config": true, "bos_token_id": end, "eos_token_id": end});
        Ok(HfConfig { config, generation: Some(object(generation)) })
    }

    fn published(config: &Map<String, Value>) -> Result<(GptConfig, Vec<String>), NoModel> {
        Ok(GptHfConfig::deserialize(config)?.model()?)
    }
}
