//! The command end to end: a process of its own, killed, stopped, starved and fed with what is wrong.

mod disk;
#[cfg(all(feature = "cuda", not(feature = "ci-check")))]
mod gpu;
mod init;
mod kills;
mod receipts;
mod refusals;
mod stops;

use crate::runs::{bytes, corpus};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Longest wait for something that a run does by itself.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with a text, a configuration and runs of it, in which the command works.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A run `tiny` of three times `steps` steps: all widths grow, then depth; the first ramp outlasts its
    /// stage. A checkpoint after each step.
    fn new(family: &str, steps: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        corpus(folder.path());
        fs::write(folder.path().join("tiny.toml"), config(family, steps)).unwrap();
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command, about to start here with these words.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msg-under-test"));
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        // Tiny models gain nothing from threads, and two cores have other tests to run.
        command.env("RAYON_NUM_THREADS", "1").env_remove("MSG_LOG").env_remove("MSG_TEST_FAULT");
        command
    }

    fn msg(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs the command, which must succeed.
    fn done(&self, words: &[&str]) -> Output {
        let output = self.msg(words);
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        output
    }

    /// What a finished run leaves that must be the same however it came about, by name: the last
    /// checkpoint, the model, the metrics and the scalars for TensorBoard.
    fn results(&self, run: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let run = self.path(run);
        let mut results = BTreeMap::new();
        let last = checkpoints(&run).pop().unwrap();
        for folder in [Path::new("checkpoints").join(last), "final".into()] {
            results.extend(
                bytes(&run.join(&folder)).into_iter().map(|(name, bytes)| (folder.join(name), bytes)),
            );
        }
        results.insert("metrics.jsonl".into(), fs::read(run.join("metrics.jsonl")).unwrap());
        results.insert("scalars".into(), scalars(&run));
        results
    }
}

/// The configuration of [`Place::new`].
fn config(family: &str, steps: u64) -> String {
    let tokenizer = if family == "gpt" { "kind = \"bytes\"" } else { "kind = \"word_piece\", vocab = 60" };
    format!(
        r#"
        [run]
        name = "tiny"
        seed = 5
        [data]
        sources = ["text"]
        held_out = 0.2
        tokenizer = {{ {tokenizer} }}
        [model]
        family = "{family}"
        head_dim = 3
        dropout = 0.1
        [train]
        micro_batch = 2
        eval_every = 7
        eval_sequences = 4
        checkpoint_every = 1
        [lr]
        shape = "cosine"
        peak = 1e-2
        final = 1e-3
        warmup = 2
        [[stage]]
        steps = {steps}
        layers = 1
        hidden = 6
        ffn = 8
        heads = 2
        sequence = 12
        batch = 4
        [[stage]]
        steps = {steps}
        hidden = 9
        ffn = 11
        heads = 3
        ramp = {ramp}
        lr = "rewarm-new"
        rewarm_steps = {rewarm}
        units = "copy"
        [[stage]]
        steps = {steps}
        layers = 2
        ramp = 2
        new_layers = "interpolate"
        lr = "rewind"
        "#,
        ramp = steps + 2,
        rewarm = steps.min(3),
    )
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Asserts a refusal: exit code 2, no panic, and one line beginning with `msg: `, the last, which has all
/// of `parts`. Only a run that already trains may have said something before.
fn assert_refused(output: &Output, parts: &[&str], alone: bool) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    let ours = text.lines().filter(|line| line.starts_with("msg: ")).count();
    let last = text.lines().last().unwrap_or_default();
    assert!(
        ours == 1 && last.starts_with("msg: ") && text.ends_with('\n'),
        "expected one line, the last: {text}"
    );
    assert!(last.matches("(os error").count() < 2, "said twice: {last}");
    assert!(!alone || text.lines().count() == 1, "expected nothing else: {text}");
    assert!(parts.iter().all(|part| last.contains(part)), "expected {parts:?} in {last}");
}

/// Waits until something is so.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The names of all that stands among a run's checkpoints, sorted; hidden ones come first.
fn checkpoints(run: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(run.join("checkpoints")) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The lines of a run's metrics.
fn metric_lines(run: &Path) -> usize {
    fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// The events of a run's losses, rates and receipts in all its files, without the clock's readings.
///
/// A file is a sequence of records: length (8 bytes), its checksum (4), event, checksum (4). An event
/// begins with the clock: a tag and 8 bytes.
fn scalars(run: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, file) in bytes(run) {
        if !name.to_str().unwrap().starts_with("events.out.tfevents.") {
            continue;
        }
        let mut rest = &file[..];
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let event = &rest[12..12 + length];
            let has = |tag: &[u8]| event.windows(tag.len()).any(|window| window == tag);
            if has(b"loss/") || has(b"receipt/") {
                all.extend(&event[9..]);
            }
            rest = &rest[12 + length + 4..];
        }
    }
    all
}

/// Sends a signal to a process.
#[cfg(unix)]
fn signal(process: &std::process::Child, name: &str) {
    let kill = format!("kill -{name} {}", process.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// Asserts that two runs ended in the same bytes.
fn assert_same(got: &BTreeMap<PathBuf, Vec<u8>>, expected: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let names = |results: &BTreeMap<PathBuf, Vec<u8>>| results.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(got), names(expected), "{what}");
    for (name, expected) in expected {
        assert!(got[name] == *expected, "{what}: {}", name.display());
    }
    // What is compared must be worth it.
    assert!(expected.contains_key(Path::new("final/model.safetensors")));
    assert!(["metrics.jsonl", "scalars"].iter().all(|name| expected[Path::new(name)].len() > 200));
}
