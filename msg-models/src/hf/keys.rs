//! Keys of a `config.json`: which of them leave a model's function as it is. All others are refused by name.
//!
//! Source: `configuration_utils.py` of transformers, versions 4 and 5, and the published configurations.

use crate::sizes::LARGEST;
use serde_json::{Map, Value};

/// A key that asks for what this project does not compute.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{key}: expected {expected}, got {got}")]
pub struct Unsupported {
    /// The key.
    pub key: String,
    /// What would do.
    pub expected: String,
    /// What it says.
    pub got: String,
}

/// Keys that say where a model comes from, how text is generated, what is put out, or what other heads do.
const HARMLESS: [&str; 67] = [
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "decoder_start_token_id",
    "directionality",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "n_ctx",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
];

/// Keys that change the function, at the values under which they do not.
const NEUTRAL: [(&str, &[&str]); 6] = [
    ("cross_attention_hidden_size", &["null"]),
    ("is_decoder", &["false"]),
    ("is_encoder_decoder", &["false"]),
    ("pruned_heads", &["{}", "null"]),
    ("quantization_config", &["null"]),
    ("tie_encoder_decoder", &["false"]),
];

/// Refuses what a family's own keys do not cover and what may change the function.
pub(crate) fn check_others(others: &Map<String, Value>) -> Result<(), Unsupported> {
    for (key, value) in others {
        let neutral = NEUTRAL.iter().find(|(name, _)| name == key).map(|(_, values)| *values);
        match neutral {
            Some(values) => expect(key, values, value.to_string())?,
            None if HARMLESS.contains(&key.as_str()) => {}
            None => {
                let expected =
                    "no key that this importer does not know, as it may change the function".into();
                return Err(Unsupported { key: key.clone(), expected, got: value.to_string() });
            }
        }
    }
    Ok(())
}

/// Refuses a value that is none of those expected.
pub(crate) fn expect(key: &str, expected: &[&str], got: impl Into<String>) -> Result<(), Unsupported> {
    let got = got.into();
    if expected.contains(&got.as_str()) {
        return Ok(());
    }
    Err(Unsupported { key: key.to_owned(), expected: expected.join(" or "), got })
}

/// Refuses sizes of zero and those that nothing can hold.
pub(crate) fn sized(sizes: &[(&str, usize)]) -> Result<(), Unsupported> {
    match sizes.iter().find(|(_, size)| !(1..=LARGEST).contains(size)) {
        None => Ok(()),
        Some((key, size)) => Err(Unsupported {
            key: (*key).to_owned(),
            expected: format!("1 to {LARGEST}"),
            got: size.to_string(),
        }),
    }
}

/// The size of one head: hidden over heads, which must divide.
pub(crate) fn head_size(keys: [&str; 2], hidden: usize, heads: usize) -> Result<usize, Unsupported> {
    if hidden.is_multiple_of(heads) {
        return Ok(hidden / heads);
    }
    let expected = format!("a divisor of {hidden}, {}", keys[0]);
    Err(Unsupported { key: keys[1].to_owned(), expected, got: heads.to_string() })
}

/// The one rate that training has here, and a remark where a configuration has several.
pub(crate) fn dropout(rates: &[(&str, f64)]) -> Result<(f32, Option<String>), Unsupported> {
    if let Some((key, rate)) = rates.iter().find(|(_, rate)| !(0.0..1.0).contains(rate)) {
        let expected = "a share of at least 0 and below 1".into();
        return Err(Unsupported { key: (*key).to_owned(), expected, got: rate.to_string() });
    }
    let Some(&(first, rate)) = rates.first() else { return Ok((0.0, None)) };
    let others = rates.iter().filter(|(_, other)| *other != rate);
    let others: Vec<String> = others.map(|(key, other)| format!("{key} {other}")).collect();
    let remark = format!(
        "dropout {rate}, as {first}: training has one rate here, and cannot keep {}",
        others.join(", ")
    );
    Ok((rate as f32, (!others.is_empty()).then_some(remark)))
}

/// Refuses an epsilon that no norm can have.
pub(crate) fn epsilon(key: &str, eps: f64) -> Result<f64, Unsupported> {
    if eps > 0.0 && eps.is_finite() {
        return Ok(eps);
    }
    Err(Unsupported { key: key.to_owned(), expected: "a positive number".into(), got: eps.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_harmless_at_their_neutral_value_or_refused_by_name() {
        let refused = |text: &str| {
            let value: Value = serde_json::from_str(text).expect("json");
            check_others(value.as_object().expect("an object")).err().map(|error| error.to_string())
        };
        assert!(HARMLESS.is_sorted());
        assert_eq!(refused(r#"{"dtype": "float32", "pruned_heads": {}, "is_decoder": false}"#), None);
        for (text, expected) in [
            (r#"{"pruned_heads": {"0": [1]}}"#, r#"pruned_heads: expected {} or null, got {"0":[1]}"#),
            (r#"{"is_encoder_decoder": true}"#, "is_encoder_decoder: expected false, got true"),
            (
                r#"{"rope_theta": 1e4}"#,
                "rope_theta: expected no key that this importer does not know, as it may change the function, got 10000.0",
            ),
        ] {
            assert_eq!(refused(text).as_deref(), Some(expected));
        }
    }

    #[test]
    fn several_rates_become_one_and_that_is_said() {
        assert_eq!(dropout(&[("a", 0.1), ("b", 0.1)]), Ok((0.1, None)));
        let (rate, remark) = dropout(&[("a", 0.25), ("b", 0.0)]).expect("rates");
        assert_eq!(rate, 0.25);
        assert_eq!(
            remark.as_deref(),
            Some("dropout 0.25, as a: training has one rate here, and cannot keep b 0")
        );
        assert!(dropout(&[("a", f64::NAN)]).is_err());
    }
}
