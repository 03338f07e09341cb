//! A run that is asked to stop, a folder that is in use, a run that is there already.

use super::*;

/// Starts a run that is long enough to be met half-way, and waits until it is under way.
fn under_way(place: &Place) -> std::process::Child {
    let mut command = place.command(&["train", "tiny.toml", "--set", "train.checkpoint_every=0"]);
    let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the first steps", || metric_lines(&place.path("runs/tiny")) > 5);
    process
}

#[cfg(unix)]
#[test]
fn a_signal_saves_and_the_run_goes_on_to_the_same_bytes() {
    let resume = ["train", "tiny.toml", "--set", "train.checkpoint_every=0", "--resume", "auto"];
    let whole = Place::new("gpt", 200);
    whole.done(&resume);
    let expected = whole.results("runs/tiny");
    for name in ["INT", "TERM"] {
        let place = Place::new("gpt", 200);
        let process = under_way(&place);
        signal(&process, name);
        let output = process.wait_with_output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(130), "{text}");
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("stopped after step ") && last.ends_with("`--resume auto` continues"),
            "{text}"
        );
        let left = checkpoints(&place.path("runs/tiny"));
        let step: u64 = left[left.len() - 1].trim_start_matches("step-").parse().unwrap();
        assert!(step < 600 && last.contains(&format!("step {step};")), "{text}, {left:?}");
        place.done(&resume);
        let mut results = place.results("runs/tiny");
        assert_same(&results, &expected, name);
        // A finished run is left as it is.
        place.done(&resume);
        results.retain(|name, _| !name.ends_with("scalars"));
        let again = place.results("runs/tiny");
        assert!(results.iter().all(|(name, bytes)| again[name] == *bytes));
    }
}

#[test]
fn a_run_in_use_is_refused_to_others() {
    let place = Place::new("gpt", 5000);
    let mut process = under_way(&place);
    for words in [&["train", "tiny.toml"][..], &["train", "tiny.toml", "--resume", "auto"]] {
        assert_refused(&place.msg(words), &["msg: runs/tiny: is in use by another process"], true);
    }
    process.kill().unwrap();
    process.wait().unwrap();
    // The lock died with its process.
    let output = place.msg(&["train", "tiny.toml"]);
    assert_refused(&output, &["runs/tiny: a run is here already"], true);
}

#[test]
fn a_run_that_is_there_is_refused_with_the_two_ways_out() {
    let place = Place::new("gpt", 1);
    place.done(&["train", "tiny.toml"]);
    let before = place.results("runs/tiny");
    let ways = "msg: runs/tiny: a run is here already: `--resume auto` continues it, another `run.name` starts a new one";
    // Also where the text is gone: the folder is looked at first.
    for words in [&["train", "tiny.toml"][..], &["train", "tiny.toml", "--set", "data.sources=[\"none\"]"]] {
        let output = place.msg(words);
        assert_refused(&output, &[ways], true);
        assert_eq!(stderr(&output).trim_end(), ways);
    }
    assert_same(&place.results("runs/tiny"), &before, "after the refusal");
    place.done(&["train", "tiny.toml", "--set", "run.name=other"]);
    assert!(place.path("runs/other/final/model.safetensors").is_file());
}

#[cfg(target_os = "linux")]
#[test]
fn output_without_a_reader_ends_no_run_and_lost_results_are_said() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let place = Place::new("gpt", 1);
    // The terminal is gone: the run does not need it.
    let status =
        place.command(&["train", "tiny.toml"]).stdout(Stdio::null()).stderr(full()).status().unwrap();
    assert!(status.success() && place.path("runs/tiny/final/model.safetensors").is_file());
    let output = place.command(&["plan", "tiny.toml"]).stdout(full()).output().unwrap();
    assert_refused(&output, &["msg: standard output: No space left on device"], true);
    // A reader that has enough closes its pipe.
    let mut process = place.command(&["plan", "tiny.toml"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(process.stdout.take());
    assert!(process.wait().unwrap().success());
}
