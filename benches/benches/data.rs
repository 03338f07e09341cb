//! Preparing a corpus, and making batches of it: tokens a second on the host.
//!
//! `cargo bench -p msg-benches --bench data`. The first line is one preparation with its peak memory;
//! criterion's figures follow. `MSG_BENCH_DATA_MB` sets the size of the corpus (16).

use criterion::{Criterion, Throughput};
use msg_benches::{peak_memory, reset_peak, timed};
use msg_core::random::{Key, fill_bits};
use msg_train::{
    Result,
    config::{DataConfig, MlmConfig, SpecialTokens, TokenizerConfig, TokenizerKind},
    data::{Batches, Causal, Manifest, Mlm, Prepare, Prepared, prepare},
};
use std::{
    fs::File,
    hint::black_box,
    io::{BufWriter, Write},
    path::Path,
    sync::Arc,
};

const MEGABYTES: u64 = 16;
/// Sequences of a batch.
const SEQUENCES: usize = 64;
const GPT_LENGTH: usize = 256;
const BERT_LENGTH: usize = 128;

/// Made-up words, the common ones often (their rank is the product of uniform numbers), in lines and files.
fn write_corpus(folder: &Path, bytes: u64) -> std::io::Result<()> {
    const FILE: u64 = 1 << 20;
    let key = Key::new(0, "bench corpus", 0);
    let mut draws = [0; 4096];
    for number in 0..bytes.div_ceil(FILE) {
        let mut file = BufWriter::new(File::create(folder.join(format!("{number:05}.txt")))?);
        let (mut written, mut block) = (0, 0);
        while written < FILE.min(bytes - number * FILE) {
            fill_bits(key, [0, number as u32, block], 0, &mut draws);
            block += 1;
            for (at, draws) in draws.chunks_exact(2).enumerate() {
                let product = (u64::from(draws[0]) * u64::from(draws[1])) >> 32;
                let rank = (product * 50_000) >> 32;
                let mut word = String::new();
                let mut left = rank * 7 + 3;
                while left > 0 {
                    word.push_str(
                        ["ba", "ce", "di", "fo", "gu", "hy", "ja", "ke", "li", "mo"][left as usize % 10],
                    );
                    left /= 10;
                }
                word.push(if at % 12 == 11 { '\n' } else { ' ' });
                written += word.len() as u64;
                file.write_all(word.as_bytes())?;
            }
        }
        file.flush()?;
    }
    Ok(())
}

fn config(text: &Path, kind: TokenizerKind) -> DataConfig {
    DataConfig {
        sources: vec![text.to_owned()],
        crates: Vec::new(),
        extensions: vec!["txt".into()],
        jsonl_field: "text".into(),
        invalid_utf8: Default::default(),
        held_out: 0.02,
        shards: None,
        expect_hash: None,
        tokenizer: TokenizerConfig { kind, vocab: Some(8192), path: None },
        mlm: MlmConfig::default(),
    }
}

fn prepare_again(config: &DataConfig, specials: SpecialTokens, folder: &Path) -> Result<Manifest> {
    let _ = std::fs::remove_file(folder.join("manifest.json"));
    prepare(&Prepare::new(config, specials, folder), &mut |_| ())
}

fn bench(criterion: &mut Criterion, folder: &Path, megabytes: u64) -> Result<()> {
    let text = folder.join("text");
    let mut group = criterion.benchmark_group("data");
    group.sample_size(10).measurement_time(std::time::Duration::from_secs(20));
    let (bpe, word_piece) = (config(&text, TokenizerKind::Bpe), config(&text, TokenizerKind::WordPiece));
    let (gpt, bert) = (folder.join("gpt"), folder.join("bert"));
    for (name, family, config, folder) in [
        ("bpe", SpecialTokens::EndOfText, &bpe, &gpt),
        ("wordpiece", SpecialTokens::Bert, &word_piece, &bert),
    ] {
        reset_peak();
        let (time, manifest) = timed(|| prepare_again(config, family, folder));
        let tokens = manifest?.counts.tokens;
        println!(
            "{name}: {megabytes} MiB to {tokens} tokens in {time:.1?}, {:.2e} tokens/s, peak memory {} MiB",
            tokens as f64 / time.as_secs_f64(),
            peak_memory().unwrap_or(0) >> 20,
        );
        if megabytes <= MEGABYTES {
            group.throughput(Throughput::Elements(tokens));
            group.bench_function(format!("prepare/{name}"), |bencher| {
                bencher.iter(|| prepare_again(config, family, folder));
            });
        }
    }
    let causal = Causal::new(Arc::new(Prepared::open(&gpt)?), 0, GPT_LENGTH)?;
    let mlm = Mlm::new(Arc::new(Prepared::open(&bert)?), 0, MlmConfig::default())?;
    group.throughput(Throughput::Elements((SEQUENCES * GPT_LENGTH) as u64));
    let mut cursor = 0;
    group.bench_function("batch/gpt", |bencher| {
        bencher.iter(|| {
            cursor = causal.advance(cursor, SEQUENCES, GPT_LENGTH);
            black_box(causal.batch(cursor, SEQUENCES, GPT_LENGTH))
        });
    });
    group.throughput(Throughput::Elements((SEQUENCES * BERT_LENGTH) as u64));
    group.bench_function("batch/bert", |bencher| {
        bencher.iter(|| {
            cursor = mlm.advance(cursor, SEQUENCES, BERT_LENGTH);
            black_box(mlm.batch(cursor, SEQUENCES, BERT_LENGTH))
        });
    });
    group.finish();
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let megabytes = std::env::var("MSG_BENCH_DATA_MB").map_or(Ok(MEGABYTES), |size| size.parse())?;
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("text"))?;
    write_corpus(&folder.path().join("text"), megabytes << 20)?;
    let mut criterion = Criterion::default().configure_from_args();
    bench(&mut criterion, folder.path(), megabytes)?;
    criterion.final_summary();
    Ok(())
}
