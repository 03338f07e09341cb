//! Checkpoints opened on Cuda: `msg eval` and `msg generate` say there what they say on the Cpu.

use super::gpu;
use crate::runs::{checkpoint, config, corpus, run_on};
use dfdx::tensor::Cpu;
use msg_core::{Backend, ops::Precision};
use msg_tests::close::assert_close;
use msg_train::{
    checkpoint::{Saved, open},
    eval::{Choice, evaluate_saved},
    families::held_out::{HeldOut, Term},
    generate::{Request, continued, fill, prompt_ids, sampling::Sampling},
    run::Resume,
};
use std::path::Path;

/// A step inside a ramp.
const MID_RAMP: u64 = 6;

/// The folder of a checkpoint inside a ramp.
fn trained(folder: &Path, family: &str, precision: Precision) -> std::path::PathBuf {
    corpus(folder);
    let mut config = config(folder, family, "run");
    config.train.precision = precision;
    run_on(Cpu::default(), config, Resume::Never, None).unwrap_or_else(|error| panic!("{error}"));
    folder.join("run").join(checkpoint(MID_RAMP))
}

fn on<D: Backend>(folder: &Path, device: &D) -> Saved<D> {
    open(folder, device).unwrap_or_else(|error| panic!("{error}"))
}

/// The figures of a checkpoint on both devices. Of right answers a few may change where two logits nearly agree.
fn evaluates_as_on_the_cpu(family: &str, precision: Precision, tolerance: f64) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = trained(temporary.path(), family, precision);
    let expected = evaluate_saved(&on(&folder, &Cpu::default()), &Choice::default()).unwrap().held_out;
    let got = evaluate_saved(&on(&folder, &gpu()), &Choice::default()).unwrap().held_out;
    let counts = |figures: &HeldOut| {
        (figures.sequences, figures.terms.iter().map(|term| term.labels).collect::<Vec<_>>())
    };
    assert_eq!(counts(&expected), counts(&got));
    assert!(expected.tokens().labels > 20, "too few labels to say anything");
    let losses = |figures: &HeldOut| figures.terms.iter().map(Term::loss).collect::<Vec<_>>();
    assert_close("losses", &losses(&expected), &losses(&got), tolerance);
    let allowed = (tolerance * 10.0 * expected.tokens().labels as f64).ceil() as u64;
    assert!(expected.tokens().right.abs_diff(got.tokens().right) <= allowed, "{expected:?}, {got:?}");
}

#[test]
fn cuda_evaluates_a_gpt_as_the_cpu() {
    evaluates_as_on_the_cpu("gpt", Precision::F32, 1e-5);
    evaluates_as_on_the_cpu("gpt", Precision::Bf16, 1.0 / 256.0);
}

#[test]
fn cuda_evaluates_a_bert_as_the_cpu() {
    evaluates_as_on_the_cpu("bert", Precision::F32, 1e-5);
    evaluates_as_on_the_cpu("bert", Precision::Bf16, 1.0 / 256.0);
}

/// The ids that a checkpoint writes after a prompt, longer than its context.
fn written<D: Backend>(saved: &Saved<D>, sampling: Sampling) -> Vec<u32> {
    let (model, tokenizer) = (&*saved.model, saved.tokenizer().unwrap());
    let prompt = prompt_ids(tokenizer, "grow mask").unwrap();
    let request = Request { tokens: 20, sampling, step: MID_RAMP };
    continued(model, tokenizer, &prompt, &request, &mut |_| Ok(())).unwrap()
}

#[test]
fn cuda_writes_what_the_cpu_writes() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = trained(temporary.path(), "gpt", Precision::F32);
    let (cpu, cuda) = (on(&folder, &Cpu::default()), on(&folder, &gpu()));
    let greedy = Sampling { temperature: 0.0, top_k: None, top_p: 1.0, seed: 0 };
    assert_eq!(written(&cpu, greedy), written(&cuda, greedy));
    let drawn = Sampling { temperature: 1.0, seed: 5, ..greedy };
    assert_eq!(written(&cpu, drawn), written(&cuda, drawn));
    assert_ne!(written(&cuda, greedy), written(&cuda, drawn));
}

#[test]
fn cuda_fills_masks_as_the_cpu() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = trained(temporary.path(), "bert", Precision::F32);
    fn filled<D: Backend>(saved: &Saved<D>) -> (Vec<u32>, Vec<f64>) {
        let (model, tokenizer) = (&*saved.model, saved.tokenizer().unwrap());
        let filled = fill(model, tokenizer, "grow [MASK] layer [MASK]", 3, MID_RAMP).unwrap();
        let all = filled.places.into_iter().flatten();
        all.map(|candidate| (candidate.id, candidate.probability)).unzip()
    }
    let (expected, got) = (filled(&on(&folder, &Cpu::default())), filled(&on(&folder, &gpu())));
    assert_eq!((expected.0.len(), &expected.0), (6, &got.0));
    assert_close("probabilities", &expected.1, &got.1, 1e-5);
}
