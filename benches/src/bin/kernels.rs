//! Times the operations of a training step on a device, through the public interface, one line of JSON each.
//!
//! `kernels cpu|cuda [tiny] [FILTER]`: sizes are those of GPT-2 124M at 8 x 1024 tokens, with `tiny` such that the
//! CUDA emulator gets through. A line has the operation's name, the median of its seconds, and the bytes that it
//! must read and write and the floating-point operations that it must do, whatever the implementation: the floor.
//! Attention has no line of its own: it is what a block takes more with long sequences than with short ones.

use dfdx::{
    shapes::Shape,
    tensor::{Cpu, OwnedTape, SplitTape, Synchronize, Tensor, Trace},
    tensor_ops::{Backward, SumTo},
};
use msg_benches::{draw, median, timed};
use msg_core::{
    Backend, Result,
    axis::{AttnDim, Batch, Ffn, HeadDim, Hidden, Position, Qkv, Query, Vocab},
    device::open_cuda,
    error::Context,
    growth::{Init, Masked, Ramp},
    mask::{Gate, Mask},
    ops::{
        AttentionMask, Block, BlockMasks, Compute, Dropout, Embeddings, Gelu, Ids, Labels, NormOrder,
        Precision, head::head_loss, masked_layer_norm,
    },
    optim::{AdamW, AdamWConfig, Muon, MuonConfig, StatePolicy, Update, zero_grads, zeroed_again},
    params::{Module, Param},
};
use msg_models::{
    GrowingModel, GrowthSpec, Sizes,
    gpt::{Gpt, GptConfig},
    sizes,
};
use std::{error::Error, hint::black_box, time::Duration};

const USAGE: &str = "usage: kernels cpu|cuda [tiny] [FILTER]";
const HEAD_DIM: usize = 64;
const F32: usize = size_of::<f32>();

/// Rounds of which the median counts, and how long one takes at least.
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(30);

/// Sizes of the operands.
#[derive(Clone, Copy)]
struct Size {
    batch: usize,
    length: usize,
    vocab: usize,
    model: Sizes,
}

const FULL: Size = Size {
    batch: 8,
    length: 1024,
    vocab: 50257,
    model: sizes! { layers: 12, hidden: 768, ffn: 3072, heads: 12 },
};
const TINY: Size =
    Size { batch: 2, length: 40, vocab: 97, model: sizes! { layers: 2, hidden: 128, ffn: 192, heads: 2 } };

/// What an operation cannot do without.
#[derive(Clone, Copy)]
struct Floor {
    bytes: f64,
    flops: f64,
}

fn bytes(entries: usize) -> Floor {
    Floor { bytes: (entries * F32) as f64, flops: 0.0 }
}

struct Suite<D> {
    device: D,
    filter: String,
}

