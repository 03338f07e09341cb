//! Whole files of every kind, as small as they can be.

use dfdx::tensor::Cpu;
use msg_core::{
    growth::{Init, Masked},
    optim::{AdamWConfig, AnyOptimizer},
};
use msg_models::{
    DepthInit, GrowthSpec, Sizes, WidthInit,
    bert::{Bert, BertConfig},
    gpt::{Gpt, GptConfig},
    hf::{self, Format, StoredType},
    sizes,
};
use msg_train::{
    State,
    checkpoint::{Snapshot, save},
    data::{Prepare, prepare},
    families::family::Family,
    families::registry,
    interop::import,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const SIZES: Sizes = sizes! { layers: 1, hidden: 4, ffn: 3, heads: 2 };
/// Entries of the token tables.
const VOCAB: usize = 12;

/// A configuration of a run that ends before it begins to be large.
pub(super) fn run_config(family: &str, text: &Path) -> String {
    format!(
        r#"
        [run]
        name = "tiny"
        seed = 5
        [data]
        sources = [{text:?}]
        held_out = 0.2
        tokenizer = {{ kind = "bytes" }}
        [model]
        family = "{family}"
        head_dim = 2
        [lr]
        shape = "constant"
        peak = 1e-2
        [[stage]]
        steps = 2
        layers = 1
        hidden = 4
        ffn = 3
        heads = 2
        sequence = 8
        batch = 2
        "#
    )
}

fn gpt() -> Gpt<Cpu> {
    let config = GptConfig { vocab: VOCAB, positions: 5, head_dim: 2, sizes: SIZES, ..GptConfig::default() };
    Gpt::new(&Cpu::default(), config, Init::default()).unwrap()
}

fn bert() -> Bert<Cpu> {
    let config =
        BertConfig { vocab: VOCAB, positions: 5, head_dim: 2, sizes: SIZES, ..BertConfig::default() };
    Bert::new(&Cpu::default(), config, Init::default()).unwrap()
}

/// A file of tensors of all three types.
pub(super) fn tensors(place: &Path) -> Vec<PathBuf> {
    let folder = place.join("tensors");
    fs::create_dir(&folder).unwrap();
    weights(&gpt(), &folder, u64::MAX);
    vec![folder]
}

/// The same in several files.
pub(super) fn shards(place: &Path) -> Vec<PathBuf> {
    let folder = place.join("shards");
    fs::create_dir(&folder).unwrap();
    weights(&gpt(), &folder, 300);
    vec![folder]
}

fn weights<M: Family<Cpu>>(model: &M, folder: &Path, largest: u64) {
    let notes = BTreeMap::from([("note".to_owned(), "of \"ours\"".to_owned())]);
    let stored = |name: &str| StoredType::ALL[name.len() % StoredType::ALL.len()];
    let format = Format { stored: &stored, largest, ..Format::plain(&notes) };
    hf::save_folder(model, &M::NAMING, &format, folder).unwrap();
}

fn published<M: Family<Cpu>>(model: &M, folder: &Path, largest: u64) {
    fs::create_dir(folder).unwrap();
    weights(model, folder, largest);
    let config = serde_json::to_string_pretty(&model.hugging_face(None).unwrap().config).unwrap();
    fs::write(folder.join("config.json"), config).unwrap();
}

/// Published GPT-2s, with the older tokenizer files.
pub(super) fn published_gpts(place: &Path) -> Vec<PathBuf> {
    let (one, several) = (place.join("gpt"), place.join("gpt-in-shards"));
    published(&gpt(), &one, u64::MAX);
    published(&gpt(), &several, 300);
    tables(&one);
    vec![one, several]
}

/// Published BERTs.
pub(super) fn published_berts(place: &Path) -> Vec<PathBuf> {
    let folder = place.join("bert");
    published(&bert(), &folder, u64::MAX);
    pieces(&folder);
    vec![folder]
}

fn tables(folder: &Path) {
    let vocab = r#"{"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4, "<|endoftext|>": 5}"#;
    fs::write(folder.join("vocab.json"), vocab).unwrap();
    fs::write(folder.join("merges.txt"), "#version: 0.2\na b\nĠ ab\n").unwrap();
}

fn pieces(folder: &Path) {
    fs::write(folder.join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##a\n##b\n").unwrap();
    fs::write(folder.join("tokenizer_config.json"), r#"{"do_lower_case": true, "strip_accents": null}"#)
        .unwrap();
}

/// Tokenizers of three kinds.
pub(super) fn tokenizers(place: &Path) -> Vec<PathBuf> {
    let whole: Vec<PathBuf> = models(place).iter().map(|model| model.join("tokenizer.json")).collect();
    let names = ["merges", "pieces", "whole-gpt", "whole-bert"];
    let folders = names.map(|name| place.join("tokenizers").join(name));
    folders.iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    tables(&folders[0]);
    pieces(&folders[1]);
    fs::copy(&whole[0], folders[2].join("tokenizer.json")).unwrap();
    fs::copy(&whole[1], folders[3].join("tokenizer.json")).unwrap();
    folders.to_vec()
}

/// Checkpoints that hold models alone.
pub(super) fn models(place: &Path) -> Vec<PathBuf> {
    let device = Cpu::default();
    let folders = [published_gpts(place).remove(0), published_berts(place).remove(0)];
    let made = folders.map(|folder| {
        let out = folder.with_extension("in");
        import(&device, &folder, &out).unwrap();
        out
    });
    made.to_vec()
}

/// Checkpoints of runs, inside a ramp.
pub(super) fn checkpoints(place: &Path) -> Vec<PathBuf> {
    let tokenizer = models(place)[0].join("tokenizer.json");
    vec![saved(gpt(), "gpt", place, Some(&tokenizer)), saved(bert(), "bert", place, None)]
}

fn saved<M: Family<Cpu>>(model: M, family: &str, place: &Path, tokenizer: Option<&Path>) -> PathBuf {
    let spec = GrowthSpec { units: WidthInit::Copy, layers: DepthInit::Interpolate, ..GrowthSpec::default() };
    let growth = model.growth_to(sizes! { layers: 2, hidden: 5, ffn: 4, heads: 3 }, &spec).unwrap();
    let ramp = msg_core::growth::Ramp { start: 0, length: 4 };
    let model = model.grown(&growth, &Masked { rule: spec.units.fill_rule() }, ramp).unwrap();
    let optimizer = AnyOptimizer::new(&model, AdamWConfig::default()).unwrap();
    let state = State { step: 2, stage: 1, births: vec![(0, 0)], ..State::default() };
    let config = registry::parse(&run_config(family, Path::new("text")), "tiny.toml", &[]).unwrap();
    let config = config.to_toml().unwrap();
    let snapshot =
        Snapshot { model: &model, optimizer: &optimizer, state: &state, config: &config, tokenizer };
    save(&place.join(format!("run-{family}")), &snapshot).unwrap()
}

/// Prepared token shards.
pub(super) fn prepared(place: &Path) -> Vec<PathBuf> {
    let text = texts(place).remove(0);
    let config = registry::parse(&run_config("gpt", &text), "tiny.toml", &[]).unwrap();
    let folder = place.join("prepared");
    prepare(&Prepare::new(config.data(), config.model().family.specials, &folder), &mut |_| {}).unwrap();
    vec![folder]
}

/// Text as people have it.
pub(super) fn texts(place: &Path) -> Vec<PathBuf> {
    let folder = place.join("text");
    fs::create_dir(&folder).unwrap();
    let line = "{\"text\": \"one line of text\", \"n\": [1, {\"a\": null}]}\n".repeat(4);
    fs::write(folder.join("a.txt"), "A text of some words. ".repeat(8)).unwrap();
    fs::write(folder.join("b.jsonl"), &line).unwrap();
    fs::write(folder.join("c.jsonl.gz"), super::hostile::gzip(line.as_bytes())).unwrap();
    fs::write(folder.join("d.txt.zst"), super::hostile::ZSTD).unwrap();
    vec![folder]
}

/// A run's configuration.
pub(super) fn configs(place: &Path) -> Vec<PathBuf> {
    let folder = place.join("config");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("tiny.toml"), run_config("gpt", Path::new("text"))).unwrap();
    vec![folder]
}
