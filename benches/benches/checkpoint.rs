//! Writing checkpoints and reading them back: a model with its optimizer, every file hashed.
//!
//! `cargo bench -p msg-benches --bench checkpoint`. The folder lies under `TMPDIR`; compare with the copy of the same
//! bytes into a file beside it that is printed first.

use criterion::{Criterion, Throughput};
use dfdx::tensor::Cpu;
use msg_benches::{median, timed};
use msg_core::{
    growth::Init,
    optim::{AdamWConfig, AnyOptimizer},
    params::Module,
};
use msg_models::{
    gpt::{Gpt, GptConfig},
    sizes,
};
use msg_train::{
    State,
    checkpoint::{self, Loaded, Snapshot},
};
use std::{error::Error, fs::File, io::Write, path::Path};

const ROUNDS: usize = 5;

/// Seconds in which the system takes so many bytes, written and synced.
fn plain_write(path: &Path, bytes: usize) -> std::io::Result<f64> {
    let data = vec![1u8; bytes];
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let (took, done) = timed(|| {
            let mut file = File::create(path)?;
            file.write_all(&data)?;
            file.sync_all()
        });
        done?;
        times.push(took);
    }
    std::fs::remove_file(path)?;
    Ok(median(times).as_secs_f64())
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Cpu::default();
    let sizes = sizes! { layers: 6, hidden: 384, ffn: 1536, heads: 6 };
    let config = GptConfig { vocab: 8192, positions: 256, head_dim: 64, sizes, ..GptConfig::default() };
    let model = Gpt::new(&device, config, Init::default())?;
    let optimizer = AnyOptimizer::new(&model, AdamWConfig::default())?;
    let bytes = 3 * 4 * model.num_params();
    let folder = tempfile::tempdir()?;
    let state = State::default();
    let snapshot =
        Snapshot { model: &model, optimizer: &optimizer, state: &state, config: "", tokenizer: None };
    let seconds = plain_write(&folder.path().join("plain"), bytes)?;
    println!("{} MB: written and synced plainly in {seconds:.3} s", bytes >> 20);

    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let mut group = criterion.benchmark_group("checkpoint");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("write", |bench| {
        bench.iter(|| checkpoint::save(folder.path(), &snapshot).expect("a writable folder"));
    });
    let path = checkpoint::save(folder.path(), &snapshot)?;
    group.bench_function("read", |bench| {
        bench.iter(|| -> Loaded<Cpu, Gpt<Cpu>> {
            checkpoint::load(&path, &device, AdamWConfig::default()).expect("the checkpoint just written")
        });
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}
