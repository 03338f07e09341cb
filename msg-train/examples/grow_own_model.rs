//! A model and an objective of one's own grow through a trainer: nothing has to be registered. The model predicts the
//! next byte from the present one by a feed-forward layer; its objective is written here, too.
//! `cargo run -p msg-train --example grow_own_model`
use dfdx::tensor::{Cpu, NoneTape, PutTape, Tape, Tensor};
use msg_core::{
    Backend,
    axis::{Batch, Ffn, Hidden, Query, Vocab},
    growth::{self, Init},
    ops::{self, Dropout, Gelu, Ids, Labels, Precision, Scores},
    optim::{AdamW, AdamWConfig},
    params::{Module, ParamName, Visitor},
};
use msg_models::{
    GrowingAxis, GrowingModel, GrowthState, MaskPlace, MaskSite, Masks, Sizes,
    layers::{Embedding, LayerNorm, Linear},
    sizes,
};
use msg_train::{
    Plan, Trainer,
    config::{AtGrowth, LrConfig, ResolvedStage},
    data::{Causal, CausalBatch, Prepared, TokenIds},
    families::{
        family::Trainable,
        objective::{BatchOptions, Objective},
    },
    metrics::Record,
};
use std::{error::Error, sync::Arc};

const EPS: f64 = 1e-5;

#[derive(Clone)]
struct NextByte<D: Backend> {
    table: Embedding<Vocab, D>,
    norm: LayerNorm<Hidden, D>,
    up: Linear<Hidden, Ffn, D>,
    down: Linear<Ffn, Hidden, D>,
    growing: GrowthState,
}

impl<D: Backend> NextByte<D> {
    fn new(device: &D, sizes: Sizes) -> msg_core::Result<Self> {
        let (hidden, ffn) = (sizes.hidden(), sizes.ffn());
        let mut model = NextByte {
            table: Embedding::new(device, Vocab(256), hidden)?,
            norm: LayerNorm::new(device, hidden)?,
            up: Linear::new(device, hidden, ffn)?,
            down: Linear::new(device, ffn, hidden)?,
            growing: GrowthState::new(sizes, 1)?,
        };
        growth::init(&mut model, Init { seed: 1, std: 0.1 })?;
        Ok(model)
    }

    /// What the head multiplies with the table; a mask stands wherever units meet.
    fn forward<T: Tape<f32, D>>(
        &self,
        batch: &Bytes<D>,
        masks: &Masks<D>,
        tape: T,
    ) -> msg_core::Result<Tensor<(Batch, Query, Hidden), f32, D, T>> {
        let site = MaskSite::outside(MaskPlace::FinalNorm);
        let x: Tensor<(Batch, Query, Hidden), f32, D, T> =
            ops::embed(self.table.weight.clone().put_tape(tape), &batch.ids)?;
        let x = self.norm.forward(x, &masks.hidden(site), EPS)?;
        let x = ops::masked_gelu(self.up.forward(x)?, Gelu::Tanh, &masks.ffn(site))?;
        // The head reads all units: new ones must be hidden from it, too.
        masks.hidden(site).apply(self.down.forward(x)?)
    }
}

/// The list of parameters: all that growth, the optimizer and files need to know.
impl<D: Backend> Module<D> for NextByte<D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> msg_core::Result<()> {
        let NextByte { table, norm, up, down, growing: _ } = self;
        table.walk(&at.join("table"), visitor)?;
        norm.walk(&at.join("norm"), visitor)?;
        up.walk(&at.join("up"), visitor)?;
        down.walk(&at.join("down"), visitor)
    }
}

impl<D: Backend> GrowingModel<D> for NextByte<D> {
    const AXES: &[GrowingAxis] = &[GrowingAxis::Hidden, GrowingAxis::Ffn];

    fn growing(&self) -> &GrowthState {
        &self.growing
    }

    fn growing_mut(&mut self) -> &mut GrowthState {
        &mut self.growing
    }

    fn device(&self) -> &D {
        self.table.weight.device()
    }
}

impl<D: Backend> Trainable<D> for NextByte<D> {
    type Objective = PredictBytes;

    fn positions(&self) -> usize {
        usize::MAX
    }
}

/// The mean loss of the next byte.
struct PredictBytes;

