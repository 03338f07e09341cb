//! Growing BERT-base to BERT-large with both AdamW moments, against a parallel copy of as many bytes.
//!
//! `cargo bench -p msg-benches --bench growth`. The first lines compare the two in turn and give the
//! peak memory; criterion's own figures follow.

use criterion::{BenchmarkId, Criterion, Throughput};
use dfdx::tensor::{Cpu, Gradients};
use msg_benches::{median, peak_memory, reset_peak, timed};
use msg_core::{
    Result,
    growth::{Growth, Init, Masked, Ramp},
    optim::{AdamW, AdamWConfig, StatePolicy, Update},
    params::Module,
};
use msg_models::{GrowingModel, GrowthSpec, Sizes, bert::Bert, bert::BertConfig, sizes};
use rayon::prelude::*;
use std::{hint::black_box, time::Duration};

const ROUNDS: usize = 7;
const LARGE: Sizes = sizes! { layers: 24, hidden: 1024, ffn: 4096, heads: 16 };

/// A model with the state of an optimizer that has made one step.
struct Trained {
    model: Bert<Cpu>,
    optimizer: AdamW<Cpu>,
}

impl Trained {
    fn base() -> Result<Self> {
        let mut model = Bert::new(&Cpu::default(), BertConfig::default(), Init::default())?;
        let mut optimizer = AdamW::new(&model, AdamWConfig::default())?;
        // A step without gradients writes every moment, so that its memory is really there.
        optimizer.step(&mut model, &mut Gradients::leaky(), Update::at(0.0))?;
        Ok(Trained { model, optimizer })
    }

    fn growth(&self) -> Result<Growth> {
        self.model.growth_to(LARGE, &GrowthSpec::default())
    }

    fn grown(&self) -> Result<Trained> {
        let growth = self.growth()?;
        let ramp = Ramp { start: 1, length: 5000 };
        let model = self.model.grown(&growth, &Masked::default(), ramp)?;
        let optimizer = self.optimizer.grown(&model, &growth, StatePolicy::Age)?;
        Ok(Trained { model, optimizer })
    }

    fn bytes(&self) -> u64 {
        3 * 4 * self.model.num_params() as u64
    }
}

/// Writes `bytes` into fresh memory by a parallel copy.
fn copy(source: &[f32], bytes: u64) -> Vec<Vec<f32>> {
    let mut left = (bytes / 4) as usize;
    let mut copies = Vec::new();
    while left > 0 {
        let part = &source[..left.min(source.len())];
        let mut target = vec![0.0f32; part.len()];
        let chunk = 1 << 16;
        target
            .par_chunks_mut(chunk)
            .zip(part.par_chunks(chunk))
            .for_each(|(to, from)| to.copy_from_slice(from));
        copies.push(target);
        left -= part.len();
    }
    copies
}

/// Both in turn: medians, their ratio, and the growth's peak memory.
fn in_turn(base: &Trained, source: &[f32], target: u64) -> Result<()> {
    let (mut grow_times, mut copy_times): (Vec<Duration>, Vec<Duration>) = Default::default();
    let mut peak = None;
    for _ in 0..ROUNDS {
        copy_times.push(timed(|| black_box(copy(source, target))).0);
        reset_peak();
        let (time, grown) = timed(|| base.grown());
        peak = peak.max(peak_memory());
        grow_times.push(time);
        drop(grown?);
    }
    let (grow, copy) = (median(grow_times), median(copy_times));
    println!("BERT-base {} MB -> BERT-large {} MB, with moments", base.bytes() >> 20, target >> 20);
    println!("threads        {}", rayon::current_num_threads());
    println!("grow           {:.3} s (median of {ROUNDS}, in turn)", grow.as_secs_f64());
    println!("parallel copy  {:.3} s", copy.as_secs_f64());
    println!("grow / copy    {:.2} (bound 3)", grow.as_secs_f64() / copy.as_secs_f64());
    if let Some(peak) = peak {
        let others = (source.len() as u64) << 2;
        let above = peak.saturating_sub(base.bytes() + target + others);
        println!("peak           {} MB above source + target (bound 64)", above >> 20);
        println!(
            "resident peak  {} MB; source + target {} MB",
            (peak - others) >> 20,
            (base.bytes() + target) >> 20
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    let base = Trained::base()?;
    let target = base.grown()?.bytes();
    let source = vec![1.0f32; 1 << 26];
    in_turn(&base, &source, target)?;

    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let mut group = criterion.benchmark_group("growth");
    group.throughput(Throughput::Bytes(target));
    group.bench_function(BenchmarkId::new("bert-base to bert-large", "grow"), |b| b.iter(|| base.grown()));
    group.bench_function(BenchmarkId::new("bert-base to bert-large", "copy"), |b| {
        b.iter(|| copy(&source, target))
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}
