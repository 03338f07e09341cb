//! Runs that version 0.1.0 wrote (`fixtures/run-0.1.0`) are read, and continue to the bytes that it reached itself.

use crate::runs::copy_folder;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// The old runs in a folder of their own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/run-0.1.0");
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&fixture, folder.path());
        Place { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn msg(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msg-under-test"));
        command.args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("RAYON_NUM_THREADS", "1").env_remove("MSG_LOG").env_remove("MSG_TEST_FAULT");
        command.output().unwrap()
    }

    /// What the command prints, which must succeed.
    fn done(&self, words: &[&str]) -> String {
        let output = self.msg(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn is_read_and_continues(family: &str) {
    let place = Place::new();
    let run = format!("runs/{family}");
    let written = fs::read_to_string(place.path(&format!("{family}.toml"))).unwrap();

    // The keys that have moved are named; a run's own files may still have them.
    let refused = place.msg(&["plan", &format!("{family}.toml")]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("moved to `optimizer."), "{text}");
    let moved = ["weight_decay = 0.02\n", "beta2 = 0.99\n"];
    let now = moved.iter().fold(written, |text, key| text.replace(key, ""));
    let now = now.replace("[lr]", &format!("[optimizer]\nkind = \"adamw\"\n{}\n[lr]", moved.concat()));
    fs::write(place.path("now.toml"), now).unwrap();

    assert!(place.done(&["plan", "now.toml"]).contains("12 steps"));
    assert!(place.done(&["inspect", &run]).contains(&format!("of a {family}")));
    assert!(place.done(&["eval", &run]).contains("a ramp is under way"));
    assert!(place.done(&["verify", &run]).contains("holds to the bit"));
    place.done(&["report", &run, "--out", "report.html"]);
    place.done(&["convert", &run, "--out", "grown", "--stage", "3"]);
    assert!(!place.msg(&["export", &run, "inside-a-ramp"]).status.success());

    place.done(&["train", "now.toml", "--resume", "auto"]);
    let same = |expected: &str, got: &str| {
        let expected = fs::read(place.path(&format!("expected/{family}/{expected}"))).unwrap();
        assert!(expected == fs::read(place.path(&run).join(got)).unwrap(), "{family}: {got}");
    };
    same("metrics.jsonl", "metrics.jsonl");
    same("model.safetensors", "final/model.safetensors");
    place.done(&["export", &run, "exported", "--fold"]);
    place.done(&["import", "exported", "--out", "imported"]);
}

#[test]
fn an_old_gpt_is_read_and_continues_to_the_bytes_of_then() {
    is_read_and_continues("gpt");
}

#[test]
fn an_old_bert_is_read_and_continues_to_the_bytes_of_then() {
    is_read_and_continues("bert");
}