/// A batch on the device.
struct Bytes<D: Backend> {
    ids: Ids<Vocab, (Batch, Query), D>,
    labels: Labels<Vocab, (Batch, Query), f32, D>,
}

impl<D: Backend> Objective<D, NextByte<D>> for PredictBytes {
    type Host = CausalBatch;
    type Batch = Bytes<D>;
    type Counts = usize;
    type Source = Causal;
    const TERMS: &'static [&'static str] = &["next bytes"];

    fn upload(model: &NextByte<D>, host: &CausalBatch) -> msg_train::Result<Bytes<D>> {
        let (device, shape) = (model.device(), (Batch(host.shape.0), Query(host.shape.1)));
        Ok(Bytes {
            ids: Ids::new(device, "byte", &host.ids, shape, Vocab(256))?,
            labels: Labels::new(device, &host.labels, shape, Vocab(256))?,
        })
    }

    fn counts(host: &CausalBatch) -> usize {
        host.labels.len()
    }

    fn loss<T: Tape<f32, D>>(
        model: &NextByte<D>,
        batch: &Bytes<D>,
        labels: usize,
        masks: &Masks<D>,
        _: &Dropout,
        tape: T,
    ) -> msg_train::Result<Tensor<(), f32, D, T>> {
        let x = model.forward(batch, masks, tape)?;
        Ok(ops::head_loss(x, &model.table.weight, None, &batch.labels, labels, Precision::F32)?)
    }

    fn scores(model: &NextByte<D>, batch: &Bytes<D>, masks: &Masks<D>) -> msg_train::Result<Vec<Scores>> {
        let x = model.forward(batch, masks, NoneTape)?;
        let logits = ops::head_logits(x, &model.table.weight, None, Precision::F32)?;
        Ok(vec![ops::scores(logits, &batch.labels)?])
    }

    fn outputs(model: &NextByte<D>, batch: &Bytes<D>, masks: &Masks<D>) -> msg_train::Result<Vec<f32>> {
        let x = model.forward(batch, masks, NoneTape)?;
        Ok(ops::head_logits(x, &model.table.weight, None, Precision::F32)?.as_vec())
    }

    fn of_ids(_: &NextByte<D>, ids: Vec<u32>, shape: (usize, usize)) -> CausalBatch {
        let labels = ids.iter().map(|id| i64::from(*id)).collect();
        CausalBatch { ids, labels, shape }
    }

    fn drawn(model: &NextByte<D>, shape: (usize, usize), seed: u64) -> CausalBatch {
        let ids = (0..shape.0 * shape.1).map(|at| ((at as u64 * 37 + seed) % 256) as u32).collect();
        Self::of_ids(model, ids, shape)
    }

    fn source(data: Arc<Prepared>, options: &BatchOptions) -> msg_train::Result<Causal> {
        Causal::new(data, options.seed, options.longest)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let text = "the quick brown fox jumps over the lazy dog; ".repeat(30);
    let data = TokenIds::new(text.bytes().map(u32::from).collect(), Vec::new())?;

    let small = sizes! { hidden: 8, ffn: 8 };
    let first =
        ResolvedStage { steps: 80, sizes: small, sequence: 16, batch: 8, growth: AtGrowth::default() };
    let growth = AtGrowth { ramp: 20, ..AtGrowth::default() };
    let second = ResolvedStage { sizes: sizes! { hidden: 16, ffn: 48 }, growth, ..first };
    let plan = Plan::of_stages(&[first, second], &LrConfig::constant(1e-2))?;

    let model = NextByte::new(&Cpu::default(), small)?;
    let optimizer = AdamW::new(&model, AdamWConfig::default())?;
    let mut trainer = Trainer::builder(plan, model, optimizer, data).build()?;
    let mut losses = Vec::new();
    while !trainer.is_done() {
        trainer.advance(&mut |event| {
            match event.record {
                Record::Step(step) => losses.push(step.loss),
                Record::Growth(growth) => {
                    println!(
                        "loss {:.3}; grown, {} outputs differ by",
                        losses[losses.len() - 1],
                        growth.receipt.max_dlogit
                    );
                    assert!(growth.receipt.function_preserving);
                }
                _ => {}
            }
            Ok(())
        })?;
    }
    println!("loss {:.3} with {} parameters", losses[159], trainer.model().num_params());
    assert!(losses[159] < losses[79] && losses[79] < losses[0], "the loss falls on");
    Ok(())
}
