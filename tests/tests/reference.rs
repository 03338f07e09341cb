//! docs/configuration.md: every key of a configuration with its type, range, default and meaning.
//!
//! Nothing of it is written by hand. Keys and meanings are read off the structs that a configuration is read into;
//! types, ranges and defaults are what reading says of a small run. After a change of the structs,
//! `MSG_WRITE_DOCS=1 cargo test -p msg-tests --test main reference` writes the page again.

use msg_models::GrowingAxis;
use msg_train::{Error, Result, config::Resolved, families::registry};
use std::{fmt::Write, fs, path::Path};
use toml::{Table, Value};

/// The tables by the names that a user writes, and the structs that they are read into. `optimizer<muon>` is that table
/// with `kind = "muon"`.
const TABLES: &[(&str, &str, &str)] = &[
    ("run", "msg-train/src/config/train.rs", "RunTable"),
    ("data", "msg-train/src/config/data.rs", "DataConfig"),
    ("data.tokenizer", "msg-train/src/config/data.rs", "TokenizerConfig"),
    ("data.mlm", "msg-train/src/config/data.rs", "MlmConfig"),
    ("model", "msg-train/src/config/model.rs", "ModelConfig"),
    ("train", "msg-train/src/config/train.rs", "TrainConfig"),
    ("optimizer", "msg-core/src/optim/adamw/mod.rs", "AdamWConfig"),
    ("optimizer<muon>", "msg-core/src/optim/muon/mod.rs", "MuonConfig"),
    ("optimizer<muon>.adamw", "msg-core/src/optim/muon/mod.rs", "AuxiliaryAdamW"),
    ("lr", "msg-train/src/config/schedule.rs", "LrConfig"),
    ("stage", "msg-train/src/config/schedule.rs", "StageConfig"),
    ("init", "msg-train/src/config/train.rs", "InitFrom"),
];

/// A run with nothing but what must be said, and a growth.
const SMALL: &str = r#"
[run]
name = "small"
[data]
sources = ["text"]
tokenizer = { kind = "bytes" }
[model]
family = "gpt"
[lr]
peak = 1e-3
[[stage]]
steps = 40
layers = 2
hidden = 8
ffn = 16
heads = 2
sequence = 32
batch = 4
[[stage]]
steps = 60
layers = 4
hidden = 16
"#;

/// What has to be said beside a key so that it can be said at all.
const BESIDE: &[(&str, &[&str])] = &[
    ("data.tokenizer.vocab", &["data.tokenizer.kind=bpe"]),
    ("data.tokenizer.path", &["data.tokenizer.kind=file"]),
    ("data.crates", &["data.sources="]),
    ("lr.decay", &["lr.shape=wsd"]),
    ("stage.2.tokens", &["stage.2.steps="]),
    ("stage.2.rewarm_steps", &["stage.2.lr=rewarm"]),
    ("init.state", &["init.from=runs/other"]),
];

fn read(overrides: &[String]) -> Result<Resolved> {
    registry::parse(SMALL, "small.toml", overrides)
}

/// A key as a user writes it, and the kind of its table, where it is one of another kind than by default.
fn of_kind(key: &str) -> (String, Option<String>) {
    match key.split_once('<').and_then(|(table, rest)| Some((table, rest.split_once('>')?))) {
        Some((table, (kind, rest))) => (format!("{table}{rest}"), Some(format!("{table}.kind={kind}"))),
        None => (key.to_owned(), None),
    }
}

/// The run with a key set to `value`, or taken away.
fn with(key: &str, value: &str) -> Result<Resolved> {
    let beside = BESIDE.iter().filter(|(of, _)| *of == key).flat_map(|(_, beside)| beside.iter());
    let mut overrides: Vec<String> = beside.map(|&text| text.to_owned()).collect();
    let (key, kind) = of_kind(key);
    overrides.extend(kind);
    overrides.push(format!("{key}={value}"));
    read(&overrides)
}

/// What would do for a key, where `value` does not.
fn expected(key: &str, value: &str) -> Option<String> {
    match with(key, value) {
        Err(Error::Config { key: of, expected, .. }) if of == of_kind(key).0 => Some(expected),
        _ => None,
    }
}

/// A struct's own comment, and its fields with theirs.
struct Documented {
    about: String,
    fields: Vec<(String, String)>,
}

fn documented(file: &str, name: &str) -> Documented {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut comment: Vec<&str> = Vec::new();
    let mut lines = source.lines().map(str::trim);
    let take = |comment: &mut Vec<&str>| std::mem::take(comment).join(" ").trim().to_owned();
    let opening =
        if name == "growing_axes" { "$with! {".to_owned() } else { format!("pub struct {name} {{") };
    for line in lines.by_ref() {
        match line.strip_prefix("///") {
            Some(text) => comment.push(text.trim()),
            None if line == opening => break,
            None if line.starts_with("#[") => {}
            None => comment.clear(),
        }
    }
    let about = take(&mut comment);
    let mut fields = Vec::new();
    for line in lines.take_while(|line| *line != "}") {
        // A field, or a row of the table of axes.
        let field = line.strip_prefix("pub ").or(line.strip_prefix("[] "));
        if let Some(text) = line.strip_prefix("///") {
            comment.push(text.trim());
        } else if let Some((field, _)) = field.and_then(|field| field.split_once(':')) {
            match field.trim_start_matches("r#") {
                // The keys of the table of growing axes.
                "$key" => fields.extend(axes()),
                field => fields.push((field.to_owned(), take(&mut comment))),
            }
        }
    }
    assert!(!fields.is_empty(), "{file} has no struct {name} with fields");
    Documented { about, fields }
}

