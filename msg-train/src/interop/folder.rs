//! A model as a folder that transformers loads: weights, configurations, tokenizer.

use crate::{
    checkpoint::Origin,
    data::{Specials, Tokenizer},
    error::{AtPath, Error, Result},
    families::family::{Family, HfConfig},
    files::{
        atomic::replace_file,
        names::{HF_CONFIG, HF_GENERATION, HF_SPECIAL_TOKENS, HF_TOKENIZER, TOKENIZER},
    },
};
use msg_core::Backend;
use msg_models::hf::{self, Format, InFile, StoredType, Unrepresentable};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fs, path::Path};

/// Keys of a configuration that follow from the model; all others are its origin's, where it has one.
const OURS: [&str; 14] = [
    "dtype",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "max_position_embeddings",
    "n_embd",
    "n_head",
    "n_inner",
    "n_layer",
    "num_attention_heads",
    "num_hidden_layers",
    "torch_dtype",
    "vocab_size",
];

/// What goes into a folder besides the model.
pub(super) struct Contents<'a> {
    pub(super) tokenizer: Option<&'a Tokenizer>,
    pub(super) origin: Option<&'a Origin>,
    /// How each tensor is stored.
    pub(super) stored: &'a dyn Fn(&str) -> StoredType,
    /// Bytes of one file of weights at most.
    pub(super) largest: u64,
    /// Notes of the weights' files.
    pub(super) notes: &'a BTreeMap<String, String>,
    /// Longest sequence that the tokenizer should make.
    pub(super) positions: usize,
    /// The model's values, where they are still in a file.
    pub(super) values: Option<&'a InFile<'a>>,
}

/// Writes a model and its tokenizer into `folder` as transformers reads them; `positions` is the longest sequence that
/// the tokenizer should make. Where transformers cannot represent the model, weights and tokenizer are there without a
/// configuration, which would describe another function; the reason is returned.
///
/// # Errors
/// Where the system refuses, or a value is not finite.
pub fn write_hf_folder<D: Backend, M: Family<D>>(
    model: &M,
    positions: usize,
    tokenizer: Option<&Tokenizer>,
    folder: &Path,
) -> Result<Option<Unrepresentable>> {
    let contents = Contents {
        tokenizer,
        origin: None,
        stored: &|_| StoredType::F32,
        largest: u64::MAX,
        notes: &BTreeMap::new(),
        positions,
        values: None,
    };
    fs::create_dir_all(folder).at(folder)?;
    write_folder(model, &contents, folder)
}

/// Writes a model and what goes with it into a folder that is there. Without a configuration where
/// transformers cannot represent the model; the reason is returned.
pub(super) fn write_folder<D: Backend, M: Family<D>>(
    model: &M,
    contents: &Contents<'_>,
    folder: &Path,
) -> Result<Option<Unrepresentable>> {
    let Contents { tokenizer, origin, stored, largest, notes, positions, values } = *contents;
    let named = |name: &str| match origin {
        Some(origin) => origin.named(&M::NAMING, name),
        None => Some(name.to_owned()),
    };
    hf::save_folder(model, &M::NAMING, &Format { notes, stored, named: &named, largest, values }, folder)?;
    if let Some(tokenizer) = tokenizer {
        replace_file(&folder.join(TOKENIZER), tokenizer.json())?;
        let tokens = special_tokens(tokenizer);
        write(folder, HF_SPECIAL_TOKENS, &json!(tokens))?;
        write(folder, HF_TOKENIZER, &tokenizer_config(tokens, tokenizer.specials(), positions))?;
    }
    let HfConfig { mut config, generation } = match model.hugging_face(tokenizer.map(Tokenizer::specials)) {
        Ok(configs) => configs,
        Err(reason) => return Ok(Some(reason)),
    };
    if let Some(origin) = origin {
        let theirs = origin.config.iter().filter(|(key, _)| !OURS.contains(&key.as_str()));
        config.extend(theirs.map(|(key, value)| (key.clone(), value.clone())));
    }
    // Not said where tensors are stored in several types.
    let types: Vec<StoredType> =
        M::outline(&published_config::<D, M>(&config)?).map(|(name, _)| stored(&name)).collect();
    if let Some(first) = types.first().filter(|first| types.iter().all(|other| other == *first)) {
        config.insert("dtype".into(), first.torch_name().into());
    }
    write(folder, HF_CONFIG, &json!(config))?;
    let generation = origin.and_then(|origin| origin.generation.clone()).or(generation);
    if let Some(generation) = generation {
        write(folder, HF_GENERATION, &json!(generation))?;
    }
    Ok(None)
}

/// Reads the configuration back: what is written must be readable.
fn published_config<D: Backend, M: Family<D>>(config: &Map<String, Value>) -> Result<M::Config> {
    let read = M::published(config);
    read.map(|(config, _)| config)
        .map_err(|error| Error::Checkpoint { path: HF_CONFIG.into(), message: error.to_string() })
}

/// The special tokens by the names that transformers has for them.
fn special_tokens(tokenizer: &Tokenizer) -> Map<String, Value> {
    let named = tokenizer.specials().named().into_iter();
    named.map(|(name, id)| (name.to_owned(), tokenizer.token(id).unwrap_or_default().into())).collect()
}

/// `tokenizer_config.json`: the class that reads any tokenizer.json, and what a model takes from it.
fn tokenizer_config(tokens: Map<String, Value>, specials: Specials, positions: usize) -> Value {
    let mut config = tokens;
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    config.insert("model_max_length".into(), positions.into());
    config.insert("model_input_names".into(), json!(specials.model_inputs()));
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    config.into()
}

fn write(folder: &Path, name: &str, value: &Value) -> Result<()> {
    let path = folder.join(name);
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Checkpoint { path: path.clone(), message: error.to_string() })?;
    replace_file(&path, (text + "\n").as_bytes())
}
