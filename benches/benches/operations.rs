//! Each operation of the hot path, fused and plain, with its rate and the share of what the machine can do.
//!
//! `cargo bench -p msg-benches --bench operations`. A table of medians comes first; criterion's own figures
//! follow. Sizes are those of a GPT of hidden 384 at 8 x 256 tokens.

use criterion::Criterion;
use dfdx::{
    shapes::Shape,
    tensor::{Cache, Cpu, OwnedTape, Tensor, TensorFromVec, Trace},
    tensor_ops::{Backward, SumTo},
};
use msg_benches::{median, peak, timed};
use msg_core::{
    Result,
    axis::{AttnDim, Batch, Ffn, HeadDim, Hidden, Qkv, Query, Vocab},
    error::Context,
    mask::{Gate, Mask},
    ops::{
        AttentionMask, Block, BlockMasks, Compute, Dropout, Gelu, Labels, NormOrder, Precision,
        block::plain,
        head::{self, head_loss},
        masked_layer_norm, masked_norm,
        matmul::{
            gemm::{Matrix, Mode, Size, gemm},
            gemm_rounded,
        },
    },
    optim::{AdamW, AdamWConfig, Muon, MuonConfig, Update},
    params::Param,
    random::{Key, bits_at},
};
use msg_models::{gpt::Gpt, gpt::GptConfig, sizes};
use std::hint::black_box;

const ROUNDS: usize = 5;
const SHAPE: (usize, usize) = (8, 256);
const ROWS: usize = SHAPE.0 * SHAPE.1;
const HIDDEN: usize = 384;
const FFN: usize = 4 * HIDDEN;
const HEADS: usize = 6;
const HEAD_DIM: usize = HIDDEN / HEADS;
const VOCAB: usize = 8192;

/// What limits an operation.
enum Work {
    /// Floating-point operations.
    Flops(f64),
    /// Those of products with operands rounded to bf16.
    Rounded(f64),
    /// Bytes that must be read and written.
    Bytes(f64),
}

/// One line of the table, and one function of criterion.
struct Suite {
    criterion: Criterion,
    flops: f64,
    bandwidth: f64,
}

impl Suite {
    fn add(&mut self, name: &str, work: Work, mut run: impl FnMut() -> Result<()>) -> Result<()> {
        run()?;
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            let (time, result) = timed(&mut run);
            result?;
            times.push(time);
        }
        let seconds = median(times).as_secs_f64();
        let (rate, unit, most) = match work {
            Work::Flops(flops) => (flops / seconds, "GFLOP/s", self.flops),
            Work::Rounded(flops) => (flops / seconds, "GFLOP/s", f64::INFINITY),
            Work::Bytes(bytes) => (bytes / seconds, "GB/s", self.bandwidth),
        };
        // Of rounded products no ceiling is measured.
        let share = if most.is_finite() { format!("{:4.0} %", 100.0 * rate / most) } else { String::new() };
        println!("{name:34} {:9.2} ms {:8.1} {unit:8} {share}", 1e3 * seconds, rate / 1e9);
        self.criterion.bench_function(name, |b| b.iter(|| black_box(run().is_ok())));
        Ok(())
    }
}

fn random(name: &str, count: usize) -> Vec<f32> {
    let key = Key::new(1, name, 0);
    (0..count).map(|at| bits_at(key, [0, 0, 0, at as u32]) as f32 / 2f32.powi(32) - 0.5).collect()
}

fn tensor<S: Shape>(name: &str, shape: S) -> Result<Param<S, Cpu>> {
    Cpu::default().try_tensor_from_vec(random(name, shape.num_elements()), shape).during("bench")
}

fn backward<S: Shape>(y: Tensor<S, f32, Cpu, OwnedTape<f32, Cpu>>) -> Result<()> {
    black_box(y.sum::<(), S::AllAxes>().try_backward().during("bench")?);
    Ok(())
}

