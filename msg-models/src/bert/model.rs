//! The whole BERT: tables, norm, blocks, both heads.

use crate::{
    bert::{
        batch::{BertBatch, Targets},
        block::Block,
        config::BertConfig,
        heads::{MlmConfig, MlmHead, Pooler},
    },
    function_preserving::architecture::{Architecture, Factors, ResidualForm},
    growing::{
        masks::{MaskPlace, MaskSite, Masks},
        model::GrowingModel,
        state::GrowthState,
    },
    layers::{context::BlockContext, embedding::Embedding, linear::Linear, norm::LayerNorm},
    sizes::GrowingAxis,
};
use dfdx::{
    shapes::HasShape,
    tensor::{NoneTape, PutTape, SplitTape, Tape, Tensor},
    tensor_ops::TryAdd,
};
use msg_core::{
    Backend,
    axis::{Batch, Class, Hidden, Labelled, Position, Query, Rows, Segment, Vocab, merge_rows, split_rows},
    error::{Context, Result},
    growth::{self, DepthMap, Init},
    ops::{self, Compute, Dropout, DropoutSite, Embeddings, Ids, NormOrder, Scores},
    params::{Module, ParamName, Visitor},
};

/// A BERT with both pre-training heads.
#[derive(Clone, Debug)]
pub struct Bert<D: Backend> {
    token_embedding: Embedding<Vocab, D>,
    positions: Embedding<Position, D>,
    segments: Embedding<Segment, D>,
    norm: LayerNorm<Hidden, D>,
    blocks: Vec<Block<D>>,
    pooler: Pooler<D>,
    mlm: MlmHead<D>,
    next_sentence: Linear<Hidden, Class, D>,
    config: BertConfig,
    growing: GrowthState,
    compute: Compute,
}

type Stream<D, T> = Tensor<(Batch, Query, Hidden), f32, D, T>;

impl<D: Backend> Bert<D> {
    /// A new model.
    ///
    /// # Errors
    /// If the configuration is not valid ([`BertConfig::check`]).
    pub fn new(device: &D, config: BertConfig, init: Init) -> Result<Self> {
        config.check()?;
        let (sizes, head_dim) = (config.sizes, config.head_dim());
        let blocks = (0..sizes.layers).map(|_| Block::new(device, sizes, head_dim));
        let mut model = Bert {
            token_embedding: Embedding::new(device, config.vocab(), sizes.hidden())?,
            positions: Embedding::new(device, config.positions(), sizes.hidden())?,
            segments: Embedding::new(device, config.segments(), sizes.hidden())?,
            norm: LayerNorm::new(device, sizes.hidden())?,
            blocks: blocks.collect::<Result<_>>()?,
            pooler: Pooler::new(device, sizes.hidden())?,
            mlm: MlmHead::new(device, sizes.hidden(), config.vocab())?,
            next_sentence: Linear::new(device, sizes.hidden(), Class(2))?,
            config,
            growing: GrowthState::new(sizes, config.head_dim)?,
            compute: Compute::default(),
        };
        growth::init(&mut model, init)?;
        Ok(model)
    }

    /// The configuration that the model was made from; present sizes are in [`GrowingModel::growing`].
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Sets precision and recomputation of later passes.
    pub fn set_compute(&mut self, compute: Compute) {
        self.compute = compute;
    }

    /// The configuration, to be changed together with the tensors.
    pub(super) fn config_mut(&mut self) -> &mut BertConfig {
        &mut self.config
    }

    /// Sets the dropout rate of later passes.
    ///
    /// # Errors
    /// [`msg_core::Error::Value`] for a rate out of range.
    pub fn set_dropout(&mut self, dropout: f32) -> Result<()> {
        let config = BertConfig { dropout, ..self.config };
        config.check()?;
        self.config = config;
        Ok(())
    }

