//! A run that is broken off anywhere and resumed ends in the same bytes as the unbroken one.

use dfdx::tensor::Cpu;
use msg_train::{
    Error,
    config::RunConfig,
    run::{Outcome, Request, Resume, open_data, train},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

/// Text without meaning, but not without rhythm.
pub(crate) fn corpus(folder: &Path) {
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
    let tokenizer = if family == "gpt" { "bytes" } else { "word_piece" };
    let vocab = if family == "gpt" { "" } else { ", vocab = 60" };
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
    RunConfig::parse(&text, "test.toml", &[]).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn run(config: RunConfig, resume: Resume) -> Result<Outcome, Error> {
    let stop = AtomicBool::new(false);
    let data = open_data(&config, &mut |_, _, _| {})?;
    train(Cpu::default(), Request { config, data, resume, stop: &stop, console: false })
}

/// Every file of a folder, by name.
fn bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().into(), fs::read(&path).unwrap()))
        .collect()
}

fn copy_folder(from: &Path, to: &Path) {
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

const STEPS: u64 = 12;

fn resumes_to_the_bit(family: &str) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    fs::create_dir(folder.join("text")).unwrap();
    corpus(&folder.join("text"));
    let whole = folder.join("whole");
    let outcome = run(config(folder, family, "whole"), Resume::Never).unwrap_or_else(|e| panic!("{e}"));
    assert!(outcome.finished && outcome.step == STEPS);
    let last = format!("checkpoints/step-{STEPS:08}");
    let (weights, metrics) = (bytes(&whole.join(&last)), fs::read(whole.join("metrics.jsonl")).unwrap());
    assert!(weights.contains_key(Path::new("first_moment.safetensors")));
    let losses = String::from_utf8(metrics.clone()).unwrap();
    assert_eq!(losses.matches("\"kind\":\"step\"").count() as u64, STEPS);
    assert_eq!(losses.matches("\"kind\":\"growth\"").count(), 2);
    assert!(!losses.contains("NaN") && !losses.contains("\"skipped\":true"));

    // Before, at and after both boundaries, inside and after both ramps: after every single step.
    for step in 1..STEPS {
        // The run as it was when it died: later checkpoints never made, later lines half written.
        let broken = folder.join(format!("{family}-{step}"));
        copy_folder(&whole, &broken);
        for later in step + 1..=STEPS {
            fs::remove_dir_all(broken.join(format!("checkpoints/step-{later:08}"))).unwrap();
        }
        let cut = metrics.len() - step as usize;
        fs::write(broken.join("metrics.jsonl"), &metrics[..cut]).unwrap();
        fs::remove_dir_all(broken.join("final")).unwrap();
        // The run's folder is no part of what must be the same.
        let mut again = config(folder, family, "whole");
        again.run.dir = Some(broken.clone());
        let saved = broken.join(format!("checkpoints/step-{step:08}/config.toml"));
        assert!(fs::read_to_string(saved).unwrap().contains("rewarm-new"));
        run(again, Resume::Auto).unwrap_or_else(|error| panic!("resume after step {step}: {error}"));
        for (name, expected) in &weights {
            let got = &bytes(&broken.join(&last))[name];
            // Only the configuration names the folder.
            let same = got == expected || name.ends_with("config.toml") || name.ends_with("checkpoint.json");
            assert!(same, "{family}: {} after a resume from step {step}", name.display());
        }
        let got = fs::read(broken.join("metrics.jsonl")).unwrap();
        assert!(got == metrics, "{family}: metrics after a resume from step {step}");
        assert_eq!(bytes(&broken.join("final")), bytes(&whole.join("final")));
    }
}

#[test]
fn a_gpt_run_resumes_to_the_bit_after_every_step() {
    resumes_to_the_bit("gpt");
}

#[test]
fn a_bert_run_resumes_to_the_bit_after_every_step() {
    resumes_to_the_bit("bert");
}

#[test]
fn an_existing_run_and_a_contradicting_configuration_are_refused_and_nothing_is_lost() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    fs::create_dir(folder.join("text")).unwrap();
    corpus(&folder.join("text"));
    run(config(folder, "gpt", "whole"), Resume::Never).unwrap();
    let path = folder.join("whole").display().to_string();
    let before = bytes(&folder.join("whole/checkpoints/step-00000012"));

    let error = run(config(folder, "gpt", "whole"), Resume::Never).err().unwrap().to_string();
    let ways = "a run is here already: `--resume auto` continues it, another `run.name` starts a new one";
    assert_eq!(error, format!("{path}: {ways}"));

    let mut other = config(folder, "gpt", "whole");
    other.lr.peak = 2e-2;
    other.run.seed = 4;
    let error = run(other, Resume::Auto).err().unwrap().to_string();
    let differ = "was saved under another configuration: lr.peak, run.seed differ";
    assert_eq!(error, format!("{path}/checkpoints/step-00000012: {differ}"));

    let damaged = folder.join("whole/checkpoints/step-00000012/model.safetensors");
    let mut flipped = fs::read(&damaged).unwrap();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&damaged, &flipped).unwrap();
    let error = run(config(folder, "gpt", "whole"), Resume::Auto).err().unwrap().to_string();
    let text = format!("{path}/checkpoints/step-00000012: model.safetensors is damaged: expected hash ");
    assert!(error.starts_with(&text), "{error}");
    let after = bytes(&folder.join("whole/checkpoints/step-00000012"));
    assert!(before.iter().all(|(name, bytes)| name.ends_with("model.safetensors") || after[name] == *bytes));
}