fn products(suite: &mut Suite) -> Result<()> {
    let shapes = [
        ("product: x W^T", Size { m: ROWS, n: FFN, k: HIDDEN }, false, true, Mode::Overwrite),
        ("product: dy W", Size { m: ROWS, n: HIDDEN, k: FFN }, false, false, Mode::Overwrite),
        ("product: dy^T x", Size { m: FFN, n: HIDDEN, k: ROWS }, true, false, Mode::Accumulate),
        ("product: x W^T of the head", Size { m: 256, n: VOCAB, k: HIDDEN }, false, true, Mode::Overwrite),
    ];
    for (name, size, left, right, mode) in shapes {
        let Size { m, n, k } = size;
        let (a, b, mut c) = (random("a", m * k), random("b", k * n), vec![0.0; m * n]);
        let a = match left {
            true => Matrix::row_major(&a, m).transposed(),
            false => Matrix::row_major(&a, k),
        };
        let b = match right {
            true => Matrix::row_major(&b, k).transposed(),
            false => Matrix::row_major(&b, n),
        };
        let flops = 2.0 * (m * n * k) as f64;
        suite.add(name, Work::Flops(flops), || {
            gemm(size, a, b, &mut c, mode);
            Ok(())
        })?;
        suite.add(&format!("{name}, bf16"), Work::Rounded(flops), || {
            gemm_rounded(size, a, b, &mut c);
            Ok(())
        })?;
    }
    Ok(())
}

