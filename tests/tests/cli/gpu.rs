//! The command on a GPU, or on one that is missing or too small.

use super::{Place, assert_refused, checkpoints};
use std::fs;

#[test]
fn cuda_commands_refuse_a_gpu_that_is_not_there_in_one_line() {
    let place = Place::new("gpt", 1);
    place.done(&["train", "tiny.toml"]);
    for words in [
        &["train", "tiny.toml", "--resume", "auto"][..],
        &["eval", "runs/tiny"],
        &["generate", "runs/tiny"],
        &["verify", "runs/tiny"],
    ] {
        let words = |device: &'static str| [words, &["--device", device]].concat();
        let output = place.msg(&words("cuda:7"));
        assert_refused(&output, &["there is no GPU 7"], false);
        // As on a machine that has the driver and no GPU. Only the emulator can be told to have none.
        if std::env::var_os("EMU_CACHE").is_some() {
            let output = place.command(&words("cuda")).env("EMU_DEVICES", "0").output().unwrap();
            assert_refused(&output, &["CUDA_ERROR_NO_DEVICE"], false);
        }
    }
}

#[test]
fn cuda_trains_evaluates_generates_and_verifies() {
    let place = Place::new("bert", 2);
    place.done(&["train", "tiny.toml", "--device", "cuda"]);
    assert_eq!(checkpoints(&place.path("runs/tiny")).last().unwrap(), "step-00000006");
    let figures = |words: &[&str]| String::from_utf8(place.done(words).stdout).unwrap();
    let (cpu, cuda) =
        (figures(&["eval", "runs/tiny"]), figures(&["eval", "runs/tiny", "--device", "cuda:0"]));
    let loss = |text: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with("loss")).unwrap();
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    assert!((loss(&cpu) - loss(&cuda)).abs() <= 1e-3, "{cpu}\n{cuda}");
    place.done(&["generate", "runs/tiny", "--prompt", "grow [MASK] layer.", "--device", "cuda"]);
    place.done(&["verify", "runs/tiny", "--device", "cuda"]);
}

/// The most device memory that a run takes, in bytes, as the emulator counts it.
fn peak(place: &Place) -> u64 {
    let counted = place.path("counted");
    let mut command = place.command(&["train", "tiny.toml", "--device", "cuda"]);
    assert!(command.env("EMU_STATS", &counted).output().unwrap().status.success());
    let report: serde_json::Value = serde_json::from_slice(&fs::read(counted).unwrap()).unwrap();
    report["peak_bytes"].as_u64().unwrap()
}

#[test]
fn cuda_without_memory_ends_a_run_in_one_line_with_the_ways_out_and_keeps_the_checkpoint() {
    if std::env::var_os("EMU_CACHE").is_none() {
        println!("not on the emulator: nothing limits the memory");
        return;
    }
    let place = Place::new("gpt", 1);
    let run = place.path("runs/tiny");
    let ways = "train.micro_batch below 2, train.recompute = true, train.precision = \"bf16\"";
    let peak = peak(&place);
    let mut broken_off = 0;
    // The last stage is the largest: with some of the shares the ones before it find enough.
    for percent in [40, 60, 75, 85, 95] {
        fs::remove_dir_all(place.path("runs")).unwrap();
        let mut command = place.command(&["train", "tiny.toml", "--device", "cuda"]);
        let output = command.env("EMU_MEM", (peak * percent / 100).to_string()).output().unwrap();
        assert_refused(&output, &["out of memory on the device", "the plan estimates", ways], false);
        if checkpoints(&run).is_empty() {
            continue;
        }
        broken_off += 1;
        let words = ["--device", "cuda", "--resume", "auto", "--set", "train.micro_batch=1"];
        place.done(&[&["train", "tiny.toml"][..], &words].concat());
        assert_eq!(checkpoints(&run).last().unwrap(), "step-00000003");
    }
    assert!(broken_off > 0, "no run ended after a checkpoint");
    // Too little to open the device at all.
    let output =
        place.command(&["eval", "runs/tiny", "--device", "cuda"]).env("EMU_MEM", "16").output().unwrap();
    assert_refused(&output, &["out of memory on the device"], true);
}
