//! The quickstarts: they plan, their text is the one they expect, and every axis grows.

use msg_train::{
    Plan,
    config::{DataConfig, Resolved, TokenizerConfig, TokenizerKind},
    data::{CargoFolders, Prepare, prepare},
    families::registry,
};
use std::{fs, path::Path};

const NAMES: [&str; 2] = ["quickstart-gpt", "quickstart-bert"];

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn config(name: &str) -> Resolved {
    let path = root().join("configs").join(format!("{name}.toml"));
    registry::read(path, &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn both_grow_every_axis_in_three_stages_or_more() {
    for name in NAMES {
        let plan = Plan::new(&config(name));
        let stages = plan.stages();
        let (first, last) = (stages[0].sizes, stages[stages.len() - 1].sizes);
        assert!(stages.len() >= 3, "{name}");
        let pairs = [
            (first.layers, last.layers),
            (first.hidden, last.hidden),
            (first.ffn, last.ffn),
            (first.heads, last.heads),
        ];
        assert!(pairs.iter().all(|(first, last)| first < last), "{name}: {pairs:?}");
    }
}

#[test]
fn both_read_crates_that_the_lock_file_has_once() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let configs = NAMES.map(config);
    assert_eq!(configs[0].data().crates, configs[1].data().crates);
    for name in &configs[0].data().crates {
        let line = format!("name = \"{name}\"");
        assert_eq!(lock.lines().filter(|found| *found == line).count(), 1, "{name}");
    }
}

#[test]
fn the_text_of_both_is_the_one_that_they_expect() {
    for name in NAMES {
        let config = config(name);
        assert!(config.data().expect_hash.is_some(), "{name}");
        let folder = tempfile::tempdir().unwrap();
        let cargo = CargoFolders::around(&root());
        // Learning the tokens takes longer than this test should: bytes have the same text.
        let tokenizer = TokenizerConfig { kind: TokenizerKind::Bytes, vocab: None, path: None };
        let data = DataConfig { tokenizer, ..config.data().clone() };
        let request = Prepare { cargo, ..Prepare::new(&data, config.model().family.specials, folder.path()) };
        let manifest = prepare(&request, &mut |_| ());
        let manifest = manifest.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(Some(manifest.recipe.text), config.data().expect_hash, "{name}");
        assert!(manifest.counts.bytes > 5_000_000 && manifest.counts.invalid == 0, "{:?}", manifest.counts);
    }
}