fn block(order: NormOrder) -> Result<Block<Cpu>> {
    let (hidden, inner, ffn) = (Hidden(HIDDEN), AttnDim(HIDDEN), Ffn(FFN));
    let none = || Mask::<AttnDim, f32, Cpu>::none();
    Ok(Block {
        order,
        attention_norm: (tensor("gain 1", (hidden,))?, tensor("shift 1", (hidden,))?),
        qkv: (tensor("qkv", (Qkv(3), inner, hidden))?, tensor("qkv bias", (Qkv(3), inner))?),
        output: (tensor("output", (hidden, inner))?, tensor("output bias", (hidden,))?),
        feed_forward_norm: (tensor("gain 2", (hidden,))?, tensor("shift 2", (hidden,))?),
        up: (tensor("up", (ffn, hidden))?, tensor("up bias", (ffn,))?),
        down: (tensor("down", (hidden, ffn))?, tensor("down bias", (hidden,))?),
        masks: BlockMasks {
            attention_norm: Mask::none(),
            feed_forward_norm: Mask::none(),
            qkv: [none(), none(), none()],
            feed_forward: Mask::none(),
            gate: Gate::new(1.0),
        },
        attention_mask: match order {
            NormOrder::Pre => AttentionMask::causal(Query(SHAPE.1)),
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

fn blocks(suite: &mut Suite) -> Result<()> {
    let x = tensor("x", (Batch(SHAPE.0), Query(SHAPE.1), Hidden(HIDDEN)))?;
    // Forward and backward: three products for each of the forward pass.
    let maps = 2.0 * (ROWS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * FFN)) as f64;
    let scores = 2.0 * 2.0 * (ROWS * SHAPE.1 * HIDDEN) as f64;
    for (name, order, seen) in [("pre-norm", NormOrder::Pre, 0.5), ("post-norm", NormOrder::Post, 1.0)] {
        let block = block(order)?;
        let flops = || Work::Flops(3.0 * (maps + seen * scores));
        suite
            .add(&format!("block, {name}"), flops(), || backward(block.clone().forward(x.leaky_trace())?))?;
        let compute = Compute { precision: Precision::Bf16, ..Compute::default() };
        let half = Block { compute, ..block.clone() };
        suite.add(&format!("block, {name}, bf16"), Work::Rounded(3.0 * (maps + seen * scores)), || {
            backward(half.clone().forward(x.leaky_trace())?)
        })?;
        suite.add(&format!("block, {name}, plain"), flops(), || {
            backward(plain::block(x.leaky_trace(), &block)?)
        })?;
    }
    Ok(())
}

fn norms(suite: &mut Suite) -> Result<()> {
    let x = tensor("x", (Query(ROWS), Hidden(HIDDEN)))?;
    let (gain, shift) = (tensor("gain", (Hidden(HIDDEN),))?, tensor("shift", (Hidden(HIDDEN),))?);
    let mask = Mask::none();
    // Forward: x in, y out; backward: x and dy in, dx out.
    let bytes = || Work::Bytes(5.0 * size_of_val(&*x.as_vec()) as f64);
    suite
        .add("norm", bytes(), || backward(masked_layer_norm(x.leaky_trace(), &gain, &shift, &mask, 1e-5)?))?;
    suite.add("norm, plain", bytes(), || {
        backward(masked_norm::plain::layer_norm(x.leaky_trace(), &gain, &shift, &mask, 1e-5)?)
    })
}

fn heads(suite: &mut Suite) -> Result<()> {
    let device = Cpu::default();
    let x = tensor("x", (Query(ROWS), Hidden(HIDDEN)))?;
    let table = tensor("table", (Vocab(VOCAB), Hidden(HIDDEN)))?;
    let labels: Vec<i64> = (0..ROWS).map(|row| (row * 7 % VOCAB) as i64).collect();
    let labels = Labels::new(&device, &labels, (Query(ROWS),), Vocab(VOCAB))?;
    let flops = 3.0 * 2.0 * (ROWS * VOCAB * HIDDEN) as f64;
    let mut each = |name, work, loss: &dyn Fn() -> Result<Tensor<(), f32, Cpu, OwnedTape<f32, Cpu>>>| {
        suite.add(name, work, || {
            black_box(loss()?.try_backward().during("bench")?);
            Ok(())
        })
    };
    let ours = |precision| head_loss(x.leaky_trace(), &table, None, &labels, ROWS, precision);
    each("head with its loss", Work::Flops(flops), &|| ours(Precision::F32))?;
    each("head with its loss, bf16", Work::Rounded(flops), &|| ours(Precision::Bf16))?;
    each("head with its loss, plain", Work::Flops(flops), &|| {
        head::plain(x.leaky_trace(), &table, None, &labels, ROWS, Precision::F32)
    })
}

fn updates(suite: &mut Suite) -> Result<()> {
    let device = Cpu::default();
    device.enable_cache();
    let sizes = sizes! { layers: 6, hidden: HIDDEN, ffn: FFN, heads: HEADS };
    let config =
        GptConfig { vocab: VOCAB, positions: SHAPE.1, head_dim: HEAD_DIM, sizes, ..GptConfig::default() };
    let mut model = Gpt::new(&device, config, Default::default())?;
    let mut optimizer = AdamW::new(&model, AdamWConfig::default())?;
    let mut grads = msg_core::optim::zero_grads(&model)?;
    // The norm reads the gradient; the update reads it again, and parameter and moments, and writes those.
    let bytes = 8.0 * 4.0 * msg_core::params::Module::num_params(&model) as f64;
    let update = |lr| Update { clip: Some(1.0), ..Update::at(lr) };
    suite.add("AdamW with the norm", Work::Bytes(bytes), || {
        optimizer.step(&mut model, &mut grads, update(1e-4)).map(drop)
    })?;
    for (name, precision) in
        [("Muon with the norm", Precision::F32), ("Muon with the norm, bf16", Precision::Bf16)]
    {
        let config = MuonConfig { precision: Some(precision), ..MuonConfig::default() };
        let mut optimizer = Muon::new(&model, config)?;
        // Each step of each matrix: X X^T, its square, and their product with X.
        let matrix = |rows: usize, columns: usize| {
            let (side, long) = (rows.min(columns) as f64, rows.max(columns) as f64);
            f64::from(config.ns_steps) * (4.0 * side * side * long + 2.0 * side.powi(3))
        };
        let flops =
            sizes.layers as f64 * (4.0 * matrix(HIDDEN, HEADS * HEAD_DIM) + 2.0 * matrix(FFN, HIDDEN));
        let work = if precision == Precision::F32 { Work::Flops(flops) } else { Work::Rounded(flops) };
        suite.add(name, work, || optimizer.step(&mut model, &mut grads, update(0.02)).map(drop))?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let (flops, bandwidth) = (peak::flops(), peak::bandwidth());
    println!("threads   {}", rayon::current_num_threads());
    println!("peak      {:.1} GFLOP/s of fused multiply-adds in registers", flops / 1e9);
    println!("copy      {:.1} GB/s read and written", bandwidth / 1e9);
    let criterion = Criterion::default().configure_from_args().sample_size(10);
    let mut suite = Suite { criterion, flops, bandwidth };
    products(&mut suite)?;
    blocks(&mut suite)?;
    norms(&mut suite)?;
    heads(&mut suite)?;
    updates(&mut suite)?;
    suite.criterion.final_summary();
    Ok(())
}
