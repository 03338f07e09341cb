//! Receipts through the whole trainer: a growth that changes the function stops the run, and nothing is lost.

use crate::runs::{STEPS, bytes, checkpoint, config, copy_folder, corpus, records, run, run_with, steps};
use dfdx::tensor::Cpu;
use msg_models::{MaskPlace, MaskSite, bert::Bert, gpt::Gpt};
use msg_tests::families::Family;
use msg_train::{
    Error, Fault,
    metrics::{Receipt, Record},
    run::Resume,
};
use std::{fs, path::Path};

/// The steps before the two growths: of all widths, and of layers.
const WIDTHS: u64 = 4;
const LAYERS: u64 = 8;

/// The last checkpoint of a run, but for what names its folder.
fn weights(run: &Path) -> Vec<(String, Vec<u8>)> {
    let files = bytes(&run.join(checkpoint(STEPS))).into_iter();
    let files = files.map(|(name, bytes)| (name.display().to_string(), bytes));
    files.filter(|(name, _)| name != "config.toml" && name != "checkpoint.json").collect()
}

/// Refused at the growth after `step`, with that step's checkpoint as the last one, and whole.
fn assert_stopped(what: &str, error: &Error, run: &Path, step: u64) {
    assert!(matches!(error, Error::Receipt(_)), "{what}: {error}");
    let start =
        format!("growth into stage {} after step {step}: the model computes another function", step / 4 + 1);
    assert!(error.to_string().starts_with(&start), "{what}: {error}");
    assert!(run.join(checkpoint(step)).is_dir() && !run.join(checkpoint(step + 1)).exists(), "{what}");
    assert_eq!(steps(run).len() as u64, step, "{what}");
}

/// `sites` are those whose masks the growth of widths needs.
fn stops_at_the_boundary_and_resumes(family: &str, sites: &[MaskSite]) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    let whole = folder.join("whole");
    run(config(folder, family, "whole"), Resume::Never).unwrap();
    let (last, metrics) = (weights(&whole), fs::read(whole.join("metrics.jsonl")).unwrap());
    // A run under the name of the whole one, in a folder of its own.
    let elsewhere = |name: &str| {
        let mut config = config(folder, family, "whole");
        config.run.dir = Some(folder.join(name));
        config
    };

    let value = Fault::OmittedMask(MaskSite::in_layer(0, MaskPlace::Value));
    for (name, fault) in [("altered", Fault::AlteredEntry), ("omitted", value)] {
        let broken = folder.join(name);
        let error = run_with(elsewhere(name), Resume::Never, Some(fault)).unwrap_err();
        assert_stopped(name, &error, &broken, WIDTHS);
        assert_eq!(
            bytes(&broken.join(checkpoint(WIDTHS))).len(),
            bytes(&whole.join(checkpoint(WIDTHS))).len()
        );
        run(elsewhere(name), Resume::Auto).unwrap();
        assert!(weights(&broken) == last, "{family}: {name}: weights after a resume");
        assert!(fs::read(broken.join("metrics.jsonl")).unwrap() == metrics, "{family}: {name}: metrics");
    }

    // Every other mask, from the checkpoint before the growth that needs it.
    let gate = Fault::OmittedMask(MaskSite::in_layer(1, MaskPlace::Layer));
    let omitted = sites.iter().map(|&site| (WIDTHS, Fault::OmittedMask(site)));
    for (step, fault) in omitted.chain([(LAYERS, gate), (LAYERS, Fault::AlteredEntry)]) {
        let what = format!("{family}: {fault:?}");
        let broken = folder.join("broken");
        copy_folder(&whole, &broken);
        for later in step + 1..=STEPS {
            fs::remove_dir_all(broken.join(checkpoint(later))).unwrap();
        }
        let before = bytes(&broken.join(checkpoint(step)));
        let error = run_with(elsewhere("broken"), Resume::Auto, Some(fault)).unwrap_err();
        assert_stopped(&what, &error, &broken, step);
        assert!(bytes(&broken.join(checkpoint(step))) == before, "{what}: the checkpoint");
        if step == LAYERS {
            run(elsewhere("broken"), Resume::Auto).unwrap();
            assert!(weights(&broken) == last, "{what}: weights after a resume");
        }
        fs::remove_dir_all(&broken).unwrap();
    }
}

#[test]
fn a_gpt_whose_growth_goes_wrong_stops_at_the_boundary_and_resumes_to_the_bit() {
    stops_at_the_boundary_and_resumes("gpt", &<Gpt<Cpu> as Family<Cpu>>::sites(1));
}

#[test]
fn a_bert_whose_growth_goes_wrong_stops_at_the_boundary_and_resumes_to_the_bit() {
    stops_at_the_boundary_and_resumes("bert", &<Bert<Cpu> as Family<Cpu>>::sites(1));
}

#[test]
fn masks_start_at_one_step_of_their_ramp_and_every_growth_and_ramp_end_has_its_receipt() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    for family in ["gpt", "bert"] {
        run(config(folder, family, family), Resume::Never).unwrap();
        // Ramps of 6 from step 5 on and of 3 from step 9 on; the smaller value counts.
        let expected: Vec<f32> = (1..=STEPS)
            .map(|step| {
                let ramp = |start: u64, length: u64| match step.saturating_sub(start) {
                    0 => 1.0,
                    since => (since as f32 / length as f32).min(1.0),
                };
                ramp(WIDTHS, 6).min(ramp(LAYERS, 3))
            })
            .collect();
        let steps = steps(&folder.join(family));
        assert_eq!(steps.iter().map(|step| step.mask).collect::<Vec<_>>(), expected, "{family}");
        assert_eq!((steps[4].mask, steps[8].mask), (1.0 / 6.0, 1.0 / 3.0));

        let mut receipts = Vec::new();
        for record in records(&folder.join(family)) {
            let (kind, step, receipt) = match record {
                Record::Growth(growth) => ("growth", growth.step, growth.receipt),
                Record::RampEnd(end) => ("ramp end", end.step, end.receipt),
                _ => continue,
            };
            let exact = Receipt { max_dlogit: 0.0, dloss: 0.0, tolerance: 0.0, function_preserving: true };
            assert_eq!(receipt, exact, "{family}: {kind} at step {step}");
            receipts.push((kind, step));
        }
        let expected = [("growth", 5), ("growth", 9), ("ramp end", 10), ("ramp end", 11)];
        assert_eq!(receipts, expected, "{family}");
    }
}
