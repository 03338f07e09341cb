//! A whole training step on random tokens, for the criterion suite and for the scripts that run a peer in turn.

use crate::draw;
use dfdx::{
    tensor::{Gradients, PutTape, SplitTape},
    tensor_ops::Backward,
};
use msg_core::{
    Backend,
    error::Context,
    growth::{Init, Masked, Ramp},
    ops::{Compute, Dropout, cross_entropy::IGNORED, head::LOGITS_ON_CPU},
    optim::{AdamW, AdamWConfig, Update, tape, zero_grads, zeroed_again},
    params::Param,
};
use msg_models::{
    Cost, GrowthSpec, OptimizerNumbers, Sizes,
    bert::{Bert, BertConfig},
    cost::Logits,
    gpt::{Gpt, GptConfig},
    sizes,
};
use msg_train::{
    data::{CausalBatch, MlmBatch},
    families::{
        family::{CountsOf, HostOf, Trainable},
        objective::Objective,
    },
};
use std::error::Error;

/// Share of labelled positions, as in BERT's training.
const LABELLED: f64 = 0.15;
/// So small that the one batch is not learnt by heart: vanishing gradients have squares below the smallest normal
/// number, with which processors are slow.
const RATE: f64 = 1e-7;
/// Size of one head.
pub const HEAD_DIM: usize = 64;

/// The model of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// GPT-2's architecture.
    Gpt,
    /// BERT's.
    Bert,
}

/// What a step is made of.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// GPT or BERT.
    pub family: Family,
    /// The model's sizes.
    pub sizes: Sizes,
    /// Its vocabulary.
    pub vocab: usize,
    /// Sequences, and tokens of each.
    pub shape: (usize, usize),
    /// Whether every axis stands in the middle of a ramp.
    pub ramp: bool,
    /// Precision and recomputation.
    pub compute: Compute,
}

/// What a step may end in.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// A model, its optimizer and a batch, ready to step.
pub trait Step {
    /// Makes one step; a GPU may not be done with it yet.
    fn run(&mut self) -> Outcome<()>;

    /// Waits for the steps made so far and gives the last one's loss.
    ///
    /// # Errors
    /// Before the first step, and where the device fails or has refused the update.
    fn loss(&mut self) -> Outcome<f32>;
}

impl Case {
    /// Tokens of one step.
    pub fn tokens(&self) -> usize {
        self.shape.0 * self.shape.1
    }

    fn gpt(&self) -> GptConfig {
        let Case { sizes, vocab, shape, .. } = *self;
        GptConfig { vocab, positions: shape.1, head_dim: HEAD_DIM, sizes, ..GptConfig::default() }
    }

    fn bert(&self) -> BertConfig {
        let Case { sizes, vocab, shape, .. } = *self;
        BertConfig { vocab, positions: shape.1, head_dim: HEAD_DIM, sizes, ..BertConfig::default() }
    }

    fn cost(&self) -> (Cost, Logits) {
        match self.family {
            Family::Gpt => (Cost::gpt(&self.gpt()), Logits::Everywhere),
            Family::Bert => (Cost::bert(&self.bert()), Logits::Labelled(LABELLED)),
        }
    }

    /// Floating-point operations of one step.
    pub fn flops(&self) -> f64 {
        let (cost, logits) = self.cost();
        cost.training_flops(self.sizes, self.shape.1, logits) * self.tokens() as f64
    }

    /// Bytes that the plan expects of a process that trains this on the Cpu.
    pub fn planned_memory(&self) -> f64 {
        let (cost, logits) = self.cost();
        let (rows, length) = self.shape;
        let state = OptimizerNumbers { matrices: 2, others: 2 };
        cost.memory(self.sizes, (length, rows), logits, self.compute, LOGITS_ON_CPU, state).total()
    }

