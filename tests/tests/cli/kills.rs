//! A run that is killed at random moments and resumed each time ends in the bytes of the unbroken one.

use super::*;
use msg_core::random::{Key, philox4x32};
use std::{fs::OpenOptions, process::Child};

const KILLS: usize = 25;
const STEPS: u64 = 20;

/// Numbers that are the same in every run of the test.
struct Random {
    key: Key,
    drawn: u32,
}

impl Random {
    /// A number from 0 to below 1.
    fn share(&mut self) -> f64 {
        let [word, ..] = philox4x32([self.drawn, 0, 0, 0], self.key);
        self.drawn += 1;
        f64::from(word) / 2_f64.powi(32)
    }
}

/// What was hit.
#[derive(Debug, Default)]
struct Hits {
    kills: usize,
    /// Kills while a checkpoint was written.
    saving: usize,
    /// Kills before the process had made a step.
    early: usize,
}

/// Whether the process is still there to be killed, and killed it.
fn killed(process: &mut Child) -> bool {
    let running = process.try_wait().unwrap().is_none();
    if running {
        process.kill().unwrap();
    }
    let status = process.wait().unwrap();
    // It may have ended by itself in between.
    running && !status.success()
}

/// One life of the run: it is killed `delay` after its first step here, or after its start. Gives whether
/// it was killed, or made all steps before.
fn live(place: &Place, early: bool, delay: Duration) -> bool {
    let said = OpenOptions::new().create(true).append(true).open(place.path("stderr")).unwrap();
    let mut command = place.command(&["train", "tiny.toml", "--resume", "auto"]);
    let before = checkpoints(&place.path("runs/tiny")).pop();
    let mut process = command.stdout(Stdio::null()).stderr(said).spawn().unwrap();
    if !early {
        wait_for("a step", || {
            let last = checkpoints(&place.path("runs/tiny")).pop();
            let moved = last.is_some_and(|last| last.starts_with("step-") && Some(last) != before);
            moved || process.try_wait().unwrap().is_some()
        });
    }
    std::thread::sleep(delay);
    killed(&mut process)
}

fn survives_kills(family: &str) {
    let whole = Place::new(family, STEPS);
    let time = |words: &[&str]| {
        let start = Instant::now();
        whole.done(words);
        start.elapsed()
    };
    // From the start of a process to its first step; all steps.
    let (starting, all) = (time(&["data", "prepare", "tiny.toml"]), time(&["train", "tiny.toml"]));
    let expected = whole.results("runs/tiny");
    let mut random = Random { key: Key::new(7, family, 0), drawn: 0 };
    let mut hits = Hits::default();
    while hits.kills < KILLS {
        let place = Place::new(family, STEPS);
        let run = place.path("runs/tiny");
        let mut finished = false;
        while !finished && hits.kills < KILLS {
            let early = random.share() < 0.25;
            // A life is broken off while it begins, or after a few steps.
            let longest = if early { starting } else { all.mul_f64(5.0 / (3 * STEPS) as f64) };
            let delay = longest.mul_f64(random.share());
            let before = checkpoints(&run).pop();
            let killed = live(&place, early, delay);
            finished = !killed;
            hits.kills += usize::from(killed);
            hits.saving += usize::from(checkpoints(&run).iter().any(|name| name.starts_with(".saving-")));
            hits.early += usize::from(killed && checkpoints(&run).pop() == before);
        }
        place.done(&["train", "tiny.toml", "--resume", "auto"]);
        let left = checkpoints(&run);
        assert!(left.len() == 2 && left.iter().all(|name| name.starts_with("step-")), "{left:?}");
        assert_same(&place.results("runs/tiny"), &expected, &format!("{family}, {hits:?}"));
        let said = fs::read_to_string(place.path("stderr")).unwrap();
        assert!(!said.contains("panicked") && !said.contains("msg: "), "{said}");
    }
    println!("{family}: {hits:?}, {starting:?} to start, {all:?} unbroken");
    assert!(hits.kills == KILLS && hits.saving > 0 && hits.early > 0, "{hits:?}");
}

#[test]
fn a_gpt_run_survives_being_killed_at_random_moments() {
    survives_kills("gpt");
}

#[test]
fn a_bert_run_survives_being_killed_at_random_moments() {
    survives_kills("bert");
}

#[test]
fn a_checkpoint_that_gave_way_for_nothing_is_found_again() {
    let whole = Place::new("gpt", 2);
    whole.done(&["train", "tiny.toml"]);
    let expected = whole.results("runs/tiny");
    let place = Place::new("gpt", 2);
    place.done(&["train", "tiny.toml"]);
    // As if the run had died between the two renames that replace its last checkpoint.
    let all = place.path("runs/tiny/checkpoints");
    fs::rename(all.join("step-00000006"), all.join(".replaced-6")).unwrap();
    fs::remove_dir_all(all.join("step-00000005")).unwrap();
    fs::create_dir(all.join(".saving-abc")).unwrap();
    fs::create_dir(all.join(".removing-4")).unwrap();
    place.done(&["train", "tiny.toml", "--resume", "auto"]);
    assert_eq!(checkpoints(&place.path("runs/tiny")), ["step-00000006"]);
    assert_same(&place.results("runs/tiny"), &expected, "recovered");
}
