//! Whole training steps of GPT and BERT over a decade of sizes, in both precisions: what a step costs against its
//! floating-point operations.
//!
//! `cargo bench -p msg-benches --bench steps [-- FILTER]`. The table comes first; criterion's figures follow.

use criterion::{BenchmarkId, Criterion, Throughput};
use dfdx::tensor::Cpu;
use msg_benches::{
    median, peak,
    step::{Case, Family},
    timed,
};
use msg_core::ops::{Compute, Precision};
use msg_models::{Sizes, sizes};
use std::error::Error;

/// Steps of the table's medians.
const ROUNDS: usize = 5;

fn sizes(layers: usize, hidden: usize) -> Sizes {
    sizes! { layers, hidden, ffn: 4 * hidden, heads: hidden / 64 }
}

/// From the smallest to the largest about twenty times the operations.
fn cases() -> Vec<(String, Case)> {
    let mut cases = Vec::new();
    for precision in [Precision::F32, Precision::Bf16] {
        for family in [Family::Gpt, Family::Bert] {
            for (layers, hidden) in [(4, 192), (4, 256), (6, 384), (8, 512), (12, 512)] {
                let compute = Compute { precision, ..Compute::default() };
                let (sizes, vocab, shape) = (sizes(layers, hidden), 8192, (8, 128));
                let case = Case { family, sizes, vocab, shape, ramp: false, compute };
                cases.push((format!("{family:?} {layers} x {hidden}, {precision:?}"), case));
            }
        }
    }
    cases
}

/// A step is made on a thread of the pool, as `msg train` does it.
fn on_the_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::join(work, || ()).0
}

fn table(cases: &[(String, Case)]) -> Result<(), Box<dyn Error>> {
    let flops = peak::flops();
    println!("threads {}, peak {:.0} GFLOP/s of f32 in registers", rayon::current_num_threads(), flops / 1e9);
    println!("{:24} {:>9} {:>9} {:>9} {:>9}", "step", "GFLOP", "ms", "tokens/s", "GFLOP/s");
    for (name, case) in cases {
        let took = on_the_pool(|| -> Result<_, String> {
            let mut step = case.open(Cpu::default()).map_err(|error| error.to_string())?;
            let mut times = Vec::new();
            for round in 0..=ROUNDS {
                let (took, loss) = timed(|| step.run().and_then(|()| step.loss()));
                loss.map_err(|error| error.to_string())?;
                // The first one fills the caches.
                if round > 0 {
                    times.push(took);
                }
            }
            Ok(median(times).as_secs_f64())
        })?;
        let work = case.flops();
        let (tokens, rate) = (case.tokens() as f64 / took, work / took / 1e9);
        println!("{name:24} {:9.1} {:9.1} {tokens:9.0} {rate:9.1}", work / 1e9, took * 1e3);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let cases = cases();
    table(&cases)?;
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let mut group = criterion.benchmark_group("training step");
    for (name, case) in &cases {
        group.throughput(Throughput::Elements(case.tokens() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), case, |bench, case| {
            bench.iter_custom(|steps| {
                on_the_pool(|| {
                    let mut step = case.open(Cpu::default()).expect("a model of these sizes");
                    step.run().expect("a step");
                    timed(|| {
                        for _ in 0..steps {
                            step.run().expect("a step");
                        }
                    })
                    .0
                })
            });
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}
