//! A finished model as a folder that transformers loads: weights, configurations, tokenizer.

use crate::{
    data::{BERT_SPECIALS, END_OF_TEXT, Specials, Tokenizer},
    error::{AtPath, Error, Result},
    task::{HfConfig, Task},
};
use msg_core::device::Backend;
use msg_models::hf::{self, Unrepresentable};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fs, path::Path};

/// Writes the model and its tokenizer into `folder`. Where transformers cannot represent the model, the
/// weights and the tokenizer stand there without a configuration, which would describe another function;
/// the reason is returned.
///
/// # Errors
/// Where the system or the device refuse, or a value is not finite.
pub fn export<D: Backend, M: Task<D>>(
    model: &M,
    positions: usize,
    tokenizer: &Tokenizer,
    folder: &Path,
) -> Result<Option<Unrepresentable>> {
    fs::create_dir_all(folder).at(folder)?;
    hf::save(model, &M::NAMING, &BTreeMap::new(), folder.join("model.safetensors"))?;
    let path = folder.join("tokenizer.json");
    fs::write(&path, tokenizer.json()).at(&path)?;
    let tokens = special_tokens(tokenizer.specials());
    write(folder, "special_tokens_map.json", &json!(tokens))?;
    write(folder, "tokenizer_config.json", &tokenizer_config(tokens, tokenizer.specials(), positions))?;
    let HfConfig { config, generation } = match model.hugging_face(tokenizer.specials()) {
        Ok(configs) => configs,
        Err(reason) => return Ok(Some(reason)),
    };
    write(folder, "config.json", &config)?;
    if let Some(generation) = generation {
        write(folder, "generation_config.json", &generation)?;
    }
    Ok(None)
}

/// The special tokens by the names that transformers has for them.
fn special_tokens(specials: Specials) -> Map<String, Value> {
    let [pad, unk, cls, sep, mask] = BERT_SPECIALS;
    let named = match specials {
        Specials::Gpt { .. } => vec![("bos_token", END_OF_TEXT), ("eos_token", END_OF_TEXT)],
        Specials::Bert(_) => vec![
            ("pad_token", pad),
            ("unk_token", unk),
            ("cls_token", cls),
            ("sep_token", sep),
            ("mask_token", mask),
        ],
    };
    named.into_iter().map(|(name, token)| (name.to_owned(), token.into())).collect()
}

/// `tokenizer_config.json`: the class that reads any tokenizer.json, and what a model takes from it.
fn tokenizer_config(tokens: Map<String, Value>, specials: Specials, positions: usize) -> Value {
    let inputs: &[&str] = match specials {
        // A GPT-2 would look token types up in its token table.
        Specials::Gpt { .. } => &["input_ids", "attention_mask"],
        Specials::Bert(_) => &["input_ids", "token_type_ids", "attention_mask"],
    };
    let mut config = tokens;
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    config.insert("model_max_length".into(), positions.into());
    config.insert("model_input_names".into(), json!(inputs));
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    config.into()
}

fn write(folder: &Path, name: &str, value: &Value) -> Result<()> {
    let path = folder.join(name);
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Checkpoint { path: path.clone(), message: error.to_string() })?;
    fs::write(&path, text + "\n").at(&path)
}
