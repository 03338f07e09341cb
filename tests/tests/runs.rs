//! A small run of either family through the whole trainer: text, configuration, what it leaves behind.

use dfdx::tensor::Cpu;
use msg_core::Backend;
use msg_train::{
    Error, Fault, Plan,
    config::RunConfig,
    data::open::open_data,
    families::registry,
    metrics::{Record, Step},
    run::{Outcome, Request, Resume, train},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

/// The steps of [`config`].
pub(crate) const STEPS: u64 = 12;

/// Text without meaning, but not without rhythm, in the folder `text`.
pub(crate) fn corpus(folder: &Path) {
    let folder = folder.join("text");
    fs::create_dir(&folder).unwrap();
    let words = ["grow", "mask", "layer", "head", "unit", "ramp", "step", "stage"];
    for document in 0..24 {
        let words = (0..60).map(|at| words[(at * at + document * 7 + at / 3) % words.len()]);
        let sentences: Vec<String> = words.map(str::to_owned).collect();
        let text: Vec<String> = sentences.chunks(6).map(|words| format!("{}.", words.join(" "))).collect();
        fs::write(folder.join(format!("{document:02}.txt")), text.join("\n")).unwrap();
    }
}

/// Three stages over 12 steps: all widths grow after 4, layers after 8; the first ramp outlasts its stage and
/// ends inside the second.
pub(crate) fn config(folder: &Path, family: &str, name: &str) -> RunConfig {
    let (tokenizer, vocab) = if family == "bert" { ("word_piece", ", vocab = 60") } else { ("bytes", "") };
    let text = format!(
        r#"
        [run]
        name = "{name}"
        dir = "{folder}/{name}"
        seed = 3
        [data]
        sources = ["{folder}/text"]
        held_out = 0.2
        shards = "{folder}/data-{family}"
        tokenizer = {{ kind = "{tokenizer}"{vocab} }}
        [model]
        family = "{family}"
        head_dim = 3
        dropout = 0.1
        [train]
        micro_batch = 2
        eval_every = 3
        eval_sequences = 4
        checkpoint_every = 1
        keep_last = 1
        keep_every = 1
        [lr]
        shape = "cosine"
        peak = 1e-2
        final = 1e-3
        warmup = 2
        [[stage]]
        steps = 4
        layers = 1
        hidden = 6
        ffn = 8
        heads = 2
        sequence = 12
        batch = 4
        [[stage]]
        steps = 4
        hidden = 9
        ffn = 11
        heads = 3
        ramp = 6
        lr = "rewarm-new"
        rewarm_steps = 3
        units = "copy"
        [[stage]]
        steps = 4
        layers = 2
        ramp = 3
        new_layers = "interpolate"
        lr = "rewind"
        "#,
        folder = folder.display(),
    );
    let read = registry::parse(&text, "test.toml", &[]).unwrap_or_else(|error| panic!("{error}"));
    read.written().clone()
}

pub(crate) fn run(config: RunConfig, resume: Resume) -> Result<Outcome, Error> {
    run_with(config, resume, None)
}

/// A run in which something goes wrong at every growth.
pub(crate) fn run_with(config: RunConfig, resume: Resume, fault: Option<Fault>) -> Result<Outcome, Error> {
    run_on(Cpu::default(), config, resume, fault)
}

/// The same on a device.
pub(crate) fn run_on<D: Backend>(
    device: D,
    config: RunConfig,
    resume: Resume,
    fault: Option<Fault>,
) -> Result<Outcome, Error> {
    run_until(device, config, resume, fault, &AtomicBool::new(false))
}

/// The same until it is asked to stop.
pub(crate) fn run_until<D: Backend>(
    device: D,
    config: RunConfig,
    resume: Resume,
    fault: Option<Fault>,
    stop: &AtomicBool,
) -> Result<Outcome, Error> {
    let config = registry::resolve(config)?;
    let (plan, data) = (Plan::new(&config), open_data(&config, &mut |_, _, _| {})?);
    train(device, Request { config: &config, plan: &plan, data, resume, stop, console: false, fault })
}

/// Every file of a folder, by name.
pub(crate) fn bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap()))
        .collect()
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Where the checkpoint of a step lies in a run's folder.
pub(crate) fn checkpoint(step: u64) -> String {
    format!("checkpoints/step-{step:08}")
}

/// What a run wrote down.
pub(crate) fn records(folder: &Path) -> Vec<Record> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The optimizer steps that a run wrote down.
pub(crate) fn steps(folder: &Path) -> Vec<Step> {
    let step = |record| match record {
        Record::Step(step) => Some(step),
        _ => None,
    };
    records(folder).into_iter().filter_map(step).collect()
}
