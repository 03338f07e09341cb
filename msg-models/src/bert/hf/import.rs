//! From the `config.json` of a BERT to a [`BertConfig`]; a key that asks for another function is refused by name.

use crate::{
    bert::{config::BertConfig, hf::config::BertHfConfig},
    hf::keys::{self, Unsupported},
    sizes,
};
use msg_core::ops::Gelu;

/// Classes whose function is that of a [`Bert`](crate::bert::Bert), or a part of it.
const CLASSES: [&str; 3] = ["BertForPreTraining", "BertForMaskedLM", "BertModel"];

impl BertHfConfig {
    /// The model's configuration, and warnings about settings that training will not preserve.
    ///
    /// # Errors
    /// [`Unsupported`] for the first key that asks for another function.
    pub fn model(&self) -> Result<(BertConfig, Vec<String>), Unsupported> {
        keys::expect("model_type", &["bert"], &self.model_type)?;
        for class in &self.architectures {
            keys::expect("architectures", &CLASSES, class)?;
        }
        let gelu = match self.hidden_act.as_str() {
            "gelu_new" | "gelu_pytorch_tanh" => Gelu::Tanh,
            other => {
                keys::expect("hidden_act", &["gelu", "gelu_python", "gelu_new"], other)?;
                Gelu::Erf
            }
        };
        keys::expect("position_embedding_type", &["absolute"], &self.position_embedding_type)?;
        let flags = [
            ("is_decoder", self.is_decoder, "false"),
            ("add_cross_attention", self.add_cross_attention, "false"),
            ("tie_word_embeddings", self.tie_word_embeddings, "true"),
        ];
        for (key, value, expected) in flags {
            keys::expect(key, &[expected], value.to_string())?;
        }
        keys::check_others(&self.other)?;
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        keys::sized(&[
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
            ("hidden_size", hidden),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", heads),
            ("intermediate_size", self.intermediate_size),
        ])?;
        let rates = [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
        ];
        let (dropout, remark) = keys::dropout(&rates)?;
        let config = BertConfig {
            vocab: self.vocab_size,
            positions: self.max_position_embeddings,
            segments: self.type_vocab_size,
            head_dim: keys::head_size(["hidden_size", "num_attention_heads"], hidden, heads)?,
            sizes: sizes! { layers: self.num_hidden_layers, hidden, ffn: self.intermediate_size, heads },
            eps: keys::epsilon("layer_norm_eps", self.layer_norm_eps)?,
            gelu,
            dropout,
        };
        Ok((config, remark.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refused(change: Value) -> String {
        let mut config = json!({"model_type": "bert"});
        config.as_object_mut().expect("object").extend(change.as_object().expect("object").clone());
        let config: BertHfConfig = serde_json::from_value(config).expect("keys");
        config.model().expect_err("another function").to_string()
    }

    #[test]
    fn the_published_base_is_ours_and_other_functions_are_refused_by_their_key() {
        let base = BertHfConfig::default().model().expect("supported");
        assert_eq!(base, (BertConfig::default(), Vec::new()));
        for (change, start) in [
            (
                json!({"position_embedding_type": "relative_key"}),
                "position_embedding_type: expected absolute",
            ),
            (json!({"is_decoder": true}), "is_decoder: expected false"),
            (json!({"add_cross_attention": true}), "add_cross_attention: expected false"),
            (json!({"hidden_act": "silu"}), "hidden_act: expected gelu or"),
            (json!({"architectures": ["BertLMHeadModel"]}), "architectures: expected BertForPreTraining or"),
            (json!({"embedding_size": 128}), "embedding_size: expected no key"),
            (json!({"type_vocab_size": 0}), "type_vocab_size: expected 1 to"),
        ] {
            let refused = refused(change);
            assert!(refused.starts_with(start), "{refused}");
        }
    }
}
