//! What a path is: kind, sizes, stage, masks, where it comes from, hashes and tensors of any of our files.

use super::{
    hf_folder,
    provenance::{self, Step},
};
use crate::{
    checkpoint::{self, Header, MARKER},
    error::{Error, Result},
    families::registry,
    files::bounded_json,
    text::table::aligned,
};
use msg_models::{
    GrowthState,
    hf::{INDEX, TensorFile, WEIGHTS},
};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

/// Hexadecimal digits of a hash in a table.
const SHORT: usize = 16;

/// Tells what `path` is, in lines for people. A file that does not hold what its marker says is told, too.
///
/// # Errors
/// Where it is none of our kinds, or cannot be read.
pub fn inspect(path: &Path) -> Result<String> {
    let mut text = String::new();
    if path.is_file() {
        let file = match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => TensorFile::open_sharded(path)?,
            _ => TensorFile::open(path)?,
        };
        line(&mut text, format_args!("{}: tensors", path.display()));
        tensors(&mut text, &file)?;
        return Ok(text);
    }
    match checkpoint::find(path) {
        Ok(found) => saved(&mut text, path, &found)?,
        Err(_) if hf_folder::is_published(path) => folder(&mut text, path)?,
        Err(_) if path.join(WEIGHTS).is_file() || path.join(INDEX).is_file() => {
            line(&mut text, format_args!("{}: tensors without a configuration", path.display()));
            tensors(&mut text, &TensorFile::open_folder(path)?)?;
        }
        Err(Error::Checkpoint { path, .. }) => {
            return Err(Error::Checkpoint {
                path,
                message: format!(
                    "expected a checkpoint, a run, a published folder, a .safetensors file or {INDEX}, got none"
                ),
            });
        }
        Err(error) => return Err(error),
    }
    Ok(text)
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Text has room for text.
    let _ = writeln!(text, "{arguments}");
}

/// A checkpoint, found where `path` says.
fn saved(text: &mut String, path: &Path, found: &Path) -> Result<()> {
    let family = checkpoint::family_of(found)?;
    let header: Header = bounded_json::read(&found.join(checkpoint::STATE))?;
    let kind = if found == path { "checkpoint" } else { "run, its last checkpoint" };
    line(text, format_args!("{}: {kind} of a {family}", found.display()));
    let stages = checkpoint::config_of(found, registry::RULES)?.map(|config| config.stages().len());
    match stages {
        Some(stages) => {
            let (step, stage) = (header.state.step, header.state.stage);
            line(text, format_args!("step    {step}, stage {stage} of {stages}"));
        }
        None => line(text, format_args!("step    {}, no run", header.state.step)),
    }
    sizes(text, &header.growing);
    masks(text, &header.growing, header.state.step)?;
    for (name, expected) in checkpoint::marked(found)? {
        let at = found.join(&name);
        let verdict = match checkpoint::hash(&at) {
            Ok(got) if got == expected => "as marked".to_owned(),
            Ok(got) => format!("DAMAGED: {MARKER} says {expected}, the file has {got}"),
            Err(error) => format!("DAMAGED: {error}"),
        };
        let bytes = std::fs::metadata(&at).map_or(0, |facts| facts.len());
        line(text, format_args!("file    {name}: {bytes} bytes, BLAKE3 {expected}, {verdict}"));
    }
    tensors(text, &TensorFile::open(found.join(checkpoint::MODEL))?)
}

/// A published folder.
fn folder(text: &mut String, path: &Path) -> Result<()> {
    let config = hf_folder::config(path)?;
    let of = match hf_folder::family(&path.join(hf_folder::CONFIG), &config) {
        Ok(family) => family,
        Err(error) => format!("kind that is not supported ({error})"),
    };
    line(text, format_args!("{}: published folder of a {of}", path.display()));
    let class = config.get("architectures").map(ToString::to_string);
    if let Some(class) = class {
        line(text, format_args!("class   {class}"));
    }
    let file = TensorFile::open_folder(path)?;
    for at in hf_folder::weight_files(&file) {
        hashed(text, &at)?;
    }
    tensors(text, &file)
}

fn hashed(text: &mut String, at: &PathBuf) -> Result<()> {
    let bytes = std::fs::metadata(at).map_or(0, |facts| facts.len());
    line(text, format_args!("file    {}: {bytes} bytes, BLAKE3 {}", at.display(), checkpoint::hash(at)?));
    Ok(())
}

fn sizes(text: &mut String, of: &GrowthState) {
    line(text, format_args!("sizes   {}, head size {}", of.sizes, of.head_dim));
}

/// Masks in force, by axis: how many units stand at which value.
fn masks(text: &mut String, of: &GrowthState, step: u64) -> Result<()> {
    let GrowthState { sizes, ramps, .. } = of;
    let mut any = false;
    for axis in sizes.tensor_axes(of.head_dim) {
        for (first, count, value) in runs(&ramps.values_for(&axis, step)?.unwrap_or_default()) {
            any = true;
            line(text, format_args!("mask    {}: {count} units from {first} at {value}", axis.name));
        }
    }
    // Sizes are a claim; identities of layers are there.
    let layers = sizes.layers.min(of.layer_ids.len());
    let gates: Vec<f32> = (0..layers).map(|layer| ramps.gate(layer, step).value()).collect();
    for (first, count, value) in runs(&gates) {
        any = true;
        line(text, format_args!("mask    layers: {count} from {first} at {value}"));
    }
    if !any {
        line(text, format_args!("masks   none"));
    }
    Ok(())
}

/// Stretches of equal values that are not 1: the first, how many, the value.
fn runs(values: &[f32]) -> Vec<(usize, usize, f32)> {
    let mut found = Vec::new();
    let mut first = 0;
    for run in values.chunk_by(|a, b| a == b) {
        if run[0] != 1.0 {
            found.push((first, run.len(), run[0]));
        }
        first += run.len();
    }
    found
}

/// Notes, then a line for each tensor.
fn tensors(text: &mut String, file: &TensorFile) -> Result<()> {
    for step in provenance::read(file) {
        let Step { operation, source, source_blake3, from, to, growths, .. } = step;
        line(text, format_args!("origin  {operation} of {source}, BLAKE3 {source_blake3}"));
        if from != to {
            line(text, format_args!("        {from} to {to}"));
        }
        for growth in growths {
            line(
                text,
                format_args!(
                    "        seed {}, units {:?}, new layers {:?}",
                    growth.seed, growth.units, growth.new_layers
                ),
            );
        }
    }
    for (key, value) in file.metadata().iter().filter(|(key, _)| !key.starts_with("msg.")) {
        let short: String = value.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
        line(text, format_args!("note    {key:?}: {short:?}"));
    }
    let all = file.tensors();
    let names = all.names();
    let mut lines = vec![["tensor", "type", "shape", "bytes", "BLAKE3"].map(str::to_owned).to_vec()];
    let (mut entries, mut total) = (0, 0);
    for name in &names {
        let (of, bytes) = all.raw(name)?;
        let shape = all.shape(name)?;
        entries += shape.iter().product::<usize>();
        total += bytes.len();
        let hash = blake3::hash(bytes).to_hex().to_string();
        let shown = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        lines.push(vec![shown, of, format!("{shape:?}"), bytes.len().to_string(), hash[..SHORT].to_owned()]);
    }
    line(text, format_args!("\n{}", aligned(&lines)));
    line(text, format_args!("{} tensors, {entries} numbers, {total} bytes", names.len()));
    Ok(())
}
