//! Hostile files for every reader: a seeded loop that changes whole files, and some made by hand.
//!
//! A reader may refuse or accept; it must not panic, and must never hold more than the files' size and
//! [`ALLOWED`] at once. Runs on stable Rust: `cargo run --release -p msg-tests --bin msg-fuzz -- --help`.
//! Whoever uses it declares [`Counting`] as the global allocator.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod alloc;
mod corpus;
mod hostile;
mod mutate;
mod targets;

pub use alloc::{Counting, counts, peak_of};
pub use targets::{TARGETS, Target};

use mutate::{Draws, mutate};
use std::{
    collections::BTreeMap,
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Bytes that a reader may hold besides as many as its files have.
pub const ALLOWED: usize = 64 << 20;

/// What a loop came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files read.
    pub files: u64,
    /// Of these refused.
    pub refused: u64,
    /// Most bytes held beyond the files' size.
    pub largest: usize,
}

/// What one turn counts at most: a process that was stopped meanwhile has not fuzzed.
const LONGEST_TURN: Duration = Duration::from_secs(1);

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Feeds a reader with changed files for `time`; the same seed changes them in the same way.
///
/// # Errors
/// The first panic or allocation that is too large, and where the files that made it lie.
pub fn fuzz(target: &Target, seed: u64, time: Duration, failures: &Path) -> Result<Summary, String> {
    assert!(counts(), "the counting allocator is not in force");
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folders = (target.make)(place.path());
    let originals: Vec<(PathBuf, Files)> =
        folders.into_iter().map(|folder| (folder.clone(), files(&folder))).collect();
    let mut summary = Summary::default();
    for (folder, _) in &originals {
        if let Err(refusal) = (target.read)(folder) {
            return Err(format!("{}: what is whole is refused: {refusal}", target.name));
        }
    }
    let silent = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = Loop { target, seed, failures, summary: &mut summary }.run(place.path(), &originals, time);
    panic::set_hook(silent);
    result.map(|()| summary)
}

struct Loop<'a> {
    target: &'a Target,
    seed: u64,
    failures: &'a Path,
    summary: &'a mut Summary,
}

impl Loop<'_> {
    fn run(&mut self, place: &Path, originals: &[(PathBuf, Files)], time: Duration) -> Result<(), String> {
        for (number, make) in (0..).zip(self.target.hostile) {
            let folder = place.join(format!("hostile-{number}"));
            fs::create_dir(&folder).unwrap();
            make(&folder);
            self.once(&folder, &format!("hostile-{number}"))?;
            fs::remove_dir_all(&folder).unwrap();
        }
        let (mut spent, mut before) = (Duration::ZERO, Instant::now());
        let mut file = 0;
        while spent < time {
            file += 1;
            let mut draws = Draws::new(self.seed, file);
            let (folder, files) = &originals[draws.below(originals.len())];
            let names: Vec<&PathBuf> = files.keys().collect();
            let name = names[draws.below(names.len())];
            let others: Vec<&[u8]> = files.values().map(Vec::as_slice).collect();
            let mut bytes = files[name].clone();
            mutate(&mut bytes, &others, &mut draws);
            fs::write(folder.join(name), &bytes).unwrap();
            (self.target.repair)(folder);
            self.once(folder, &file.to_string())?;
            // What a repair wrote goes, too.
            for (name, bytes) in files {
                fs::write(folder.join(name), bytes).unwrap();
            }
            let now = Instant::now();
            spent += (now - before).min(LONGEST_TURN);
            before = now;
        }
        Ok(())
    }

    /// Reads one folder.
    fn once(&mut self, folder: &Path, name: &str) -> Result<(), String> {
        let size: usize = files(folder).values().map(Vec::len).sum();
        let (peak, read) = peak_of(|| panic::catch_unwind(AssertUnwindSafe(|| (self.target.read)(folder))));
        self.summary.files += 1;
        self.summary.largest = self.summary.largest.max(peak.saturating_sub(size));
        let wrong = match read {
            Err(panic) => Some(format!("panicked: {}", words(&*panic))),
            Ok(_) if peak > size + ALLOWED => Some(format!("held {peak} bytes for files of {size}")),
            Ok(read) => {
                self.summary.refused += u64::from(read.is_err());
                // A refusal is shown to a user, in one line.
                read.err().filter(|text| text.contains('\n')).map(|text| format!("refused in lines: {text}"))
            }
        };
        let Some(wrong) = wrong else { return Ok(()) };
        let kept = self.failures.join(format!("{}-{}-{name}", self.target.name, self.seed));
        fs::create_dir_all(&kept).unwrap();
        for (name, bytes) in files(folder) {
            let at = kept.join(name);
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, bytes).unwrap();
        }
        Err(format!("{}: seed {}, file {name}: {wrong}; see {}", self.target.name, self.seed, kept.display()))
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no words").to_owned()
}

/// All files of a folder, by their path in it.
fn files(folder: &Path) -> Files {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), bytes);
            }
        }
    }
    found
}