impl<D: Backend + Synchronize> Suite<D> {
    /// Seconds of one run, the median over rounds in which the device is waited for at the end only.
    fn seconds(&self, run: &mut dyn FnMut() -> Result<()>) -> Result<f64> {
        let mut round = |steps: u32| {
            let (took, result) = timed(|| {
                (0..steps).try_for_each(|_| run())?;
                self.device.try_synchronize().during("bench")
            });
            result.map(|()| took)
        };
        round(1)?;
        let steps = (ROUND.as_secs_f64() / round(1)?.as_secs_f64()).clamp(1.0, 500.0) as u32;
        let rounds = (0..ROUNDS).map(|_| round(steps)).collect::<Result<Vec<_>>>()?;
        Ok(median(rounds).as_secs_f64() / f64::from(steps))
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    fn print(&self, name: &str, floor: Floor, seconds: f64) {
        let Floor { bytes, flops } = floor;
        println!(r#"{{"name": "{name}", "seconds": {seconds:e}, "bytes": {bytes:e}, "flops": {flops:e}}}"#);
    }

    fn add(&self, name: &str, floor: Floor, mut run: impl FnMut() -> Result<()>) -> Result<()> {
        if self.wants(name) {
            self.print(name, floor, self.seconds(&mut run)?);
        }
        Ok(())
    }

    /// An operation from `x` on: a line for the pass forward, and one for that back, without the sum that it begins at.
    fn both<S: Shape, Y: Shape>(
        &self,
        name: &str,
        (forward, back): (Floor, Floor),
        x: &Param<S, D>,
        run: impl Fn(Traced<S, D>) -> Result<Traced<Y, D>>,
    ) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let there = self.seconds(&mut || run(x.leaky_trace()).map(drop))?;
        let and_back = self.seconds(&mut || backward(run(x.leaky_trace())?))?;
        let output: Param<Y, D> = run(x.leaky_trace())?.split_tape().0;
        let sum = self.seconds(&mut || backward(output.leaky_trace()))?;
        self.print(&format!("{name}, forward"), forward, there);
        self.print(&format!("{name}, backward"), back, (and_back - there - sum).max(0.0));
        Ok(())
    }

    fn tensor<S: Shape>(&self, name: &str, shape: S) -> Result<Param<S, D>> {
        let values =
            (0..shape.num_elements()).map(|at| draw(name, at, 1 << 20) as f32 / (1 << 20) as f32 - 0.5);
        self.device.try_tensor_from_vec(values.collect(), shape).during("bench")
    }

    fn norm(&self, size: Size) -> Result<()> {
        let (rows, hidden) = (size.batch * size.length, Hidden(size.model.hidden));
        let x = self.tensor("x", (Query(rows), hidden))?;
        let (gain, shift) = (self.tensor("gain", (hidden,))?, self.tensor("shift", (hidden,))?);
        let mask = Mask::none();
        let entries = rows * hidden.0;
        // Forward x in, y out; back x and dy in, dx out.
        self.both("norm", (bytes(2 * entries), bytes(3 * entries)), &x, |x| {
            masked_layer_norm(x, &gain, &shift, &mask, 1e-5)
        })
    }

    fn embeddings(&self, size: Size) -> Result<()> {
        let (batch, length, hidden) = (Batch(size.batch), Query(size.length), Hidden(size.model.hidden));
        let (vocab, positions) = (Vocab(size.vocab), Position(size.length));
        let table = self.tensor("table", (vocab, hidden))?;
        let places = self.tensor("positions", (positions, hidden))?;
        let ids: Vec<u32> = (0..batch.0 * length.0).map(|at| draw("ids", at, vocab.0) as u32).collect();
        let ids = Ids::new(&self.device, "ids", &ids, (batch, length), vocab)?;
        let order: Vec<u32> = (0..length.0 as u32).collect();
        let order = Ids::new(&self.device, "positions", &order, (length,), positions)?;
        let (rows, tables) = (batch.0 * length.0 * hidden.0, (vocab.0 + length.0) * hidden.0);
        // Forward rows in and out; back rows in, added to others in the tables' new gradients.
        self.both("embeddings", (bytes(2 * rows), bytes(3 * rows + tables)), &table, |traced| {
            let (_, tape) = traced.split_tape();
            Embeddings { words: (&table, &ids), segments: None, positions: (&places, &order) }.sum(tape)
        })
    }

    fn head(&self, size: Size) -> Result<()> {
        let (rows, hidden, vocab) = (size.batch * size.length, Hidden(size.model.hidden), Vocab(size.vocab));
        let x = self.tensor("x", (Query(rows), hidden))?;
        let table = self.tensor("table", (vocab, hidden))?;
        let labels: Vec<i64> = (0..rows).map(|row| draw("labels", row, vocab.0) as i64).collect();
        let labels = Labels::new(&self.device, &labels, (Query(rows),), vocab)?;
        let flops = 3.0 * 2.0 * (rows * vocab.0 * hidden.0) as f64;
        for precision in [Precision::F32, Precision::Bf16] {
            let floor = Floor { flops, ..bytes(2 * (rows + 2 * vocab.0) * hidden.0) };
            self.add(&format!("head with its loss, both ways, {}", word(precision)), floor, || {
                let loss = head_loss(x.leaky_trace(), &table, None, &labels, rows, precision)?;
                loss.try_backward().during("bench").map(|grads| drop(black_box(grads)))
            })?;
        }
        Ok(())
    }

    fn block(&self, size: Size, order: NormOrder) -> Result<Block<D>> {
        let Sizes { hidden, ffn, heads, .. } = size.model;
        let (hidden, inner, ffn) = (Hidden(hidden), AttnDim(heads * HEAD_DIM), Ffn(ffn));
        let none = Mask::<AttnDim, f32, D>::none;
        Ok(Block {
            order,
            attention_norm: (self.tensor("gain 1", (hidden,))?, self.tensor("shift 1", (hidden,))?),
            qkv: (self.tensor("qkv", (Qkv(3), inner, hidden))?, self.tensor("qkv bias", (Qkv(3), inner))?),
            output: (self.tensor("output", (hidden, inner))?, self.tensor("output bias", (hidden,))?),
            feed_forward_norm: (self.tensor("gain 2", (hidden,))?, self.tensor("shift 2", (hidden,))?),
            up: (self.tensor("up", (ffn, hidden))?, self.tensor("up bias", (ffn,))?),
            down: (self.tensor("down", (hidden, ffn))?, self.tensor("down bias", (hidden,))?),
            masks: BlockMasks {
                attention_norm: Mask::none(),
                feed_forward_norm: Mask::none(),
                qkv: [none(), none(), none()],
                feed_forward: Mask::none(),
                gate: Gate::new(1.0),
            },
            attention_mask: match order {
                NormOrder::Pre => AttentionMask::causal(Query(size.length)),
                NormOrder::Post => AttentionMask::full(),
            },
            head_dim: HeadDim(HEAD_DIM),
            eps: 1e-5,
            gelu: Gelu::Tanh,
            dropout: Dropout::OFF,
            layer_id: 0,
            compute: Compute::default(),
        })
    }

    /// At the length of the case and at an eighth of it with as many rows.
    fn blocks(&self, size: Size) -> Result<()> {
        let Sizes { hidden, ffn, heads, .. } = size.model;
        let short = Size { batch: size.batch * 8, length: size.length / 8, ..size };
        for (name, order, seen, size) in [
            ("causal block", NormOrder::Pre, 0.5, size),
            ("causal block", NormOrder::Pre, 0.5, short),
            ("two-way block", NormOrder::Post, 1.0, short),
        ] {
            let (rows, inner) = (size.batch * size.length, heads * HEAD_DIM);
            let x = self.tensor("x", (Batch(size.batch), Query(size.length), Hidden(hidden)))?;
            let maps = 2.0 * (rows * (4 * hidden * inner + 2 * hidden * ffn)) as f64;
            let scores = seen * 2.0 * 2.0 * (rows * size.length * inner) as f64;
            // Back, each product of the maps and of attention gives two.
            let forward = Floor { flops: maps + scores, ..bytes(2 * rows * hidden) };
            let back = Floor { flops: 2.0 * (maps + scores), ..bytes(3 * rows * hidden) };
            for precision in [Precision::F32, Precision::Bf16] {
                let compute = Compute { precision, ..Compute::default() };
                let block = Block { compute, ..self.block(size, order)? };
                let name = format!("{name} at {} x {}, {}", size.batch, size.length, word(precision));
                self.both(&name, (forward, back), &x, |x| block.clone().forward(x))?;
            }
        }
        Ok(())
    }

    fn model(&self, size: Size, sizes: Sizes) -> Result<Gpt<D>> {
        let config = GptConfig {
            vocab: size.vocab,
            positions: size.length,
            head_dim: HEAD_DIM,
            sizes,
            ..GptConfig::default()
        };
        Gpt::new(&self.device, config, Init::default())
    }

    fn updates(&self, size: Size) -> Result<()> {
        if !["AdamW", "Muon", "gradients"].iter().any(|name| self.wants(name)) {
            return Ok(());
        }
        let mut model = self.model(size, size.model)?;
        let params = model.num_params();
        let mut optimizer = AdamW::new(&model, AdamWConfig::default())?;
        let mut grads = zero_grads(&model)?;
        // The norm reads the gradient; the update reads it again, and parameter and moments, and writes those.
        self.add("AdamW with clipping", bytes(8 * params), || {
            optimizer.apply(&mut model, &mut grads, None, Update { clip: Some(1.0), ..Update::at(1e-4) })
        })?;
        for (name, precision) in [("Muon, f32", Precision::F32), ("Muon, bf16", Precision::Bf16)] {
            if self.wants(name) {
                let mut optimizer =
                    Muon::new(&model, MuonConfig { precision: Some(precision), ..MuonConfig::default() })?;
                // What is told is the memory that AdamW would touch: most of the time goes into products.
                self.add(name, bytes(8 * params), || {
                    optimizer.apply(
                        &mut model,
                        &mut grads,
                        None,
                        Update { clip: Some(1.0), ..Update::at(0.02) },
                    )
                })?;
            }
        }
        let mut kept = Some(grads);
        self.add("gradients to zero", bytes(params), || {
            kept = kept.take().map(|grads| zeroed_again(&model, grads)).transpose()?;
            Ok(())
        })
    }

    fn growth(&self, size: Size) -> Result<()> {
        if !self.wants("growth") {
            return Ok(());
        }
        let to = size.model;
        let sizes =
            sizes! { layers: to.layers / 2, hidden: to.hidden * 3 / 4, ffn: to.ffn / 2, heads: to.heads / 2 };
        let small = self.model(size, sizes)?;
        let optimizer = AdamW::new(&small, AdamWConfig::default())?;
        let growth = small.growth_to(to, &GrowthSpec::default())?;
        let grow = || small.grown(&growth, &Masked::default(), Ramp { start: 0, length: 10 });
        let grown = grow()?;
        let entries = small.num_params() + grown.num_params();
        self.add("growth of the model", bytes(entries), || grow().map(drop))?;
        self.add("growth of the moments", bytes(2 * entries), || {
            optimizer.grown(&grown, &growth, StatePolicy::Age).map(drop)
        })
    }

    fn run(&self, size: Size) -> Result<()> {
        self.device.enable_cache();
        self.norm(size)?;
        self.embeddings(size)?;
        self.blocks(size)?;
        self.head(size)?;
        self.updates(size)?;
        self.growth(size)
    }
}

type Traced<S, D> = Tensor<S, f32, D, OwnedTape<f32, D>>;

fn backward<S: Shape, D: Backend>(y: Traced<S, D>) -> Result<()> {
    black_box(y.sum::<(), S::AllAxes>().try_backward().during("bench")?);
    Ok(())
}

fn word(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (device, rest) = args.split_first().ok_or(USAGE)?;
    let (size, rest) = match rest.split_first() {
        Some((word, rest)) if word == "tiny" => (TINY, rest),
        _ => (FULL, rest),
    };
    let filter = rest.first().cloned().unwrap_or_default();
    match device.as_str() {
        "cpu" => Suite { device: Cpu::default(), filter }.run(size)?,
        "cuda" => Suite { device: open_cuda(0)?, filter }.run(size)?,
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
