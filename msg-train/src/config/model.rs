//! `[model]`: what does not grow of a model.

use msg_core::ops::Gelu;
use msg_models::{GrowingAxis, bert::BertConfig, gpt::GptConfig};
use serde::{Deserialize, Serialize};

/// Which architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// GPT-2's.
    Gpt,
    /// BERT's.
    Bert,
}

impl Family {
    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Family::Gpt => "gpt",
            Family::Bert => "bert",
        }
    }

    /// The axes along which it grows.
    pub fn axes(self) -> &'static [GrowingAxis] {
        match self {
            Family::Gpt => GptConfig::AXES,
            Family::Bert => BertConfig::AXES,
        }
    }
}

/// The `[model]` table. What is left out has the family's published value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The architecture.
    pub family: Family,
    /// Size of one head, which never grows; by default the hidden size of the last stage divided by its heads, where
    /// that is a whole number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Longest sequence; by default the longest of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positions: Option<usize>,
    /// Entries of the token table; by default the tokenizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocab: Option<usize>,
    /// Dropout rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f32>,
    /// Added to the variance in every norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Form of the activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gelu: Option<Gelu>,
    /// Standard deviation of first weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_std: Option<f32>,
}

/// The `[model]` table, filled in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResolvedModel {
    /// The architecture.
    pub family: Family,
    /// Size of one head.
    pub head_dim: usize,
    /// Longest sequence.
    pub positions: usize,
    /// Entries of the token table; where none are given, the tokenizer's.
    pub vocab: Option<usize>,
    /// Dropout rate.
    pub dropout: f32,
    /// Added to the variance in every norm.
    pub eps: f64,
    /// Form of the activation.
    pub gelu: Gelu,
    /// Standard deviation of first weights.
    pub init_std: f32,
}
