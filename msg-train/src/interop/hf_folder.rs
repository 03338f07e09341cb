//! A published folder as transformers writes it: configuration, weights in one file or several, tokenizer.

use crate::{
    checkpoint::Origin,
    data::{Specials, Tokenizer},
    error::{Error, Result},
    families::{
        family::{Family, NoModel},
        registry,
    },
    files::{bounded_json, names::HF_GENERATION},
};
use msg_core::{
    Backend,
    growth::{self, Init},
};
use msg_models::hf::{self, TensorFile};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

pub(crate) use crate::files::names::HF_CONFIG as CONFIG;

/// A published folder, read but for its values.
#[derive(Debug)]
pub(crate) struct Published<M> {
    /// Zeros but for the heads that the files lack.
    pub(crate) model: M,
    pub(crate) file: TensorFile,
    /// Those heads, by the beginnings of their names.
    pub(crate) absent: Vec<&'static str>,
    pub(crate) origin: Origin,
    pub(crate) tokenizer: Option<Tokenizer>,
    /// What the user should know: heads that start fresh, no tokenizer, dropout.
    pub(crate) remarks: Vec<String>,
}

/// The keys of a published configuration, where the folder has one.
pub(crate) fn config(folder: &Path) -> Result<Map<String, Value>> {
    let path = folder.join(CONFIG);
    bounded_json::read(&path)
}

/// The name of the family that a configuration is of.
pub(crate) fn family(path: &Path, config: &Map<String, Value>) -> Result<String> {
    let model_type = config.get("model_type").and_then(Value::as_str);
    match model_type.and_then(registry::of_model_type) {
        Some(family) => Ok(family.to_owned()),
        None => {
            let expected = registry::model_types().join(" or ");
            Err(refused(path, "model_type", expected, model_type.unwrap_or("none")))
        }
    }
}

fn refused(path: &Path, key: &str, expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::Config {
        file: path.display().to_string(),
        key: key.to_owned(),
        expected: expected.into(),
        got: got.into(),
    }
}

/// Reads a folder of the family `M`. Heads that the files lack start fresh from `seed`.
pub(crate) fn read<D: Backend, M: Family<D>>(device: &D, folder: &Path, seed: u64) -> Result<Published<M>> {
    let path = folder.join(CONFIG);
    let config = config(folder)?;
    let (made_from, mut remarks) = M::published(&config).map_err(|error| no_model(&path, error))?;
    let file = TensorFile::open_folder(folder)?;
    // Sizes are a claim until the files have tensors of them: only then is a model made.
    hf::check_outline(&file.tensors(), &M::NAMING, M::NAMING.optional, M::outline(&made_from))?;
    let std = config.get("initializer_range").and_then(Value::as_f64).unwrap_or(0.02) as f32;
    let init = Init { seed, std: if std > 0.0 && std.is_finite() { std } else { Init::default().std } };
    let absent = hf::absent(&file.tensors(), &M::NAMING)?;
    let mut model = M::build(device, made_from, Init::BLANK)?;
    growth::init_where(&mut model, init, |name| {
        let name = name.to_string();
        absent.iter().any(|group| name.starts_with(group))
    })?;
    if !absent.is_empty() {
        let groups: Vec<&str> = absent.iter().map(|group| group.trim_end_matches('.')).collect();
        remarks.push(format!(
            "{} {} not there: fresh from seed {seed}",
            groups.join(", "),
            verb(groups.len())
        ));
    }
    let tokenizer = Tokenizer::published(folder, M::RULES.specials)?;
    match &tokenizer {
        None => remarks.push("no tokenizer files: the model is imported without a tokenizer".to_owned()),
        Some(tokenizer) => {
            fits(&path, &config, tokenizer)?;
            remarks.extend(other_end(&config, tokenizer.specials()));
        }
    }
    let bare = !file.tensors().names().iter().any(|name| name.starts_with(M::NAMING.prefix));
    let generation_path = folder.join(HF_GENERATION);
    let generation = generation_path.exists().then(|| bounded_json::read(&generation_path)).transpose()?;
    let origin =
        Origin { config, generation, absent: absent.iter().map(|&group| group.to_owned()).collect(), bare };
    Ok(Published { model, file, absent, origin, tokenizer, remarks })
}

fn verb(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn no_model(path: &Path, error: NoModel) -> Error {
    match error {
        NoModel::Unsupported(unsupported) => {
            refused(path, &unsupported.key, unsupported.expected, unsupported.got)
        }
        NoModel::Malformed(error) => Error::Data { path: path.to_owned(), message: error.to_string() },
    }
}

/// Every token must be in the table.
fn fits(path: &Path, config: &Map<String, Value>, tokenizer: &Tokenizer) -> Result<()> {
    let vocab = config.get("vocab_size").and_then(Value::as_u64);
    match vocab {
        Some(vocab) if vocab < tokenizer.vocab() as u64 => {
            let expected = format!("at least {}, the tokenizer's entries", tokenizer.vocab());
            Err(refused(path, "vocab_size", expected, vocab.to_string()))
        }
        _ => Ok(()),
    }
}

/// A remark where the configuration ends texts with another token than training here does.
fn other_end(config: &Map<String, Value>, specials: Specials) -> Option<String> {
    let theirs = config.get("eos_token_id").and_then(Value::as_u64)?;
    let end = specials.end().filter(|end| u64::from(*end) != theirs)?;
    Some(format!(
        "eos_token_id is {theirs}, the tokenizer's end of text {end}: training and generation here take the latter"
    ))
}

/// Whether a path is a published folder.
pub(crate) fn is_published(path: &Path) -> bool {
    path.join(CONFIG).is_file()
}

/// The files of a folder that hold weights, with the list of them where there is one.
pub(crate) fn weight_files(file: &TensorFile) -> Vec<PathBuf> {
    file.files().map(Path::to_owned).collect()
}
