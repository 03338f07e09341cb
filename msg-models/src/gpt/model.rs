//! The whole GPT: tables, blocks, final norm, tied head.

use crate::{
    function_preserving::architecture::{Architecture, Factors, ResidualForm},
    gpt::{block::Block, config::GptConfig},
    growing::{
        masks::{MaskPlace, MaskSite, Masks},
        model::GrowingModel,
        state::GrowthState,
    },
    layers::{context::BlockContext, embedding::Embedding, norm::LayerNorm},
    sizes::GrowingAxis,
};
use dfdx::{
    shapes::HasShape,
    tensor::{NoneTape, Tape, Tensor},
    tensor_ops::SelectTo,
};
use msg_core::{
    Backend,
    axis::{Batch, EndsWith, Hidden, Position, Query, Vocab},
    error::{Context, Result},
    growth::{self, DepthMap, Init},
    ops::{
        self, AttentionMask, Compute, Dropout, DropoutSite, Embeddings, Ids, Labels, NormOrder, Scores,
        Stream,
    },
    params::{Module, ParamName, Visitor},
};

/// A GPT.
#[derive(Clone, Debug)]
pub struct Gpt<D: Backend> {
    wte: Embedding<Vocab, D>,
    wpe: Embedding<Position, D>,
    blocks: Vec<Block<D>>,
    ln_f: LayerNorm<Hidden, D>,
    config: GptConfig,
    growing: GrowthState,
    compute: Compute,
}

/// Token ids and the token that follows each.
#[derive(Clone, Debug)]
pub struct GptBatch<D: Backend> {
    ids: Ids<Vocab, (Batch, Query), D>,
    positions: Ids<Position, (Query,), D>,
    labels: Labels<Vocab, (Batch, Query), f32, D>,
    attention_mask: AttentionMask<f32, D>,
}

impl<D: Backend> GptBatch<D> {
    /// A batch of `(batch, length)` ids and labels (already shifted; -100 is ignored), row-major.
    ///
    /// # Errors
    /// Where the numbers do not fill the shape, or an id, label or position is out of range.
    pub fn new(
        device: &D,
        ids: &[u32],
        labels: &[i64],
        (batch, length): (usize, usize),
        config: &GptConfig,
    ) -> Result<Self> {
        let shape = (Batch(batch), Query(length));
        let positions: Vec<u32> = (0..length as u32).collect();
        Ok(GptBatch {
            ids: Ids::new(device, "token", ids, shape, config.vocab())?,
            positions: Ids::new(device, "position", &positions, (shape.1,), config.positions())?,
            labels: Labels::new(device, labels, shape, config.vocab())?,
            attention_mask: AttentionMask::causal(shape.1),
        })
    }

    /// How many labels count.
    pub fn counted(&self) -> usize {
        self.labels.counted()
    }
}

impl<D: Backend> Gpt<D> {
    /// A new model.
    ///
    /// # Errors
    /// If the configuration is not valid ([`GptConfig::check`]).
    pub fn new(device: &D, config: GptConfig, init: Init) -> Result<Self> {
        config.check()?;
        let (sizes, head_dim) = (config.sizes, config.head_dim());
        let blocks = (0..sizes.layers).map(|_| Block::new(device, sizes, head_dim));
        let mut model = Gpt {
            wte: Embedding::new(device, config.vocab(), sizes.hidden())?,
            wpe: Embedding::new(device, config.positions(), sizes.hidden())?,
            blocks: blocks.collect::<Result<_>>()?,
            ln_f: LayerNorm::new(device, sizes.hidden())?,
            config,
            growing: GrowthState::new(sizes, config.head_dim)?,
            compute: Compute::default(),
        };
        growth::init(&mut model, init)?;
        Ok(model)
    }

    /// The configuration that the model was made from; present sizes are in [`GrowingModel::growing`].
    pub fn config(&self) -> &GptConfig {
        &self.config
    }

    /// Sets precision and recomputation of later passes.
    pub fn set_compute(&mut self, compute: Compute) {
        self.compute = compute;
    }

    /// The configuration, to be changed together with the tensors.
    pub(super) fn config_mut(&mut self) -> &mut GptConfig {
        &mut self.config
    }

    /// Sets the dropout rate of later passes.
    ///
    /// # Errors
    /// [`msg_core::Error::Value`] for a rate out of range.
    pub fn set_dropout(&mut self, dropout: f32) -> Result<()> {
        let config = GptConfig { dropout, ..self.config };
        config.check()?;
        self.config = config;
        Ok(())
    }

