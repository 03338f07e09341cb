//! The sources keep the rules of the house: crates point downward, and so do imports within them; axes are renamed
//! in one place, files stay short.

mod floors;
mod imports;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The crates from the bottom up, and the two that only look at the others.
const LAYERS: [&str; 4] = ["msg-core", "msg-models", "msg-train", "msg-cli"];
const ONLOOKERS: [&str; 2] = ["benches", "tests"];

// The floors of each crate from the bottom up, each a list of its rooms: a room is a top-level module, `lib.rs` and
// `main.rs` are the roof. A file imports from its own room and from floors below it; rooms on one floor do not know
// each other. Imports are drawn to the file that defines the name. tools/structure.py reads these lists.

const CORE_FLOORS: &[&[&str]] = &[
    &["error", "float", "random"],
    // What an axis is knows no growth; what a device is knows no operation.
    &["axis", "device"],
    &["mask", "params", "simd"],
    &["ops"],
    &["growth"],
    &["optim"],
    // The sum of what operations, growth and optimizer ask of a device.
    &["backend"],
];
const MODELS_FLOORS: &[&[&str]] = &[
    &["sizes"],
    &["cost", "growing"],
    &["hf", "layers"],
    &["function_preserving"],
    // The families.
    &["bert", "gpt"],
];
const TRAIN_FLOORS: &[&[&str]] = &[
    &["error", "text"],
    &["files"],
    &["config", "metrics"],
    &["data", "report", "schedule"],
    &["families"],
    &["parity"],
    &["step"],
    &["checkpoint"],
    &["eval", "generate", "interop", "verify"],
    &["run"],
];
const CLI_FLOORS: &[&[&str]] =
    &[&["device", "exit", "output", "values"], &["args"], &["inputs"], &["commands"]];

/// Imports, as `FILE -> FILE` with paths from the root, that run back up or close a circle all the same. The list
/// can only become shorter: one that is no longer needed fails.
const EXCEPTIONS: &[&str] = &[];

/// The longest source file.
const MAX_LINES: usize = 500;
/// The one file that may give axes other names.
const RENAMING: &str = "msg-core/src/axis/rename.rs";
/// This file, which must spell what it looks for.
const HERE: &str = "tests/tests/layering.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust sources of the workspace by their path from the root.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = LAYERS.iter().chain(&ONLOOKERS).map(|name| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for path in entries.map(|entry| entry.expect("a readable folder").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(root()).expect("a path below the root");
                found.insert(name.display().to_string(), read(&path));
            }
        }
    }
    assert!(found.contains_key(RENAMING) && found.contains_key(HERE), "sources not found");
    found
}

/// The lines of a source with their numbers, without comments.
fn code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.enumerate().map(|(at, line)| (at + 1, line))
}

/// The lines of a source before its unit tests.
fn without_tests(source: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut lines = code(source).peekable();
    std::iter::from_fn(move || {
        let (at, line) = lines.next()?;
        let inline = lines.peek().is_some_and(|(_, next)| {
            next.trim_start_matches("pub(crate) ").starts_with("mod ") && next.ends_with('{')
        });
        (line.trim() != "#[cfg(test)]" || !inline).then_some((at, line))
    })
}

/// Whether a file belongs to tests alone: it stands in `tests`, or its parent declares it under `cfg(test)`.
fn is_test(files: &BTreeMap<String, String>, name: &str) -> bool {
    let Some((folder, file)) = name.rsplit_once('/') else { return false };
    let module = file.trim_end_matches(".rs");
    let parents = ["mod.rs", "lib.rs", "main.rs"].map(|parent| format!("{folder}/{parent}"));
    let parents = parents.into_iter().chain([format!("{folder}.rs")]);
    let mut parents = parents.filter_map(|parent| files.get(&parent));
    let declares = |parent: &String| {
        let declarations = parent.split("#[cfg(test)]\n").skip(1).filter_map(|rest| rest.lines().next());
        declarations.into_iter().any(|line| line.ends_with(&format!("mod {module};")))
    };
    name.starts_with("tests/") || parents.any(declares)
}

/// Every place where `bad` holds, to be shown by a failing test.
fn offences(files: &BTreeMap<String, String>, bad: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let in_file = |(name, source): (&String, &String)| {
        let name = name.clone();
        let lines = without_tests(source).filter(|(_, line)| bad(&name, line));
        lines.map(|(at, line)| format!("{name}:{at}: {}", line.trim())).collect::<Vec<_>>()
    };
    files.iter().flat_map(in_file).collect()
}

/// The workspace crates that a manifest depends on, in whatever section.
fn dependencies(manifest: &str) -> Vec<&'static str> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies") {
            let key = line.split(['.', '=', ' ']).next().unwrap_or_default();
            found.extend(LAYERS.iter().chain(&["msg-benches", "msg-tests"]).filter(|name| **name == key));
        } else {
            continue;
        }
    }
    found
}

#[test]
fn crates_depend_only_on_those_below_them() {
    for (level, name) in LAYERS.iter().enumerate() {
        let below = &LAYERS[..level];
        let found = dependencies(&read(&root().join(name).join("Cargo.toml")));
        assert!(found.iter().all(|dependency| below.contains(dependency)), "{name} depends on {found:?}");
        if let Some(next) = below.last() {
            assert!(found.contains(next), "{name} does not stand on {next}");
        }
    }
    for name in ONLOOKERS {
        let found = dependencies(&read(&root().join(name).join("Cargo.toml")));
        assert!(found.iter().all(|dependency| LAYERS.contains(dependency)), "{name} depends on {found:?}");
    }
}

#[test]
fn axes_are_renamed_in_one_file_only() {
    let renames = |line: &str| ["realize", "reshape_like"].iter().any(|word| line.contains(word));
    let found = offences(&sources(), |name, line| name != RENAMING && name != HERE && renames(line));
    assert!(found.is_empty(), "{found:#?}");
    assert!(renames(&sources()[RENAMING]), "the words have changed: this test finds nothing");
}

#[test]
fn no_tensor_type_has_an_axis_without_a_name() {
    let bare = |line: &str| {
        let shapes = line.split("Tensor<(").skip(1).chain(line.split("Param<(").skip(1));
        let shapes = shapes.filter_map(|rest| rest.split(')').next());
        shapes.flat_map(|shape| shape.split(',')).any(|axis| axis.trim() == "usize")
    };
    assert!(bare("x: Tensor<(Batch, usize), f32, D>") && !bare("x: Tensor<(Batch, Query), f32, D>"));
    let typed = |name: &str| name.starts_with("msg-core/src") || name.starts_with("msg-models/src");
    let found = offences(&sources(), |name, line| typed(name) && bare(line));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn source_files_are_short() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(name, source)| (name, source.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "more than {MAX_LINES} lines: {long:#?}");
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let files = sources();
    assert!(is_test(&files, "msg-core/src/random/tests.rs") && !is_test(&files, RENAMING));
    let found = offences(&files, |name, line| line.contains(".unwrap()") && !is_test(&files, name));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_source_file_says_what_it_is_for() {
    // A library's page comes in by an attribute; a file of one line is a stand-in.
    let opens = |source: &str| {
        source.starts_with("//!") || source.starts_with("#![doc") || source.lines().count() < 2
    };
    let files = sources();
    let silent = files.iter().filter(|(name, source)| !opens(source) && !is_test(&files, name));
    let silent: Vec<&String> = silent.map(|(name, _)| name).collect();
    assert!(silent.is_empty(), "{silent:#?}");
}
