//! Whole training steps on random tokens, for the side-by-side script: reads how many steps to make, line by
//! line, and answers each with the seconds they took.
//!
//! `training_step FAMILY LAYERS HIDDEN FFN HEADS VOCAB LENGTH BATCH [ramp] [bf16] [recompute]`; with `ramp` every
//! axis stands in the middle of one. The last line of the output, after the input's end, is the peak of resident memory.

use dfdx::{
    tensor::{Cache, Cpu},
    tensor_ops::Backward,
};
use msg_benches::{peak_memory, timed};
use msg_core::{
    error::Context,
    growth::Masked,
    mask::Ramp,
    ops::{Compute, Dropout, Precision, cross_entropy::IGNORED},
    optim::{AdamW, AdamWConfig, Update},
    params::{Init, tape, zero_grads, zeroed_again},
    random::{Key, bits_at},
};
use msg_models::{GrowthSpec, Sizes, bert::Bert, bert::BertConfig, gpt::Gpt, gpt::GptConfig};
use msg_train::{
    data::{CausalBatch, MlmBatch},
    task::Task,
};
use std::{error::Error, io::BufRead};

/// Share of labelled positions, as in BERT's training.
const LABELLED: f64 = 0.15;
const HEAD_DIM: usize = 64;

fn draw(name: &str, at: usize, limit: usize) -> usize {
    let bits = bits_at(Key::new(1, name, 0), [0, 0, 0, at as u32]);
    ((u64::from(bits) * limit as u64) >> 32) as usize
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

/// The model in the middle of a ramp that brought it to its size along every axis.
fn ramping<M: Task<Cpu>>(small: &M, to: Sizes) -> msg_core::Result<M> {
    let growth = small.growth_to(to, &GrowthSpec::default())?;
    small.grown(&growth, &Masked::default(), Ramp { start: 0, length: 1 << 20 })
}

fn serve<M: Task<Cpu>>(mut model: M, compute: Compute, host: &M::Host) -> Result<(), Box<dyn Error>> {
    model.set_compute(compute);
    let device = model.device().clone();
    let mut optimizer = AdamW::new(&model, AdamWConfig::default())?;
    let counts = M::counts(host);
    let mut step = 1 << 19;
    let mut kept = None;
    let mut one = |model: &mut M| -> Result<f32, Box<dyn Error>> {
        step += 1;
        let masks = model.masks(step)?;
        let grads = match kept.take() {
            Some(grads) => zeroed_again(model, grads)?,
            None => zero_grads(model)?,
        };
        let batch = model.upload(host)?;
        let loss = model.loss(&batch, counts, &masks, &Dropout::OFF, tape(&device, grads)?)?;
        let value = loss.as_vec()[0];
        let mut grads = loss.try_backward().during("backward")?;
        let update = Update { clip: Some(1.0), ..Update::at(1e-4) };
        optimizer.step(model, &mut grads, update)?;
        kept = Some(grads);
        Ok(value)
    };
    println!("loss {}", one(&mut model)?);
    for line in std::io::stdin().lock().lines() {
        let steps: usize = line?.trim().parse()?;
        let (took, result) = timed(|| (0..steps).try_for_each(|_| one(&mut model).map(drop)));
        result?;
        println!("{}", took.as_secs_f64());
    }
    println!("peak {}", peak_memory().unwrap_or(0));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    // On a thread of the pool, as `msg train` does it.
    Ok(rayon::join(|| run().map_err(|error| error.to_string()), || ()).0?)
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage =
        "usage: training_step gpt|bert LAYERS HIDDEN FFN HEADS VOCAB LENGTH BATCH [ramp] [bf16] [recompute]";
    let (family, rest) = args.split_first().ok_or(usage)?;
    let has = |word: &str| rest.iter().skip(7).any(|arg| arg == word);
    let ramp = has("ramp");
    let precision = if has("bf16") { Precision::Bf16 } else { Precision::F32 };
    let compute = Compute { precision, recompute: has("recompute") };
    let numbers: Vec<usize> =
        rest.iter().take(7).map(|arg| arg.parse()).collect::<Result<_, _>>().map_err(|_| usage)?;
    let [layers, hidden, ffn, heads, vocab, length, batch] = numbers[..] else { return Err(usage.into()) };
    let full = Sizes { layers, hidden, ffn, heads };
    let sizes = match ramp {
        true => Sizes {
            layers: layers.div_ceil(2),
            hidden: hidden * 3 / 4,
            ffn: ffn / 2,
            heads: heads.div_ceil(2),
        },
        false => full,
    };
    let (device, head_dim, shape) = (Cpu::default(), HEAD_DIM, (batch, length));
    device.enable_cache();
    match family.as_str() {
        "gpt" => {
            let config = GptConfig { vocab, positions: length, head_dim, sizes, ..GptConfig::default() };
            let model = Gpt::new(&device, config, Init::default())?;
            let model = if ramp { ramping(&model, full)? } else { model };
            serve(model, compute, &causal(vocab, shape))
        }
        "bert" => {
            let config = BertConfig { vocab, positions: length, head_dim, sizes, ..BertConfig::default() };
            let model = Bert::new(&device, config, Init::default())?;
            let model = if ramp { ramping(&model, full)? } else { model };
            serve(model, compute, &masked(vocab, shape))
        }
        _ => Err(usage.into()),
    }
}
