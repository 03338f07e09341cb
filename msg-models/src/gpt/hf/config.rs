//! The `config.json` of a GPT-2 in transformers.
//!
//! Source: `configuration_gpt2.py` of transformers. One struct for writing and reading: keys that a file
//! leaves out have transformers' defaults, keys that are not listed here stay in `other`.

use crate::{
    gpt::config::GptConfig,
    growing::state::GrowthState,
    hf::representable::{Unrepresentable, decimal, representable},
};
use msg_core::ops::Gelu;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Keys and defaults of transformers' `GPT2Config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GptHfConfig {
    /// Classes that the weights were saved from.
    pub architectures: Vec<String>,
    /// Which configuration class reads this.
    pub model_type: String,
    /// Tokens.
    pub vocab_size: usize,
    /// Longest sequence.
    pub n_positions: usize,
    /// Units of the residual stream.
    pub n_embd: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Attention heads, of `n_embd / n_head` units each.
    pub n_head: usize,
    /// Units of the feed-forward layer; by default four times `n_embd`.
    pub n_inner: Option<usize>,
    /// `gelu_new` (tanh) or `gelu` (erf); others are not ours.
    pub activation_function: String,
    /// Dropout on the branches.
    pub resid_pdrop: f64,
    /// Dropout on the embeddings.
    pub embd_pdrop: f64,
    /// Dropout on attention probabilities.
    pub attn_pdrop: f64,
    /// Added to the variance in every norm.
    pub layer_norm_epsilon: f64,
    /// Standard deviation of first weights.
    pub initializer_range: f64,
    /// Whether scores are divided by the root of the head size.
    pub scale_attn_weights: bool,
    /// Whether scores are divided by the layer's number, too.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Whether attention is computed in another order and precision.
    pub reorder_and_upcast_attn: bool,
    /// Whether blocks attend to an encoder.
    pub add_cross_attention: bool,
    /// Whether the head is the token table.
    pub tie_word_embeddings: bool,
    /// Whether generation keeps keys and values.
    pub use_cache: bool,
    /// The token that starts a text.
    pub bos_token_id: Option<u32>,
    /// The token that ends a text.
    pub eos_token_id: Option<u32>,
    /// All other keys, unchanged.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for GptHfConfig {
    fn default() -> Self {
        let GptConfig { vocab, positions, sizes, eps, .. } = GptConfig::default();
        GptHfConfig {
            architectures: Vec::new(),
            model_type: "gpt2".into(),
            vocab_size: vocab,
            n_positions: positions,
            n_embd: sizes.hidden,
            n_layer: sizes.layers,
            n_head: sizes.heads,
            n_inner: None,
            activation_function: "gelu_new".into(),
            resid_pdrop: 0.1,
            embd_pdrop: 0.1,
            attn_pdrop: 0.1,
            layer_norm_epsilon: eps,
            initializer_range: 0.02,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            reorder_and_upcast_attn: false,
            add_cross_attention: false,
            tie_word_embeddings: true,
            use_cache: true,
            bos_token_id: Some(50256),
            eos_token_id: Some(50256),
            other: Map::new(),
        }
    }
}

impl GptHfConfig {
    /// The configuration of a model made from `config` in the state `growing`; the token `end` starts and ends
    /// its texts.
    ///
    /// # Errors
    /// Where transformers cannot represent the model.
    pub fn new(config: &GptConfig, growing: &GrowthState, end: Option<u32>) -> Result<Self, Unrepresentable> {
        representable(growing)?;
        let (sizes, dropout) = (growing.sizes, decimal(config.dropout));
        Ok(GptHfConfig {
            architectures: vec!["GPT2LMHeadModel".into()],
            vocab_size: config.vocab,
            n_positions: config.positions,
            n_embd: sizes.hidden,
            n_layer: sizes.layers,
            n_head: sizes.heads,
            n_inner: Some(sizes.ffn),
            activation_function: match config.gelu {
                Gelu::Tanh => "gelu_new".into(),
                Gelu::Erf => "gelu".into(),
            },
            resid_pdrop: dropout,
            embd_pdrop: dropout,
            attn_pdrop: dropout,
            layer_norm_epsilon: config.eps,
            bos_token_id: end,
            eos_token_id: end,
            ..GptHfConfig::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes;

    fn model() -> (GptConfig, GrowthState) {
        let sizes = sizes! { layers: 3, hidden: 12, ffn: 20, heads: 4 };
        let config =
            GptConfig { vocab: 50, positions: 7, head_dim: 3, sizes, dropout: 0.1, ..GptConfig::default() };
        (config, GrowthState::new(sizes, 3).expect("sizes"))
    }

    #[test]
    fn what_is_written_is_read_again_and_says_what_the_model_is() {
        let (config, growing) = model();
        let written = GptHfConfig::new(&GptConfig { gelu: Gelu::Erf, ..config }, &growing, Some(49));
        let written = written.expect("representable");
        let json = serde_json::to_value(&written).expect("json");
        for (key, value) in [
            ("architectures", serde_json::json!(["GPT2LMHeadModel"])),
            ("n_embd", 12.into()),
            ("n_inner", 20.into()),
            ("n_head", 4.into()),
            ("n_layer", 3.into()),
            ("activation_function", "gelu".into()),
            ("attn_pdrop", 0.1.into()),
            ("layer_norm_epsilon", 1e-5.into()),
            ("eos_token_id", 49.into()),
        ] {
            assert_eq!(json[key], value, "{key}");
        }
        assert_eq!(serde_json::from_value::<GptHfConfig>(json).expect("read"), written);
    }

    #[test]
    fn keys_that_are_left_out_have_the_published_values_and_others_are_kept() {
        let text = r#"{"model_type": "gpt2", "n_head": 25, "n_ctx": 1024, "activation_function": "relu"}"#;
        let read: GptHfConfig = serde_json::from_str(text).expect("read");
        assert_eq!((read.n_head, read.n_embd, read.n_inner), (25, 768, None));
        assert_eq!((read.activation_function.as_str(), &read.other["n_ctx"]), ("relu", &1024.into()));
    }

    #[test]
    fn models_that_transformers_cannot_represent_have_no_configuration() {
        let (config, mut growing) = model();
        growing.sizes.hidden = 13;
        let text = GptHfConfig::new(&config, &growing, None).expect_err("13 is not 4 heads of 3").to_string();
        let expected =
            "4 heads of size 3 are 12 units, hidden is 13: transformers has hidden / heads as the head size";
        assert_eq!(text, expected);
    }
}