    /// The encoder's output.
    ///
    /// # Errors
    /// Where the batch was made for another configuration.
    pub fn encode<T: Tape<f32, D>>(
        &self,
        batch: &BertBatch<D>,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Stream<D, T>> {
        let x = self.embed(batch, tape)?;
        let mask = masks.hidden(MaskSite::outside(MaskPlace::EmbeddingNorm));
        let x = self.norm.forward(x, &mask, self.config.eps)?;
        let x = dropout.apply(x, DropoutSite { layer: None, place: "embedding" })?;
        let context = BlockContext {
            masks,
            attention_mask: &batch.attention_mask,
            dropout: *dropout,
            head_dim: self.config.head_dim(),
            eps: self.config.eps,
            gelu: self.config.gelu,
            layer: 0,
            layer_id: 0,
            compute: self.compute,
        };
        let ids = &self.growing.layer_ids;
        context.through(&self.blocks, ids, x, |block, x, cx| block.forward(x, cx))
    }

    /// The token logits of every position, from the encoder's output.
    pub fn token_logits<T: Tape<f32, D>>(
        &self,
        encoded: Stream<D, T>,
        masks: &Masks<D>,
    ) -> Result<Tensor<(Batch, Query, Vocab), f32, D, T>> {
        let (batch, query, _) = *encoded.shape();
        let logits =
            self.mlm.forward(merge_rows(encoded)?, &self.token_embedding.weight, masks, self.mlm_config())?;
        split_rows(logits, batch, query)
    }

    /// The next-sentence logits, from the encoder's output.
    pub fn next_sentence_logits<T: Tape<f32, D>>(
        &self,
        encoded: Stream<D, T>,
        masks: &Masks<D>,
    ) -> Result<Tensor<(Batch, Class), f32, D, T>> {
        let batch = encoded.shape().0;
        self.next_sentence.forward(self.pooler.forward(encoded, batch, masks)?)
    }

    /// Masked-token loss divided by `labelled`, plus next-sentence loss divided by `pairs` (the counts
    /// of the whole step). Token logits are computed at labelled positions only; without any, the
    /// masked-token loss is 0.
    ///
    /// # Errors
    /// As [`Bert::encode`].
    pub fn loss<T: Tape<f32, D>>(
        &self,
        batch: &BertBatch<D>,
        (labelled, pairs): (usize, usize),
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>> {
        let encoded = self.encode(batch, masks, dropout, tape)?;
        let next = self.next_sentence_logits(encoded.retaped::<T>(), masks)?;
        let next = ops::cross_entropy(next, &batch.next_sentence, pairs)?;
        let (encoded, tape) = encoded.split_tape();
        let Some(Targets { rows, labels }) = &batch.targets else {
            let (next, own) = next.split_tape();
            return Ok(next.put_tape(dfdx::tensor::Merge::merge(tape, own)));
        };
        let chosen = chosen(encoded.put_tape(tape), rows)?;
        let mlm = self.mlm.loss(
            chosen,
            &self.token_embedding.weight,
            (labels, labelled),
            masks,
            self.mlm_config(),
        )?;
        mlm.try_add(next).during("loss")
    }

    /// Loss and right answers of every labelled position, and of every sentence pair, in one pass without
    /// dropout.
    ///
    /// # Errors
    /// As [`Bert::encode`].
    pub fn scores(&self, batch: &BertBatch<D>, masks: &Masks<D>) -> Result<(Scores, Scores)> {
        let encoded = self.encode(batch, masks, &Dropout::OFF, NoneTape)?;
        let pairs = ops::scores(self.next_sentence_logits(encoded.clone(), masks)?, &batch.next_sentence)?;
        let Some(Targets { rows, labels }) = &batch.targets else { return Ok((Scores::default(), pairs)) };
        Ok((ops::scores(self.logits_at(encoded, rows, masks)?, labels)?, pairs))
    }

    /// The token logits of the labelled positions, in the batch's order, without dropout; none where no
    /// position is labelled.
    ///
    /// # Errors
    /// As [`Bert::encode`].
    pub fn labelled_logits(
        &self,
        batch: &BertBatch<D>,
        masks: &Masks<D>,
    ) -> Result<Option<Tensor<(Labelled, Vocab), f32, D>>> {
        let Some(Targets { rows, .. }) = &batch.targets else { return Ok(None) };
        let encoded = self.encode(batch, masks, &Dropout::OFF, NoneTape)?;
        self.logits_at(encoded, rows, masks).map(Some)
    }

    /// The token logits of some rows of the encoder's output.
    fn logits_at<T: Tape<f32, D>>(
        &self,
        encoded: Stream<D, T>,
        rows: &Ids<Rows, (Labelled,), D>,
        masks: &Masks<D>,
    ) -> Result<Tensor<(Labelled, Vocab), f32, D, T>> {
        self.mlm.forward(chosen(encoded, rows)?, &self.token_embedding.weight, masks, self.mlm_config())
    }

    fn mlm_config(&self) -> MlmConfig {
        let BertConfig { gelu, eps, .. } = self.config;
        MlmConfig { gelu, eps, precision: self.compute.precision }
    }

    fn embed<T: Tape<f32, D>>(&self, batch: &BertBatch<D>, tape: T) -> Result<Stream<D, T>> {
        let words = (&self.token_embedding.weight, &batch.ids);
        let segments = Some((&self.segments.weight, &batch.segments));
        Embeddings { words, segments, positions: (&self.positions.weight, &batch.positions) }.sum(tape)
    }
}

/// Some rows of the encoder's output.
fn chosen<D: Backend, T: Tape<f32, D>>(
    encoded: Stream<D, T>,
    rows: &Ids<Rows, (Labelled,), D>,
) -> Result<Tensor<(Labelled, Hidden), f32, D, T>> {
    ops::embed(merge_rows(encoded)?, rows)
}

impl<D: Backend> Module<D> for Bert<D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let Bert {
            token_embedding,
            positions,
            segments,
            norm,
            blocks,
            pooler,
            mlm,
            next_sentence,
            config: _,
            growing: _,
            compute: _,
        } = self;
        let embeddings = at.join("bert.embeddings");
        token_embedding.walk(&embeddings.join("word_embeddings"), visitor)?;
        positions.walk(&embeddings.join("position_embeddings"), visitor)?;
        segments.walk(&embeddings.join("token_type_embeddings"), visitor)?;
        norm.walk(&embeddings.join("LayerNorm"), visitor)?;
        for (layer, block) in blocks.iter_mut().enumerate() {
            block.walk(&at.join("bert.encoder").layer_of("layer", layer), visitor)?;
        }
        pooler.walk(&at.join("bert.pooler"), visitor)?;
        mlm.walk(&at.join("cls.predictions"), visitor)?;
        next_sentence.walk(&at.join("cls.seq_relationship"), visitor)
    }

    fn arrange_layers(&mut self, depth: &DepthMap) -> Result<()> {
        self.blocks = depth.arrange(&self.blocks)?;
        Ok(())
    }
}

impl<D: Backend> GrowingModel<D> for Bert<D> {
    const AXES: &[GrowingAxis] = BertConfig::AXES;

    fn growing(&self) -> &GrowthState {
        &self.growing
    }

    fn growing_mut(&mut self) -> &mut GrowthState {
        &mut self.growing
    }

    fn device(&self) -> &D {
        self.token_embedding.weight.device()
    }
}

impl<D: Backend> Architecture<D> for Bert<D> {
    const FORM: ResidualForm = ResidualForm {
        order: NormOrder::Post,
        closing_norm: |name| {
            let name = name.to_string();
            name.contains(".output.LayerNorm.") && !name.contains(".attention.output.")
        },
        tied_norm: |name| name.to_string().contains("predictions.transform.LayerNorm."),
    };

    fn eps(&self) -> f64 {
        self.config().eps
    }

    fn factors(&mut self) -> Factors<'_> {
        let config = self.config_mut();
        Factors { eps: &mut config.eps, head_dim: &mut config.head_dim }
    }
}
