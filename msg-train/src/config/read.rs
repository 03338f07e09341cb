//! From a file and overrides to a checked configuration, and back to text.

use crate::{
    config::{
        RunConfig,
        de::{self, Fault, Kind},
        model::FamilyRules,
        optimizer::MOVED,
        resolved::Resolved,
        suggest::hint,
    },
    error::{AtPath, Error, Result},
};
use std::path::Path;
use toml::{Table, Value};

/// Reads a run from a file, with overrides of the form `table.key=value`.
///
/// The value is TOML, or a bare word that stands for a string; nothing after the `=` removes the key. A stage is named
/// by its number from 1: `stage.2.steps=50`. `families` are those that it may name. Data need not exist yet.
///
/// # Errors
/// [`Error::Io`], [`Error::Syntax`], [`Error::UnknownKey`], [`Error::MissingKey`], or [`Error::Config`] for the first
/// value that cannot be.
pub fn read(path: impl AsRef<Path>, overrides: &[String], families: &[FamilyRules]) -> Result<Resolved> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).at(path)?;
    parse(&text, &path.display().to_string(), overrides, families)
}

/// As [`read`], from text; `file` is its name in errors.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, file: &str, overrides: &[String], families: &[FamilyRules]) -> Result<Resolved> {
    let mut table: Table = text.parse().map_err(|error| syntax(&error, text, file))?;
    for given in overrides {
        set(&mut table, given)?;
    }
    if let Some((old, new)) = MOVED.into_iter().find(|(old, _)| has(&table, old)) {
        let (key, hint) = (format!("train.{old}"), format!("moved to `optimizer.{new}`"));
        return Err(Error::UnknownKey { file: file.to_owned(), key, hint });
    }
    checked(table, file, families)
}

/// As [`parse`], for a configuration that a checkpoint or a run's folder holds. Keys may have their names of then.
///
/// # Errors
/// As [`parse`].
pub fn parse_saved(text: &str, file: &str, families: &[FamilyRules]) -> Result<Resolved> {
    let mut table: Table = text.parse().map_err(|error| syntax(&error, text, file))?;
    for (old, new) in MOVED {
        let Some(value) = table.get_mut("train").and_then(|train| train.as_table_mut()?.remove(old)) else {
            continue;
        };
        let optimizer = table.entry("optimizer").or_insert_with(|| Value::Table(Table::new()));
        if let Some(optimizer) = optimizer.as_table_mut() {
            optimizer.entry(new).or_insert(value);
        }
    }
    checked(table, file, families)
}

fn checked(table: Table, file: &str, families: &[FamilyRules]) -> Result<Resolved> {
    let config: RunConfig = de::from_value(Value::Table(table)).map_err(|fault| located(fault, file))?;
    Resolved::checked(config, file, families)
}

/// The keys, dotted, in which two runs differ, in the order of the alphabet; stages by their number from 1.
pub fn differing_keys(a: &Resolved, b: &Resolved) -> Vec<String> {
    let mut keys = Vec::new();
    let value = |config: &Resolved| Value::try_from(config.written()).ok();
    compare(value(a).as_ref(), value(b).as_ref(), String::new(), &mut keys);
    keys
}

fn compare(a: Option<&Value>, b: Option<&Value>, at: String, keys: &mut Vec<String>) {
    let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
    match (a, b) {
        (Some(Value::Table(a)), Some(Value::Table(b))) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                compare(a.get(name), b.get(name), below(name), keys);
            }
        }
        // A list of tables has keys of its own; any other is one value.
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.iter().chain(b).any(Value::is_table) => {
            for index in 0..a.len().max(b.len()) {
                compare(a.get(index), b.get(index), below(&(index + 1).to_string()), keys);
            }
        }
        _ if a == b => {}
        _ => keys.push(at),
    }
}

fn has(table: &Table, key_of_train: &str) -> bool {
    table.get("train").and_then(Value::as_table).is_some_and(|train| train.contains_key(key_of_train))
}

/// Applies one override.
fn set(table: &mut Table, given: &str) -> Result<()> {
    let refused = |key: &str, expected: &str, got: &str| Error::Config {
        file: "--set".into(),
        key: key.to_owned(),
        expected: expected.to_owned(),
        got: got.to_owned(),
    };
    let Some((key, value)) = given.split_once('=') else {
        return Err(refused(given, "table.key=value", "no `=`"));
    };
    let (key, value) = (key.trim(), value.trim());
    let names: Vec<&str> = key.split('.').map(str::trim).collect();
    let [tables @ .., last] = names.as_slice() else { return Ok(()) };
    if tables.is_empty() || names.iter().any(|name| name.is_empty()) {
        return Err(refused(key, "table.key=value", &format!("`{given}`")));
    }
    let value = match value {
        "" => None,
        text => Some(value_of(text).ok_or_else(|| refused(key, "a TOML value or a bare word", text))?),
    };

    let mut at = table;
    let mut walked = String::new();
    let mut names = tables.iter();
    while let Some(&name) = names.next() {
        walked = if walked.is_empty() { name.to_owned() } else { format!("{walked}.{name}") };
        let mut entry = at.entry(name).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Array(entries) = entry {
            let count = entries.len();
            let number = names.next().copied().unwrap_or(last);
            let expected = format!("a number from 1 to {count} after it");
            let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            entry = index
                .and_then(|index| entries.get_mut(index))
                .ok_or_else(|| refused(&walked, &expected, &format!("`{number}`")))?;
            walked = format!("{walked}.{number}");
        }
        at = entry.as_table_mut().ok_or_else(|| refused(&walked, "a table", "a value"))?;
    }
    match value {
        Some(value) => drop(at.insert((*last).to_owned(), value)),
        None => drop(at.remove(*last)),
    }
    Ok(())
}

/// A TOML value, or a bare word.
fn value_of(text: &str) -> Option<Value> {
    if text.contains(['\n', '\r']) {
        return None;
    }
    let parsed = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    match parsed {
        // No key is a date; a name that looks like one is meant as a name.
        None | Some(Value::Datetime(_)) if is_bare(text) => Some(Value::String(text.to_owned())),
        parsed => parsed,
    }
}

fn is_bare(text: &str) -> bool {
    text.chars().all(|letter| !letter.is_control() && !"\"'[]{},#=".contains(letter))
}

fn syntax(error: &toml::de::Error, text: &str, file: &str) -> Error {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..at).unwrap_or_default();
    Error::Syntax {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before.chars().rev().take_while(|letter| *letter != '\n').count() + 1,
        message: error.message().trim().replace('\n', ", "),
    }
}

fn located(fault: Fault, file: &str) -> Error {
    let file = file.to_owned();
    let path = fault.path();
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match fault.kind {
        Kind::Unknown { key, valid } => Error::UnknownKey { file, key: below(&key), hint: hint(&key, valid) },
        Kind::Missing { key } => Error::MissingKey { file, key: below(key) },
        Kind::Value { expected, got } => Error::Config { file, key: path, expected, got },
    }
}
