//! The `config.json` of a BERT in transformers.
//!
//! Source: `configuration_bert.py` of transformers. One struct for writing and reading: keys that a file
//! leaves out have transformers' defaults, keys that are not listed here stay in `other`.

use crate::{
    bert::config::BertConfig,
    growing::state::GrowthState,
    hf::representable::{Unrepresentable, decimal, representable},
};
use msg_core::ops::Gelu;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Keys and defaults of transformers' `BertConfig`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BertHfConfig {
    /// Classes that the weights were saved from.
    pub architectures: Vec<String>,
    /// Which configuration class reads this.
    pub model_type: String,
    /// Tokens.
    pub vocab_size: usize,
    /// Units of the residual stream.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Attention heads, of `hidden_size / num_attention_heads` units each.
    pub num_attention_heads: usize,
    /// Units of the feed-forward layer.
    pub intermediate_size: usize,
    /// `gelu` (erf) or `gelu_new` (tanh); others are not ours.
    pub hidden_act: String,
    /// Dropout on embeddings and branches.
    pub hidden_dropout_prob: f64,
    /// Dropout on attention probabilities.
    pub attention_probs_dropout_prob: f64,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Token types.
    pub type_vocab_size: usize,
    /// Standard deviation of first weights.
    pub initializer_range: f64,
    /// Added to the variance in every norm.
    pub layer_norm_eps: f64,
    /// The token that fills sequences up.
    pub pad_token_id: Option<u32>,
    /// `absolute`, or positions that are not ours.
    pub position_embedding_type: String,
    /// Whether it is used as a decoder.
    pub is_decoder: bool,
    /// Whether blocks attend to an encoder.
    pub add_cross_attention: bool,
    /// Whether the head is the token table.
    pub tie_word_embeddings: bool,
    /// Whether a decoder keeps keys and values.
    pub use_cache: bool,
    /// All other keys, unchanged.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for BertHfConfig {
    fn default() -> Self {
        let BertConfig { vocab, positions, segments, sizes, eps, dropout, .. } = BertConfig::default();
        BertHfConfig {
            architectures: Vec::new(),
            model_type: "bert".into(),
            vocab_size: vocab,
            hidden_size: sizes.hidden,
            num_hidden_layers: sizes.layers,
            num_attention_heads: sizes.heads,
            intermediate_size: sizes.ffn,
            hidden_act: "gelu".into(),
            hidden_dropout_prob: decimal(dropout),
            attention_probs_dropout_prob: decimal(dropout),
            max_position_embeddings: positions,
            type_vocab_size: segments,
            initializer_range: 0.02,
            layer_norm_eps: eps,
            pad_token_id: Some(0),
            position_embedding_type: "absolute".into(),
            is_decoder: false,
            add_cross_attention: false,
            tie_word_embeddings: true,
            use_cache: true,
            other: Map::new(),
        }
    }
}

impl BertHfConfig {
    /// The configuration of a model made from `config` in the state `growing`.
    ///
    /// # Errors
    /// Where transformers cannot represent the model.
    pub fn new(
        config: &BertConfig,
        growing: &GrowthState,
        pad: Option<u32>,
    ) -> Result<Self, Unrepresentable> {
        representable(growing)?;
        let (sizes, dropout) = (growing.sizes, decimal(config.dropout));
        Ok(BertHfConfig {
            architectures: vec!["BertForPreTraining".into()],
            vocab_size: config.vocab,
            hidden_size: sizes.hidden,
            num_hidden_layers: sizes.layers,
            num_attention_heads: sizes.heads,
            intermediate_size: sizes.ffn,
            hidden_act: match config.gelu {
                Gelu::Erf => "gelu".into(),
                Gelu::Tanh => "gelu_new".into(),
            },
            hidden_dropout_prob: dropout,
            attention_probs_dropout_prob: dropout,
            max_position_embeddings: config.positions,
            type_vocab_size: config.segments,
            layer_norm_eps: config.eps,
            pad_token_id: pad,
            ..BertHfConfig::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes;
    use msg_core::growth::{AxisMap, Growth, Ramp};

    #[test]
    fn what_is_written_is_read_again_and_an_unfinished_ramp_is_not_written() {
        let sizes = sizes! { layers: 3, hidden: 12, ffn: 20, heads: 4 };
        let config = BertConfig { vocab: 50, positions: 7, head_dim: 3, sizes, ..BertConfig::default() };
        let mut growing = GrowthState::new(sizes, 3).expect("sizes");
        let written = BertHfConfig::new(&config, &growing, Some(3)).expect("representable");
        let json = serde_json::to_value(&written).expect("json");
        for (key, value) in [
            ("architectures", serde_json::json!(["BertForPreTraining"])),
            ("hidden_size", 12.into()),
            ("intermediate_size", 20.into()),
            ("num_attention_heads", 4.into()),
            ("hidden_act", "gelu".into()),
            ("hidden_dropout_prob", 0.1.into()),
            ("layer_norm_eps", 1e-12.into()),
            ("pad_token_id", 3.into()),
        ] {
            assert_eq!(json[key], value, "{key}");
        }
        assert_eq!(serde_json::from_value::<BertHfConfig>(json).expect("read"), written);
        let growth = Growth::new(0, 1).with_axis(AxisMap::append("Ffn", 16, 20).expect("larger"));
        growing.ramps.grow(&growth, Ramp { start: 0, length: 5 });
        let refused = BertHfConfig::new(&config, &growing, None);
        assert_eq!(refused, Err(Unrepresentable::Ramp));
    }
}
