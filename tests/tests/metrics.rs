//! Every number of a run, in every place that shows it: docs/metrics.md, the files, the console, TensorBoard, the report.
//!
//! The page is made from the tables of columns: `MSG_WRITE_DOCS=1 cargo test -p msg-tests --test main metrics` writes it
//! again.

use crate::runs::{config, corpus, run};
use msg_train::{
    metrics::{
        METRICS, Record, RunPlan, Sink, StepTiming, TIMING,
        columns::{Column, EVAL_COLUMNS, Figure, Format, STEP_COLUMNS, TIMING_COLUMNS},
        sinks::console::Console,
    },
    report::report,
    run::Resume,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// A number without its record's type.
struct Shown {
    key: &'static str,
    title: String,
    format: Format,
    head: Option<&'static str>,
    tag: Option<&'static str>,
    figure: Figure,
}

fn shown<R>(columns: &'static [Column<R>]) -> Vec<Shown> {
    let each = |column: &Column<R>| Shown {
        key: column.key,
        title: column.title(),
        format: column.format,
        head: column.console.map(|cell| cell.head),
        tag: column.tag,
        figure: column.figure,
    };
    columns.iter().map(each).collect()
}

/// The file and the kind of line that the numbers are in, what a line is of, the numbers.
fn tables() -> [(&'static str, &'static str, &'static str, Vec<Shown>); 3] {
    [
        (METRICS, "step", "An optimizer step", shown(STEP_COLUMNS)),
        (METRICS, "eval", "An evaluation on the held-out part", shown(EVAL_COLUMNS)),
        (TIMING, "", "Clock readings of a step", shown(TIMING_COLUMNS)),
    ]
}

fn page() -> String {
    let mut page = String::from(
        "# The numbers of a run\n\n\
         A line of `metrics.jsonl` or `timing.jsonl` is one JSON object. Lines of a step in `metrics.jsonl` have `kind`, \
         `step`, `stage` and `skipped` beside these numbers, those of an evaluation `kind`, `step` and `stage`, those of \
         `timing.jsonl` `step`. A key with a dot is one of an object.\n\n\
         This page is made from `msg-train/src/metrics/columns.rs` (tests/tests/metrics.rs).\n",
    );
    for (file, kind, about, columns) in tables() {
        let kind = if kind.is_empty() { String::new() } else { format!(", `\"kind\":\"{kind}\"`") };
        write!(page, "\n## {about}: `{file}`{kind}\n\n").unwrap();
        page.push_str("| key | what | console | TensorBoard | report |\n|---|---|---|---|---|\n");
        for column in columns {
            let code = |text: Option<&str>| text.map_or(String::new(), |text| format!("`{text}`"));
            let figure = match column.figure {
                Figure::Nothing => "",
                Figure::Axis(..) => "an axis of the losses",
                Figure::Schedule { .. } | Figure::Measured(_) => "a curve",
            };
            let (console, tag) = (code(column.head), code(column.tag));
            writeln!(page, "| `{}` | {} | {console} | {tag} | {figure} |", column.key, column.title).unwrap();
        }
    }
    page
}

#[test]
fn the_page_of_all_numbers_is_what_the_columns_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = page();
    if std::env::var_os("MSG_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/metrics.md is out of date: MSG_WRITE_DOCS=1 writes it again");
}

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn lines(folder: &Path, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the console shows of a run that has been.
fn on_the_console(folder: &Path) -> String {
    let screen = Screen::default();
    let plan = RunPlan::read(folder).unwrap().unwrap();
    let mut console = Console::lines(plan, Box::new(screen.clone()));
    let mut timings = lines(folder, TIMING).into_iter();
    for line in lines(folder, METRICS) {
        let record: Record = serde_json::from_value(line).unwrap();
        console.record(&record).unwrap();
        if let Record::Step(_) = record {
            let timing: StepTiming = serde_json::from_value(timings.next().unwrap()).unwrap();
            console.timing(&timing).unwrap();
        }
    }
    let bytes = screen.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn every_number_is_measured_and_is_in_every_place_that_its_column_names() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    let runs: Vec<PathBuf> = ["gpt", "bert"].map(|family| folder.join(family)).to_vec();
    for family in ["gpt", "bert"] {
        run(config(folder, family, family), Resume::Never).unwrap_or_else(|error| panic!("{error}"));
    }
    let page = folder.join("report.html");
    report(&runs, &page).unwrap();
    let page = fs::read_to_string(page).unwrap();
    let console: String = runs.iter().map(|run| on_the_console(run)).collect();
    let header: BTreeSet<&str> = console.lines().next().unwrap().split_whitespace().collect();
    let mut events = Vec::new();
    for run in &runs {
        for file in fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path()) {
            if file.file_name().unwrap().to_string_lossy().contains("tfevents") {
                events.extend(fs::read(file).unwrap());
            }
        }
    }
    let tagged = |tag: &str| events.windows(tag.len()).any(|window| window == tag.as_bytes());
    assert!(!tagged("no such tag") && tagged("schedule/stage"));

    for (file, kind, _, columns) in tables() {
        let all: Vec<Value> = runs.iter().flat_map(|run| lines(run, file)).collect();
        let of_kind = |line: &&Value| kind.is_empty() || line["kind"] == kind;
        for column in columns {
            let pointer = format!("/{}", column.key.replace('.', "/"));
            let number = |line: &Value| line.pointer(&pointer).is_some_and(Value::is_number);
            assert!(all.iter().filter(of_kind).any(number), "{file}: no line has {}", column.key);
            if let Some(head) = column.head {
                assert!(header.contains(head), "the console's columns lack {head}");
            }
            if let Some(tag) = column.tag {
                assert!(tagged(tag), "TensorBoard's file lacks {tag}");
            }
            let title = column.title.split(" (").next().unwrap();
            if column.figure != Figure::Nothing || kind == "eval" && column.format != Format::Percent {
                assert!(page.contains(title), "the report lacks {title}");
            }
        }
    }
}
