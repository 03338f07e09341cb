//! Gradient accumulation: n micro-batches of m sequences are one batch of n m, growth and ramps included.

use crate::runs::{STEPS, config, corpus, run, steps};
use msg_core::{ops::cross_entropy::IGNORED, optim::AdamWConfig};
use msg_tests::close::assert_close;
use msg_train::{
    config::{OptimizerConfig, RunConfig},
    data::{Batches, Mlm, open::open_data},
    families::registry,
    metrics::Step,
    run::Resume,
};
use safetensors::SafeTensors;
use std::{collections::BTreeSet, fs, path::Path};

/// Sums over some 50 labels and positions are added in another order, so each step's loss and gradients differ
/// by a few roundings of 6e-8; twelve steps carry these on. Averaging the means of micro-batches instead would
/// differ by the spread of their label counts, some 1e-2.
const BOUND: f64 = 1e-5;

/// The small run with micro-batches of so many sequences, without dropout (whose draws are per micro-batch).
fn small(folder: &Path, family: &str, micro: usize) -> RunConfig {
    let mut config = config(folder, family, &format!("{family}-{micro}"));
    config.model.dropout = Some(0.0);
    config.train.micro_batch = Some(micro);
    // Half of 8 or 9 tokens are 4 or 5 labels; the usual share would be one label in every sequence.
    if family == "bert" {
        config.data.mlm.rate = 0.5;
    }
    // Makes the update a smooth function of the gradient. With the usual 1e-8 an entry whose gradient is zero
    // but for rounding (a bias of the keys) would move by the whole rate in a direction that rounding draws.
    config.optimizer = OptimizerConfig::AdamW(AdamWConfig { eps: 1e-2, ..AdamWConfig::default() });
    config
}

fn weights(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let file = fs::read(folder.join("final/model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let floats = |bytes: &[u8]| bytes.chunks(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect();
    let mut weights: Vec<(String, Vec<f32>)> =
        tensors.iter().map(|(name, tensor)| (name.to_owned(), floats(tensor.data()))).collect();
    weights.sort_by(|a, b| a.0.cmp(&b.0));
    weights
}

fn accumulates(folder: &Path, family: &str) {
    let finished = |micro| -> (Vec<Step>, Vec<(String, Vec<f32>)>) {
        let outcome = run(small(folder, family, micro), Resume::Never).unwrap();
        assert!(outcome.finished);
        (steps(&outcome.folder), weights(&outcome.folder))
    };
    let (whole, weights) = finished(4);
    assert_eq!(whole.len() as u64, STEPS);
    assert!(whole.iter().any(|step| step.stage == 3 && step.mask < 1.0));
    let of = |steps: &[Step], what: fn(&Step) -> f32| steps.iter().map(what).collect::<Vec<_>>();
    let flat =
        |weights: &[(String, Vec<f32>)]| weights.iter().flat_map(|(_, w)| w.clone()).collect::<Vec<_>>();
    // What it learned is far more than the bound.
    assert!(whole[0].loss - whole[11].loss > 0.01, "{family}: {} to {}", whole[0].loss, whole[11].loss);
    for micro in [1, 2] {
        let (parts, parts_weights) = finished(micro);
        let what = |what: &str| format!("{family}, micro-batches of {micro}: {what}");
        assert_close(&what("losses"), &of(&whole, |s| s.loss), &of(&parts, |s| s.loss), BOUND);
        assert_close(&what("norms"), &of(&whole, |s| s.grad_norm), &of(&parts, |s| s.grad_norm), BOUND);
        let names =
            |weights: &[(String, Vec<f32>)]| weights.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>();
        assert_eq!(names(&weights), names(&parts_weights));
        assert_close(&what("weights"), &flat(&weights), &flat(&parts_weights), BOUND);
        assert_ne!(flat(&weights), flat(&parts_weights), "{}", what("the same sums: nothing was compared"));
    }
}

#[test]
fn gpt_micro_batches_are_one_batch() {
    let temporary = tempfile::tempdir().unwrap();
    corpus(temporary.path());
    accumulates(temporary.path(), "gpt");
}

#[test]
fn bert_micro_batches_with_different_numbers_of_labels_are_one_batch() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    let config = registry::resolve(small(folder, "bert", 1)).unwrap();
    let data = open_data(&config, &mut |_, _, _| {}).unwrap();
    let batches = Mlm::new(data, config.run().seed, config.data().mlm).unwrap();
    let labels = |cursor| {
        let batch = batches.batch(cursor, 1, 12).unwrap();
        batch.labels.iter().filter(|&&label| label != IGNORED).count()
    };
    let of_steps: Vec<BTreeSet<usize>> =
        (0..STEPS).map(|step| (4 * step..4 * step + 4).map(labels).collect()).collect();
    assert!(of_steps.iter().all(|counts| counts.iter().all(|&count| count > 0)), "{of_steps:?}");
    assert!(of_steps.iter().filter(|counts| counts.len() > 1).count() >= 6, "{of_steps:?}");
    accumulates(folder, "bert");
}
