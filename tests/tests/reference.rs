//! docs/configuration.md: every key of a configuration with its type, range, default and meaning.
//!
//! Nothing of it is written by hand. Keys and meanings are read off the structs that a configuration is read into;
//! types, ranges and defaults are what reading says of a small run. After a change of the structs,
//! `MSG_WRITE_DOCS=1 cargo test -p msg-tests --test main reference` writes the page again.

use msg_models::GrowingAxis;
use msg_train::{Error, Result, config::Resolved, families::registry};
use std::{fmt::Write, fs, path::Path};
use toml::{Table, Value};

/// A table of a configuration and the struct that it is read into.
struct Section {
    /// The table's name; a table of a kind also says the kind.
    heading: &'static str,
    /// Where its keys stand.
    place: &'static str,
    file: &'static str,
    name: &'static str,
    /// What has to be said for the table to be this one.
    beside: &'static [&'static str],
}

const fn section(
    heading: &'static str,
    place: &'static str,
    file: &'static str,
    name: &'static str,
) -> Section {
    Section { heading, place, file, name, beside: &[] }
}

const SECTIONS: &[Section] = &[
    section("[run]", "run", "msg-train/src/config/train.rs", "RunTable"),
    section("[data]", "data", "msg-train/src/config/data.rs", "DataConfig"),
    section("[data.tokenizer]", "data.tokenizer", "msg-train/src/config/data.rs", "TokenizerConfig"),
    section("[data.mlm]", "data.mlm", "msg-train/src/config/data.rs", "MlmConfig"),
    section("[model]", "model", "msg-train/src/config/model.rs", "ModelConfig"),
    section("[train]", "train", "msg-train/src/config/train.rs", "TrainConfig"),
    section("[optimizer], kind = \"adamw\"", "optimizer", "msg-core/src/optim/adamw/mod.rs", "AdamWConfig"),
    Section {
        beside: &["optimizer.kind=muon"],
        ..section("[optimizer], kind = \"muon\"", "optimizer", "msg-core/src/optim/muon/mod.rs", "MuonConfig")
    },
    Section {
        beside: &["optimizer.kind=muon"],
        ..section("[optimizer.adamw]", "optimizer.adamw", "msg-core/src/optim/muon/mod.rs", "AuxiliaryAdamW")
    },
    section("[lr]", "lr", "msg-train/src/config/schedule.rs", "LrConfig"),
    section("[[stage]]", "stage.2", "msg-train/src/config/schedule.rs", "StageConfig"),
    section("[init]", "init", "msg-train/src/config/train.rs", "InitFrom"),
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

impl Section {
    /// The run with what has to be said for a key, and these overrides.
    fn read(&self, key: &str, overrides: &[String]) -> Result<Resolved> {
        let of_key = BESIDE.iter().filter(|(of, _)| *of == key).flat_map(|(_, beside)| beside.iter());
        let beside = self.beside.iter().chain(of_key).map(|&text| text.to_owned());
        read(&beside.chain(overrides.iter().cloned()).collect::<Vec<String>>())
    }

    /// The run with a key set to `value`, or taken away.
    fn with(&self, key: &str, value: &str) -> Result<Resolved> {
        self.read(key, &[format!("{key}={value}")])
    }

    /// What would do for a key, where `value` does not.
    fn expected(&self, key: &str, value: &str) -> Option<String> {
        match self.with(key, value) {
            Err(Error::Config { key: of, expected, .. }) if of == key => Some(expected),
            _ => None,
        }
    }

    fn default_of(&self, key: &str, about: &str) -> String {
        // What the small run says of these is no default.
        if self.place.starts_with("stage")
            && GrowingAxis::ALL.iter().any(|axis| key.rsplit('.').next() == Some(axis.key()))
        {
            return "that of the stage before".to_owned();
        }
        // Of two keys, one of which is required, the refusal names both.
        let names = |of: &str| of.split('`').next() == Some(key);
        if matches!(self.with(key, ""), Err(Error::MissingKey { key: of, .. }) if names(&of)) {
            return "required".to_owned();
        }
        // Refused without it: what the small run says is no default.
        if matches!(self.with(key, ""), Err(Error::Config { key: of, .. }) if of == key) {
            return "none".to_owned();
        }
        if about.contains("by default") {
            return "see there".to_owned();
        }
        let of_family = |family: &str| {
            let family = [format!("model.family={family}")];
            // Without the key, what goes with it may not be enough.
            written(&self.read(key, &family).or_else(|_| self.read("", &family)).unwrap(), key)
        };
        let shown = |value: Option<Value>| value.map_or("none".to_owned(), |value| format!("`{value}`"));
        match (of_family("gpt"), of_family("bert")) {
            (gpt, bert) if gpt == bert => shown(gpt),
            (gpt, bert) => format!("{} (gpt), {} (bert)", shown(gpt), shown(bert)),
        }
    }

    /// The section of the page.
    fn show(&self, page: &mut String) {
        let Documented { about, fields } = documented(self.file, self.name);
        write!(page, "\n## {}\n\n{about}\n\n", self.heading).unwrap();
        page.push_str("| key | type | range | default | meaning |\n|---|---|---|---|---|\n");
        for (field, about) in fields {
            let key = format!("{}.{field}", self.place);
            if let Some(section) = SECTIONS.iter().find(|section| section.place == key) {
                writeln!(page, "| `{field}` | a table | | see {} | {about} |", section.heading).unwrap();
                continue;
            }
            let kind = self.expected(&key, "{}").unwrap_or_else(|| panic!("{key}: a table is accepted"));
            let probes = ["nan", "-1", "0", "-"].iter();
            let range = probes.filter_map(|value| self.expected(&key, value)).find(|range| *range != kind);
            // The peak is the small run's.
            let range = if key == "lr.final" { Some("0 to `lr.peak`".to_owned()) } else { range };
            let (range, default) = (range.unwrap_or_default(), self.default_of(&key, &about));
            writeln!(page, "| `{field}` | {kind} | {range} | {default} | {about} |").unwrap();
        }
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
        let row = line.strip_prefix('[').and_then(|row| Some(row.split_once("] ")?.1));
        let field = line.strip_prefix("pub ").or(row);
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

fn page() -> String {
    let mut page = String::from(
        "# Every key of a configuration\n\n\
         A run is one TOML file. A `[[stage]]` stands once for each stage; in `--set` and in refusals it has its number \
         from 1: `stage.2.steps=50`. A key or value that is none of these is refused. `msg init` writes a file to \
         start from, `msg plan --resolved FILE` prints one with every default written out.\n\n\
         This page is made from the sources (tests/tests/reference.rs).\n",
    );
    for section in SECTIONS {
        section.show(&mut page);
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
            let headings = [format!("\n## [{name}]"), format!("\n## [[{name}]]")];
            let section = headings.iter().find_map(|heading| page.split_once(heading.as_str()));
            let (_, section) = section.unwrap_or_else(|| panic!("{name} is not there"));
            let section = section.split("\n## ").next().unwrap_or_default();
            for key in keys.keys() {
                // The kind of an optimizer stands in the heading of its keys.
                let there = section.contains(&format!("\n| `{key}` |"))
                    || section.starts_with(&format!(", {key} = "));
                assert!(there, "{name}.{key} is not there");
            }
        }
    }
}

#[test]
fn the_reference_has_every_optimizer() {
    let page = page();
    for kind in msg_core::optim::KINDS {
        assert!(page.contains(&format!("\n## [optimizer], kind = \"{kind}\"\n")), "{kind} is not there");
    }
}