/// The keys of the growing axes, with the comments of their rows.
fn axes() -> Vec<(String, String)> {
    let Documented { fields, .. } = documented("msg-models/src/sizes.rs", "growing_axes");
    assert_eq!(fields.len(), GrowingAxis::ALL.len());
    fields
}

/// The value of a key in a run with every default written out.
fn written(run: &Resolved, key: &str) -> Option<Value> {
    let mut at = Value::Table(run.to_toml().unwrap().parse::<Table>().unwrap());
    for name in key.split('.') {
        at = match at {
            Value::Array(entries) => entries.into_iter().nth(name.parse::<usize>().unwrap() - 1)?,
            Value::Table(mut table) => table.remove(name)?,
            _ => return None,
        };
    }
    Some(at)
}

fn default_of(key: &str, about: &str) -> String {
    let (plain, kind) = of_kind(key);
    let required = matches!(with(key, ""), Err(Error::MissingKey { key: of, .. }) if of == plain);
    if required {
        return "required".to_owned();
    }
    if about.contains("by default") {
        return "see there".to_owned();
    }
    let family = |name: &str| {
        let overrides: Vec<String> = kind.iter().cloned().chain([format!("model.family={name}")]).collect();
        written(&read(&overrides).unwrap(), &plain)
    };
    let shown = |value: Option<Value>| value.map_or("none".to_owned(), |value| format!("`{value}`"));
    match (family("gpt"), family("bert")) {
        (gpt, bert) if gpt == bert => shown(gpt),
        (gpt, bert) => format!("{} (gpt), {} (bert)", shown(gpt), shown(bert)),
    }
}

fn page() -> String {
    let mut page = String::from(
        "# Every key of a configuration\n\n\
         A run is one TOML file. A `[[stage]]` stands once for each stage; in `--set` and in refusals it has its number \
         from 1: `stage.2.steps=50`. A key or value that is none of these is refused. `msg init` writes a file to \
         start from, `msg plan --resolved FILE` prints one with every default written out.\n\n\
         This page is made from the sources (tests/tests/reference.rs).\n",
    );
    for (table, file, name) in TABLES {
        let Documented { about, fields } = documented(file, name);
        let (plain, kind) = of_kind(table);
        let heading = if *table == "stage" { "[[stage]]".to_owned() } else { format!("[{plain}]") };
        let with_kind = kind.map_or(String::new(), |kind| format!(" with `{}`", kind.replace('=', " = ")));
        write!(page, "\n## `{heading}`{with_kind}\n\n{about}\n\n").unwrap();
        page.push_str("| key | type | range | default | meaning |\n|---|---|---|---|---|\n");
        let place = if *table == "stage" { "stage.2" } else { table };
        if *table == "optimizer" {
            let kinds = expected("optimizer.kind", "none").unwrap();
            writeln!(
                page,
                "| `kind` | {kinds} | | `\"adamw\"` | Which optimizer; the keys below are `adamw`'s. |"
            )
            .unwrap();
        }
        for (field, about) in fields {
            let key = format!("{place}.{field}");
            if TABLES.iter().any(|(table, ..)| *table == key) {
                writeln!(
                    page,
                    "| `{field}` | a table | | see [below](#{}) | {about} |",
                    of_kind(&key).0.replace('.', "")
                )
                .unwrap();
                continue;
            }
            let kind = expected(&key, "{}").unwrap_or_else(|| panic!("{key}: a table is accepted"));
            let range =
                ["nan", "-1", "0"].iter().filter_map(|value| expected(&key, value)).find(|of| *of != kind);
            let (range, default) = (range.unwrap_or_default(), default_of(&key, &about));
            writeln!(page, "| `{field}` | {kind} | {range} | {default} | {about} |").unwrap();
        }
    }
    page
}

#[test]
fn the_reference_of_every_key_is_what_the_sources_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = page();
    if std::env::var_os("MSG_WRITE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &page).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/configuration.md is out of date: MSG_WRITE_DOCS=1 writes it again");
}

#[test]
fn the_reference_has_every_key_that_a_resolved_run_has() {
    let page = page();
    for family in ["gpt", "bert"] {
        let run = read(&[format!("model.family={family}"), "init.from=x".into()]).unwrap();
        let table = run.to_toml().unwrap().parse::<Table>().unwrap();
        for (name, value) in table {
            let keys = match value {
                Value::Array(stages) => stages[0].as_table().unwrap().clone(),
                Value::Table(table) => table,
                _ => panic!("{name} is no table"),
            };
            let section =
                page.split(&format!("[{name}]")).nth(1).unwrap_or_else(|| panic!("{name} is not there"));
            for key in keys.keys() {
                assert!(section.contains(&format!("\n| `{key}` |")), "{name}.{key} is not there");
            }
        }
    }
}
