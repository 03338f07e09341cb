//! From the `config.json` of a GPT-2 to a [`GptConfig`]; a key that asks for another function is refused by name.

use crate::{
    gpt::{config::GptConfig, hf::config::GptHfConfig},
    hf::keys::{self, Unsupported},
    sizes,
};
use msg_core::ops::Gelu;

/// Classes whose function is that of a [`Gpt`](crate::gpt::Gpt).
const CLASSES: [&str; 2] = ["GPT2LMHeadModel", "GPT2Model"];

impl GptHfConfig {
    /// The model's configuration, and warnings about settings that training will not preserve.
    ///
    /// # Errors
    /// [`Unsupported`] for the first key that asks for another function.
    pub fn model(&self) -> Result<(GptConfig, Vec<String>), Unsupported> {
        keys::expect("model_type", &["gpt2"], &self.model_type)?;
        for class in &self.architectures {
            keys::expect("architectures", &CLASSES, class)?;
        }
        let gelu = match self.activation_function.as_str() {
            "gelu" | "gelu_python" => Gelu::Erf,
            other => {
                keys::expect("activation_function", &["gelu_new", "gelu_pytorch_tanh", "gelu"], other)?;
                Gelu::Tanh
            }
        };
        let flags = [
            ("scale_attn_weights", self.scale_attn_weights, "true"),
            ("scale_attn_by_inverse_layer_idx", self.scale_attn_by_inverse_layer_idx, "false"),
            ("add_cross_attention", self.add_cross_attention, "false"),
            ("tie_word_embeddings", self.tie_word_embeddings, "true"),
        ];
        for (key, value, expected) in flags {
            keys::expect(key, &[expected], value.to_string())?;
        }
        keys::check_others(&self.other)?;
        let ffn = self.n_inner.unwrap_or(self.n_embd.saturating_mul(4));
        keys::sized(&[
            ("vocab_size", self.vocab_size),
            ("n_positions", self.n_positions),
            ("n_embd", self.n_embd),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_inner", ffn),
        ])?;
        let rates = [
            ("resid_pdrop", self.resid_pdrop),
            ("embd_pdrop", self.embd_pdrop),
            ("attn_pdrop", self.attn_pdrop),
        ];
        let (dropout, remark) = keys::dropout(&rates)?;
        let config = GptConfig {
            vocab: self.vocab_size,
            positions: self.n_positions,
            head_dim: keys::head_size(["n_embd", "n_head"], self.n_embd, self.n_head)?,
            sizes: sizes! { layers: self.n_layer, hidden: self.n_embd, ffn, heads: self.n_head },
            eps: keys::epsilon("layer_norm_epsilon", self.layer_norm_epsilon)?,
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

    fn read(change: Value) -> Result<(GptConfig, Vec<String>), String> {
        let mut config =
            json!({"model_type": "gpt2", "n_embd": 12, "n_head": 3, "n_layer": 2, "vocab_size": 50});
        config.as_object_mut().expect("object").extend(change.as_object().expect("object").clone());
        let config: GptHfConfig = serde_json::from_value(config).map_err(|error| error.to_string())?;
        config.model().map_err(|error| error.to_string())
    }

    #[test]
    fn activation_epsilon_and_sizes_come_from_the_file() {
        let change = json!({"layer_norm_epsilon": 1e-6, "activation_function": "gelu", "resid_pdrop": 0.0});
        let (config, remarks) = read(change).expect("supported");
        let sizes = sizes! { layers: 2, hidden: 12, ffn: 48, heads: 3 };
        assert_eq!((config.sizes, config.head_dim, config.eps, config.gelu), (sizes, 4, 1e-6, Gelu::Erf));
        assert_eq!(remarks.len(), 1, "three rates are not one: {remarks:?}");
        assert_eq!(read(json!({"n_inner": 20})).expect("supported").0.sizes.ffn, 20);
    }

    #[test]
    fn whatever_changes_the_function_is_refused_by_its_key() {
        for (change, start) in [
            (json!({"activation_function": "relu"}), "activation_function: expected gelu_new or"),
            (
                json!({"scale_attn_by_inverse_layer_idx": true}),
                "scale_attn_by_inverse_layer_idx: expected false",
            ),
            (json!({"scale_attn_weights": false}), "scale_attn_weights: expected true"),
            (json!({"add_cross_attention": true}), "add_cross_attention: expected false"),
            (json!({"tie_word_embeddings": false}), "tie_word_embeddings: expected true"),
            (
                json!({"architectures": ["GPT2ForTokenClassification"]}),
                "architectures: expected GPT2LMHeadModel",
            ),
            (json!({"model_type": "gpt_neo"}), "model_type: expected gpt2, got gpt_neo"),
            (json!({"n_head": 5}), "n_head: expected a divisor of 12, n_embd, got 5"),
            (json!({"n_head": 0}), "n_head: expected 1 to 16777216, got 0"),
            (json!({"n_embd": 1u64 << 60}), "n_embd: expected 1 to"),
            (json!({"layer_norm_epsilon": 0.0}), "layer_norm_epsilon: expected a positive number"),
            (json!({"attn_pdrop": 1.5}), "attn_pdrop: expected a share"),
            (json!({"rope": 1}), "rope: expected no key"),
            (json!({"n_layer": "two"}), "invalid type"),
        ] {
            let refused = read(change).expect_err(start);
            assert!(refused.starts_with(start), "{refused}");
        }
    }
}
