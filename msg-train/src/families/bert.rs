//! The BERT family.

use super::{
    family::{CardWords, Family, HfConfig, NoModel, Trainable},
    object,
    objective::{
        FillIn,
        masked::{MaskedCounts, MaskedLmWithPairs, MaskedPairModel},
    },
};
use crate::{
    config::{FamilyRules, Resolved, ResolvedModel, SpecialTokens},
    data::{MlmBatch, Specials},
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
    bert::{Bert, BertBatch, BertConfig, BertHfConfig, BertInput, hf::names},
    hf::{Naming, Unrepresentable},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

impl<D: Backend> Trainable<D> for Bert<D> {
    type Objective = MaskedLmWithPairs;

    fn positions(&self) -> usize {
        self.config().positions
    }

    fn dropout(&self) -> f32 {
        self.config().dropout
    }

    fn set_dropout(&mut self, rate: f32) -> Result<()> {
        Ok(Bert::set_dropout(self, rate)?)
    }

    fn set_compute(&mut self, compute: Compute) {
        Bert::set_compute(self, compute);
    }
}

impl<D: Backend> MaskedPairModel<D> for Bert<D> {
    type Batch = BertBatch<D>;

    fn vocab(&self) -> usize {
        self.config().vocab
    }

    fn segments(&self) -> usize {
        self.config().segments
    }

    fn batch(&self, host: &MlmBatch) -> Result<BertBatch<D>> {
        let input = BertInput {
            ids: &host.ids,
            segments: &host.segments,
            seen: &host.seen,
            labels: &host.labels,
            next_sentence: &host.next,
            shape: host.shape,
        };
        Ok(BertBatch::new(self.device(), &input, self.config())?)
    }

    fn masked_loss<T: Tape<f32, D>>(
        &self,
        batch: &BertBatch<D>,
        counts: MaskedCounts,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>> {
        Ok(self.loss(batch, (counts.tokens, counts.pairs), masks, dropout, tape)?)
    }

    fn masked_scores(&self, batch: &BertBatch<D>, masks: &Masks<D>) -> Result<(Scores, Scores)> {
        Ok(self.scores(batch, masks)?)
    }

    fn masked_logits(&self, batch: &BertBatch<D>, masks: &Masks<D>) -> Result<Vec<f32>> {
        let encoded = self.encode(batch, masks, &Dropout::OFF, NoneTape)?;
        let mut outputs = self.token_logits(encoded.clone(), masks)?.as_vec();
        outputs.extend(self.next_sentence_logits(encoded, masks)?.as_vec());
        Ok(outputs)
    }
}

impl<D: Backend> FillIn<D> for Bert<D> {
    fn fill_in_logits(&self, ids: &[u32], mask: u32, masks: &Masks<D>) -> Result<Vec<Vec<f32>>> {
        // Labels only say where logits are wanted; which ones they are does not matter.
        let label = |&id: &u32| if id == mask { i64::from(id) } else { IGNORED };
        let labels: Vec<i64> = ids.iter().map(label).collect();
        let input = BertInput {
            ids,
            segments: &vec![0; ids.len()],
            seen: &vec![true; ids.len()],
            labels: &labels,
            next_sentence: &[IGNORED],
            shape: (1, ids.len()),
        };
        let batch = BertBatch::new(self.device(), &input, self.config())?;
        let Some(logits) = self.labelled_logits(&batch, masks)? else { return Ok(Vec::new()) };
        Ok(logits.as_vec().chunks(self.config().vocab).map(<[f32]>::to_vec).collect())
    }
}

impl<D: Backend> Family<D> for Bert<D> {
    const RULES: FamilyRules = FamilyRules {
        name: "bert",
        fill: |model| {
            let BertConfig { eps, gelu, dropout, .. } = BertConfig::default();
            model.eps.get_or_insert(eps);
            model.gelu.get_or_insert(gelu);
            model.dropout.get_or_insert(dropout);
        },
        axes: BertConfig::AXES,
        specials: SpecialTokens::Bert,
        whole_windows: false,
        mlm: true,
    };
    const NAMING: Naming = names::NAMING;
    const MODEL_TYPE: Option<&'static str> = Some("bert");
    const CARD: CardWords = CardWords { class: "BERT", pipeline: "fill-mask", norms: "post-norm" };
    type Config = BertConfig;

    fn config_of(run: &Resolved, vocab: usize) -> BertConfig {
        let default = BertConfig::default();
        let ResolvedModel { positions, head_dim, eps, gelu, dropout, .. } = *run.model();
        BertConfig {
            vocab,
            positions,
            segments: default.segments,
            head_dim,
            sizes: run.first_sizes(),
            eps: eps.unwrap_or(default.eps),
            gelu: gelu.unwrap_or(default.gelu),
            dropout,
        }
    }

    fn cost(config: &BertConfig) -> Cost {
        Cost::bert(config)
    }

    fn config_now(&self) -> BertConfig {
        BertConfig { sizes: self.growing().sizes, ..*self.config() }
    }

    fn build(device: &D, config: BertConfig, init: Init) -> Result<Self> {
        Ok(Bert::new(device, config, init)?)
    }

    fn outline(config: &BertConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
        names::outline(config)
    }

    fn hugging_face(&self, specials: Option<Specials>) -> Result<HfConfig, Unrepresentable> {
        let pad = specials.and_then(Specials::bert).map(|specials| specials.pad);
        let config = object(json!(BertHfConfig::new(self.config(), self.growing(), pad)?));
        Ok(HfConfig { config, generation: None })
    }

    fn published(config: &Map<String, Value>) -> Result<(BertConfig, Vec<String>), NoModel> {
        Ok(BertHfConfig::deserialize(config)?.model()?)
    }
}
