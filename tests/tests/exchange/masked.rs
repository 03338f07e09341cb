//! Growth behind masks: a checkpoint that training continues from, and notes of where it comes from.

use super::*;
use msg_core::optim::AdamWConfig;
use msg_models::{WidthInit, hf::TensorFile};
use msg_train::{
    checkpoint,
    config::{InitFrom, RunConfig, TokenizerKind},
    interop::provenance::{self, Layer, Run},
    metrics::Record,
    run::Resume,
};

fn grows_and_trains<M: Publishable>(family: &str) {
    for (units, new_layers) in
        [("normal", "stack"), ("zero", "fresh"), ("copy", "interpolate"), ("matched_std", "stack")]
    {
        let place = Place::new();
        published::<M>(&place, "there");
        let told = place.done(&[
            "grow",
            "--from",
            "there",
            "--to",
            "hidden=9,layers=3,ffn=11,heads=4",
            "--out",
            "grown",
            "--units",
            units,
            "--new-layers",
            new_layers,
            "--seed",
            "7",
            "--ramp",
            "4",
            "--ids",
            "1,2,3,4,5",
        ]);
        assert!(told.contains("max |dlogit| 0.0e0, dloss 0.0e0, 0 of "), "{told}");
        let shown = place.done(&["inspect", "grown"]);
        for part in [
            "mask    Hidden: 3 units from 6 at 0",
            "mask    Inner: 2 units from 6 at 0",
            "origin  grow of there",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let file = TensorFile::open(place.path("grown/model.safetensors")).unwrap();
        let steps = provenance::read(&file);
        let [step] = steps.as_slice() else { panic!("{steps:?}") };
        let source =
            blake3::hash(&fs::read(place.path("there/model.safetensors")).unwrap()).to_hex().to_string();
        assert_eq!((&step.source_blake3, step.source.as_str(), step.from), (&source, "there", SIZES));
        let maps = &step.growths[0];
        assert_eq!(maps.seed, 7);
        let copied = (maps.units == WidthInit::Copy).then_some(0);
        let run = |unit, count, source| Run { unit, count, source };
        let (old, new) = (run(0, 6, Some(0)), run(6, 3, copied));
        assert_eq!(maps.axes["Hidden"], [old, new], "{units}");
        assert_eq!(maps.layers.iter().filter(|layer| matches!(layer, Layer::Same(_))).count(), 2);
        assert!(step.receipt.unwrap().function_preserving);

        if units == "normal" {
            trains_on(&place, family);
        }
    }
}

/// A run that begins at the grown model raises its masks, and says at their end that nothing changed.
fn trains_on(place: &Place, family: &str) {
    let folder = place.0.path();
    place.write("text/a.txt", "ab ab a b ".repeat(200));
    let mut config: RunConfig = runs::config(folder, family, "run");
    config.init = Some(InitFrom { from: place.path("grown"), state: false });
    config.data.tokenizer.kind = TokenizerKind::File;
    config.data.tokenizer.vocab = None;
    config.data.tokenizer.path = Some(place.path("grown/tokenizer.json"));
    config.model.head_dim = Some(HEAD_DIM);
    config.model.positions = Some(8);
    config.model.vocab = Some(VOCAB);
    config.stages.truncate(1);
    let stage = &mut config.stages[0];
    (stage.layers, stage.hidden, stage.ffn, stage.heads) = (Some(3), Some(9), Some(11), Some(4));
    (stage.steps, stage.sequence) = (Some(6), Some(8));
    runs::run(config, Resume::Never).unwrap_or_else(|error| panic!("{error}"));
    let records = runs::records(&place.path("run"));
    let masks: Vec<f32> = records
        .iter()
        .filter_map(|record| match record {
            Record::Step(step) => Some(step.mask),
            _ => None,
        })
        .collect();
    assert_eq!(masks, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    let ends = records
        .iter()
        .filter(|record| matches!(record, Record::RampEnd(end) if end.receipt.function_preserving));
    assert_eq!(ends.count(), 1);
    // Moments are the run's: there are none to begin with.
    let refused =
        checkpoint::load::<Cpu, Gpt<Cpu>>(&place.path("grown"), &Cpu::default(), AdamWConfig::default());
    let text = refused.map(drop).unwrap_err().to_string();
    assert!(family != "gpt" || text.contains("a model without an optimizer"), "{text}");
}

#[test]
fn a_published_gpt_grows_by_every_rule_and_trains_on() {
    grows_and_trains::<Gpt<Cpu>>("gpt");
}

#[test]
fn a_published_bert_grows_by_every_rule_and_trains_on() {
    grows_and_trains::<Bert<Cpu>>("bert");
}

#[test]
fn a_receipt_is_taken_on_text_and_growth_goes_on_inside_a_ramp() {
    let place = Place::new();
    published::<Bert<Cpu>>(&place, "there");
    place.write("words.txt", "ab ab b a");
    let told =
        place.done(&["grow", "--from", "there", "--to", "ffn=9", "--out", "one", "--text", "words.txt"]);
    assert!(told.contains("text of words.txt: 1 x 8") && told.contains("0.0e0"), "{told}");
    let told = place.done(&["grow", "--from", "one", "--to", "ffn=12,hidden=8", "--out", "two"]);
    assert!(told.contains("random ids (the model has no run): 2 x 8") && told.contains("0.0e0"), "{told}");
    let file = TensorFile::open(place.path("two/model.safetensors")).unwrap();
    let operations: Vec<String> = provenance::read(&file).into_iter().map(|step| step.operation).collect();
    assert_eq!(operations, ["grow", "grow"]);
    place.refused(
        &["grow", "--from", "two", "--to", "ffn=14", "--exact", "--out", "never"],
        &["a ramp has not ended"],
    );
}
