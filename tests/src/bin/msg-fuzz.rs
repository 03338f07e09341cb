//! Feeds readers with hostile files for as long as it is told: see `msg_tests::fuzz`.

use msg_tests::fuzz::{Counting, TARGETS, fuzz};
use std::{env, path::Path, process::ExitCode, time::Duration};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HELP: &str =
    "msg-fuzz [--seconds N] [--seed N] [READER ..]: by default 60 seconds of each reader, seed 0.";

fn main() -> ExitCode {
    let (mut seconds, mut seed, mut chosen) = (60, 0, Vec::new());
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        match word.as_str() {
            "--seconds" | "--seed" => match (number(), word.as_str()) {
                (Some(given), "--seconds") => seconds = given,
                (Some(given), _) => seed = given,
                (None, _) => return help(),
            },
            name => match TARGETS.iter().find(|target| target.name == name) {
                Some(target) => chosen.push(*target),
                None => return help(),
            },
        }
    }
    let targets = if chosen.is_empty() { TARGETS.to_vec() } else { chosen };
    let mut failed = false;
    for target in targets {
        match fuzz(&target, seed, Duration::from_secs(seconds), Path::new("fuzz-failures")) {
            Ok(summary) => println!(
                "{:<15} {seconds} s, seed {seed}: {} files, {} refused, at most {:.1} MiB above their size",
                target.name,
                summary.files,
                summary.refused,
                summary.largest as f64 / f64::from(1 << 20)
            ),
            Err(wrong) => {
                println!("FAILED {wrong}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn help() -> ExitCode {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    println!("{HELP}\nReaders: {}", names.join(", "));
    ExitCode::FAILURE
}
