//! A run that is broken off anywhere and resumed ends in the same bytes as the unbroken one.

use crate::runs::{STEPS, bytes, checkpoint, config, copy_folder, corpus, run, steps};
use msg_core::{
    ops::Precision,
    optim::{AdamWConfig, MuonConfig, OptimizerConfig, Rule},
};
use msg_tests::optimizers::every_optimizer;
use msg_train::{config::RunConfig, families::registry, run::Resume};
use std::{fs, path::Path};

/// A run's configuration; BERT's runs compute in bf16, so that both precisions are resumed.
fn of(folder: &Path, family: &str, optimizer: OptimizerConfig) -> RunConfig {
    let mut config = config(folder, family, "whole");
    config.optimizer = optimizer;
    if family == "bert" {
        config.train.precision = Precision::Bf16;
    }
    config
}

fn resumes_to_the_bit(family: &str, optimizer: OptimizerConfig) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    let whole = folder.join("whole");
    let outcome = run(of(folder, family, optimizer), Resume::Never).unwrap_or_else(|e| panic!("{e}"));
    assert!(outcome.finished && outcome.step == STEPS);
    let last = checkpoint(STEPS);
    let (weights, metrics) = (bytes(&whole.join(&last)), fs::read(whole.join("metrics.jsonl")).unwrap());
    for slot in optimizer.slots() {
        assert!(weights.contains_key(Path::new(&format!("{slot}.safetensors"))));
    }
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
            fs::remove_dir_all(broken.join(checkpoint(later))).unwrap();
        }
        let cut = metrics.len() - step as usize;
        fs::write(broken.join("metrics.jsonl"), &metrics[..cut]).unwrap();
        fs::remove_dir_all(broken.join("final")).unwrap();
        // The run's folder is no part of what must be the same.
        let mut again = of(folder, family, optimizer);
        again.run.dir = Some(broken.clone());
        let saved = broken.join(checkpoint(step)).join("config.toml");
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
fn a_run_of_every_family_resumes_to_the_bit_after_every_step() {
    for family in registry::names() {
        resumes_to_the_bit(family, OptimizerConfig::default());
    }
}

#[test]
fn a_run_with_every_other_optimizer_resumes_to_the_bit_after_every_step() {
    for optimizer in every_optimizer().filter(|optimizer| *optimizer != OptimizerConfig::default()) {
        resumes_to_the_bit("gpt", optimizer);
        resumes_to_the_bit("bert", optimizer);
    }
}

#[test]
fn a_run_with_muon_and_weight_decay_resumes_to_the_bit_after_every_step() {
    resumes_to_the_bit("gpt", MuonConfig { weight_decay: 0.1, ..MuonConfig::default() }.into());
}

#[test]
fn a_run_is_not_resumed_with_the_state_of_another_optimizer() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    let (adamw, muon): (OptimizerConfig, OptimizerConfig) =
        (AdamWConfig::default().into(), MuonConfig::default().into());
    for (first, second) in [(adamw, muon), (muon, adamw)] {
        let name = first.kind();
        let of = |optimizer| {
            let mut config = config(folder, "gpt", name);
            config.optimizer = optimizer;
            config
        };
        run(of(first), Resume::Never).unwrap();
        let error = run(of(second), Resume::Auto).err().unwrap().to_string();
        let expected =
            format!("expected the optimizer {:?}, got the state of {:?}", second.kind(), first.kind());
        assert!(error.ends_with(&expected), "{error}");
        let state = fs::read_to_string(folder.join(name).join(checkpoint(STEPS)).join("state.json")).unwrap();
        // Checkpoints of AdamW say it by leaving it out, as early ones do.
        assert_eq!(state.contains("\"optimizer\""), first.kind() == "muon", "{state}");
    }
}

#[test]
fn how_much_is_done_at_once_may_change_at_a_resume() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    let of = |name: &str| {
        let mut config = config(folder, "gpt", name);
        config.model.dropout = Some(0.0);
        config
    };
    run(of("whole"), Resume::Never).unwrap_or_else(|error| panic!("{error}"));
    let broken = folder.join("broken");
    copy_folder(&folder.join("whole"), &broken);
    for later in 7..=STEPS {
        fs::remove_dir_all(broken.join(checkpoint(later))).unwrap();
    }
    let mut again = of("whole");
    again.run.dir = Some(broken.clone());
    (again.train.micro_batch, again.train.recompute) = (Some(1), true);
    run(again, Resume::Auto).unwrap_or_else(|error| panic!("{error}"));
    let (expected, got) = (steps(&folder.join("whole")), steps(&broken));
    assert_eq!(got.len() as u64, STEPS);
    for (e, g) in expected.iter().zip(&got) {
        assert!((e.loss - g.loss).abs() <= 1e-4 * e.loss, "step {}: {} and {}", e.step, e.loss, g.loss);
    }
}

#[test]
fn an_existing_run_and_a_contradicting_configuration_are_refused_and_nothing_is_lost() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
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
