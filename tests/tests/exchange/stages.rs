//! Checkpoints of other stages and types.

use super::*;
use msg_models::hf::TensorFile;

#[test]
fn a_checkpoint_becomes_one_of_a_later_stage_or_another_type() {
    let place = Place::new();
    runs::corpus(place.0.path());
    for family in ["gpt", "bert"] {
        runs::run(runs::config(place.0.path(), family, family), msg_train::run::Resume::Never).unwrap();
        let first = format!("{family}/{}", runs::checkpoint(4));
        let (all, half) = (format!("{family}-all"), format!("{family}-half"));
        let told = place.done(&["convert", &first, "--stage", "3", "--out", &all]);
        for part in
            ["stage 1: 1 layers, hidden 6", "stage 3: 2 layers, hidden 9", "text of ", "max |dlogit| 0.0e0"]
        {
            assert!(told.contains(part), "{part}: {told}");
        }
        // Each boundary has its own ramp; both stand at 0.
        let shown = place.done(&["inspect", &all]);
        assert!(
            shown.contains("step    4, stage 3 of 3") && shown.contains("mask    layers: 1 from 1 at 0"),
            "{shown}"
        );
        place.done(&["convert", &all, "--dtype", "bf16", "--out", &half]);
        let file = TensorFile::open(place.path(&half).join("model.safetensors")).unwrap();
        let tensors = file.tensors();
        assert!(tensors.names().iter().all(|name| tensors.raw(name).unwrap().0 == "BF16"));
        assert!(place.done(&["eval", &half]).contains("loss"));
        // Types are kept where nothing is said.
        let last = format!("{family}-last");
        place.done(&["convert", &half, "--stage", "3", "--out", &last]);
        let (kept, again) = (TensorFile::open(place.path(&last).join("model.safetensors")).unwrap(), file);
        let name = &again.tensors().names()[0];
        assert_eq!(kept.tensors().raw(name).unwrap(), again.tensors().raw(name).unwrap());
        place.refused(
            &["convert", &all, "--stage", "1", "--out", "never"],
            &["stage: expected 3 to 3", "got 1"],
        );
        place.refused(&["convert", &first, "--stage", "9", "--out", "never"], &["stage: expected 1 to 3"]);
        place.refused(&["convert", &first, "--out", "never"], &["stage: expected a stage or a type"]);
    }
}