    /// A model of this case with all that its steps need.
    ///
    /// # Errors
    /// Where the sizes cannot be, or the device fails.
    pub fn open<D: Backend>(self, device: D) -> Outcome<Box<dyn Step>> {
        device.enable_cache();
        // A model that ramps comes from one of about half the size.
        let to = self.sizes;
        let small = sizes! {
            layers: to.layers.div_ceil(2),
            hidden: to.hidden * 3 / 4,
            ffn: to.ffn / 2,
            heads: to.heads.div_ceil(2),
        };
        let sizes = if self.ramp { small } else { to };
        match self.family {
            Family::Gpt => {
                let model = Gpt::new(&device, GptConfig { sizes, ..self.gpt() }, Init::default())?;
                self.steps(model, causal(self.vocab, self.shape))
            }
            Family::Bert => {
                let model = Bert::new(&device, BertConfig { sizes, ..self.bert() }, Init::default())?;
                self.steps(model, masked(self.vocab, self.shape))
            }
        }
    }

    fn steps<D: Backend, M: Trainable<D> + 'static>(
        self,
        model: M,
        host: HostOf<D, M>,
    ) -> Outcome<Box<dyn Step>> {
        let mut model = match self.ramp {
            false => model,
            true => {
                let growth = model.growth_to(self.sizes, &GrowthSpec::default())?;
                model.grown(&growth, &Masked::default(), Ramp { start: 0, length: 1 << 20 })?
            }
        };
        model.set_compute(self.compute);
        let optimizer = AdamW::new(&model, AdamWConfig::default())?;
        let counts = <M::Objective>::counts(&host);
        Ok(Box::new(Steps { model, optimizer, host, counts, step: 1 << 19, grads: None, loss: None }))
    }
}

/// As the trainer makes a step, but that it waits for the device only when it is asked for a loss.
struct Steps<D: Backend, M: Trainable<D>> {
    model: M,
    optimizer: AdamW<D>,
    host: HostOf<D, M>,
    counts: CountsOf<D, M>,
    step: u64,
    grads: Option<Gradients<f32, D>>,
    loss: Option<Param<(), D>>,
}

impl<D: Backend, M: Trainable<D>> Step for Steps<D, M> {
    fn run(&mut self) -> Outcome<()> {
        self.step += 1;
        let model = &mut self.model;
        let masks = model.masks(self.step)?;
        let grads = match self.grads.take() {
            Some(grads) => zeroed_again(model, grads)?,
            None => zero_grads(model)?,
        };
        let batch = <M::Objective>::upload(model, &self.host)?;
        let tape = tape(&model.device().clone(), grads)?;
        let loss = <M::Objective>::loss(model, &batch, self.counts, &masks, &Dropout::OFF, tape)?;
        let (loss, tape) = loss.split_tape();
        let mut grads = loss.clone().put_tape(tape).try_backward().during("backward")?;
        let update = Update { clip: Some(1.0), ..Update::at(RATE) };
        self.optimizer.apply(model, &mut grads, Some(&loss), update)?;
        (self.grads, self.loss) = (Some(grads), Some(loss));
        Ok(())
    }

    fn loss(&mut self) -> Outcome<f32> {
        if !self.optimizer.settle()?.applied {
            return Err("the last update was not applied: loss or gradients are not finite".into());
        }
        Ok(self.loss.as_ref().ok_or("no step was made")?.as_vec()[0])
    }
}

fn causal(vocab: usize, shape: (usize, usize)) -> CausalBatch {
    let tokens: Vec<u32> = (0..=shape.0 * shape.1).map(|at| draw("tokens", at, vocab) as u32).collect();
    let labels = tokens[1..].iter().map(|&token| i64::from(token)).collect();
    CausalBatch { ids: tokens[..tokens.len() - 1].to_vec(), labels, shape }
}

fn masked(vocab: usize, shape: (usize, usize)) -> MlmBatch {
    let positions = shape.0 * shape.1;
    let every = (1.0 / LABELLED).round() as usize;
    let token = |at: usize| draw("tokens", at, vocab);
    let label = |at: usize| if at.is_multiple_of(every) { token(at) as i64 } else { IGNORED };
    MlmBatch {
        ids: (0..positions).map(|at| token(at) as u32).collect(),
        segments: (0..positions).map(|at| u32::from(at % shape.1 > shape.1 / 2)).collect(),
        seen: vec![true; positions],
        labels: (0..positions).map(label).collect(),
        next: (0..shape.0).map(|at| (at % 2) as i64).collect(),
        shape,
    }
}
