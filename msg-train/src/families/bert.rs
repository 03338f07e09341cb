//! BERT: fill in masked tokens and tell whether the second sentence follows the first.

use crate::{
    config::{Family, Resolved},
    data::{Mlm, MlmBatch, Prepared, Specials},
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
    ops::{Compute, Dropout, cross_entropy::IGNORED},
};
use msg_models::{
    GrowingModel, Masks,
    bert::{Bert, BertBatch, BertConfig, BertHfConfig, BertInput, hf::names},
    hf::{Naming, Unrepresentable},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

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
            next_sentence: &host.next,
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
        outputs.extend(self.next_sentence_logits(encoded, masks)?.as_vec());
        Ok(outputs)
    }

    fn positions(&self) -> usize {
        self.config().positions
    }

    fn dropout(&self) -> f32 {
        self.config().dropout
    }

    fn set_compute(&mut self, compute: Compute) {
        Bert::set_compute(self, compute);
    }

    fn set_dropout(&mut self, rate: f32) -> Result<()> {
        Ok(Bert::set_dropout(self, rate)?)
    }

    /// Two segments of equal length; every third position has its own id as label.
    fn of_ids(&self, ids: Vec<u32>, shape: (usize, usize)) -> MlmBatch {
        let (sequences, length) = shape;
        let label = |(at, &id): (usize, &u32)| if at % LABELLED == 0 { i64::from(id) } else { IGNORED };
        let segment = |at| u32::from(at % length >= length / 2 && self.config().segments > 1);
        MlmBatch {
            segments: (0..ids.len()).map(segment).collect(),
            seen: vec![true; ids.len()],
            labels: ids.iter().enumerate().map(label).collect(),
            next: (0..sequences).map(|at| (at % 2) as i64).collect(),
            ids,
            shape,
        }
    }

    /// As [`Task::of_ids`], the labels drawn as well; the last position of every second sequence is padding.
    fn drawn(&self, shape: (usize, usize), seed: u64) -> MlmBatch {
        let (sequences, length) = shape;
        let (count, vocab) = (sequences * length, self.config().vocab);
        let mut batch = self.of_ids(draw(seed, "ids", count, vocab), shape);
        let drawn = draw(seed, "labels", count, vocab);
        let labelled = batch.labels.iter_mut().zip(drawn).filter(|(label, _)| **label != IGNORED);
        labelled.for_each(|(label, drawn)| *label = i64::from(drawn));
        batch.seen = (0..count).map(|at| length == 1 || at % (2 * length) != 2 * length - 1).collect();
        batch
    }

    fn receipt_host(data: Arc<Prepared>, config: &Resolved, length: usize) -> Result<MlmBatch> {
        receipt_batch(&Mlm::new(data, config.run().seed, config.data().mlm)?, length)
    }

    fn hugging_face(&self, specials: Option<Specials>) -> Result<HfConfig, Unrepresentable> {
        let pad = match specials {
            Some(Specials::Bert(specials)) => Some(specials.pad),
            _ => None,
        };
        let config = object(json!(BertHfConfig::new(self.config(), self.growing(), pad)?));
        Ok(HfConfig { config, generation: None })
    }

    fn published(config: &Map<String, Value>) -> Result<(BertConfig, Vec<String>), NoModel> {
        Ok(BertHfConfig::deserialize(config)?.model()?)
    }

    fn outline(config: &BertConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
        names::outline(config)
    }

    fn config_of(run: &Resolved, vocab: usize) -> BertConfig {
        run.bert(vocab)
    }

    fn config_now(&self) -> BertConfig {
        BertConfig { sizes: self.growing().sizes, ..*self.config() }
    }

    fn build(device: &D, config: BertConfig, init: Init) -> Result<Self> {
        Ok(Bert::new(device, config, init)?)
    }
}