    /// The logits of every position.
    ///
    /// # Errors
    /// Where the batch was made for another configuration.
    pub fn logits<T: Tape<f32, D>>(
        &self,
        batch: &GptBatch<D>,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(Batch, Query, Vocab), f32, D, T>> {
        self.head(self.stream(batch, masks, dropout, tape)?, masks)
    }

    /// The logits of the token that follows each sequence, without dropout: those of the last position alone.
    ///
    /// # Errors
    /// As [`Gpt::logits`].
    pub fn next_logits(
        &self,
        batch: &GptBatch<D>,
        masks: &Masks<D>,
    ) -> Result<Tensor<(Batch, Vocab), f32, D>> {
        const OP: &str = "last position";
        let x = self.stream(batch, masks, &Dropout::OFF, NoneTape)?;
        let (sequences, Query(length), _) = *x.shape();
        let last = vec![length.saturating_sub(1); sequences.0];
        let last = x.device().try_tensor_from_vec(last, (sequences,)).during(OP)?;
        self.head(x.try_select::<(Batch, Hidden), (Batch,)>(last).during(OP)?, masks)
    }

    /// Loss and right answers of every counted label, without dropout.
    ///
    /// # Errors
    /// As [`Gpt::logits`].
    pub fn scores(&self, batch: &GptBatch<D>, masks: &Masks<D>) -> Result<Scores> {
        ops::scores(self.logits(batch, masks, &Dropout::OFF, NoneTape)?, &batch.labels)
    }

    /// What the last block puts out.
    fn stream<T: Tape<f32, D>>(
        &self,
        batch: &GptBatch<D>,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Stream<D, T>> {
        let x = self.embed(batch, tape)?;
        let site = DropoutSite { layer: None, place: "embedding" };
        let x = dropout.apply(x, site)?;
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

    /// Final norm and token logits of any places.
    fn head<S: EndsWith<Hidden>, T: Tape<f32, D>>(
        &self,
        x: Tensor<S, f32, D, T>,
        masks: &Masks<D>,
    ) -> Result<Tensor<S::With<Vocab>, f32, D, T>> {
        let x = self.normed(x, masks)?;
        ops::head_logits(x, &self.wte.weight, None, self.compute.precision)
    }

    /// The final norm, ready for the head.
    fn normed<S: EndsWith<Hidden>, T: Tape<f32, D>>(
        &self,
        x: Tensor<S, f32, D, T>,
        masks: &Masks<D>,
    ) -> Result<Tensor<S, f32, D, T>> {
        let mask = masks.hidden(MaskSite::outside(MaskPlace::FinalNorm));
        self.ln_f.forward(x, &mask, self.config.eps)
    }

    /// The mean loss over counted labels, times their number, divided by `divisor` (the counted labels
    /// of the whole step).
    ///
    /// # Errors
    /// As [`Gpt::logits`].
    pub fn loss<T: Tape<f32, D>>(
        &self,
        batch: &GptBatch<D>,
        divisor: usize,
        masks: &Masks<D>,
        dropout: &Dropout,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>> {
        let x = self.normed(self.stream(batch, masks, dropout, tape)?, masks)?;
        ops::head_loss(x, &self.wte.weight, None, &batch.labels, divisor, self.compute.precision)
    }

    fn embed<T: Tape<f32, D>>(
        &self,
        batch: &GptBatch<D>,
        tape: T,
    ) -> Result<Tensor<(Batch, Query, Hidden), f32, D, T>> {
        let words = (&self.wte.weight, &batch.ids);
        Embeddings { words, segments: None, positions: (&self.wpe.weight, &batch.positions) }.sum(tape)
    }
}

impl<D: Backend> Module<D> for Gpt<D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let Gpt { wte, wpe, blocks, ln_f, config: _, growing: _, compute: _ } = self;
        let at = at.join("transformer");
        // GPT-2's initialisation: 2 branches a layer write into the residual stream.
        let scale = (1.0 / (2.0 * blocks.len() as f64).sqrt()) as f32;
        wte.walk(&at.join("wte"), visitor)?;
        wpe.walk(&at.join("wpe"), visitor)?;
        for (layer, block) in blocks.iter_mut().enumerate() {
            block.walk(&at.layer_of("h", layer), scale, visitor)?;
        }
        ln_f.walk(&at.join("ln_f"), visitor)
    }

    fn arrange_layers(&mut self, depth: &DepthMap) -> Result<()> {
        self.blocks = depth.arrange(&self.blocks)?;
        Ok(())
    }
}

impl<D: Backend> GrowingModel<D> for Gpt<D> {
    const AXES: &[GrowingAxis] = GptConfig::AXES;

    fn growing(&self) -> &GrowthState {
        &self.growing
    }

    fn growing_mut(&mut self) -> &mut GrowthState {
        &mut self.growing
    }

    fn device(&self) -> &D {
        self.wte.weight.device()
    }
}

impl<D: Backend> Architecture<D> for Gpt<D> {
    const FORM: ResidualForm =
        ResidualForm { order: NormOrder::Pre, closing_norm: |_| false, tied_norm: |_| false };

    fn eps(&self) -> f64 {
        self.config().eps
    }

    fn factors(&mut self) -> Factors<'_> {
        let config = self.config_mut();
        Factors { eps: &mut config.eps, head_dim: &mut config.head_dim }
    }
}
