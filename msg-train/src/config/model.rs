//! `[model]`: what does not grow of a model.

use super::SpecialTokens;
use msg_core::ops::Gelu;
use msg_models::GrowingAxis;
use serde::{Deserialize, Serialize};

/// What a configuration needs to know of a family. The families themselves are not known here.
#[derive(Clone, Copy, Debug)]
pub struct FamilyRules {
    /// Its name: the value of `model.family`.
    pub name: &'static str,
    /// Fills in what `[model]` leaves out with the family's published values. A key that stays open is one that the
    /// family does not have.
    pub fill: fn(&mut ModelConfig),
    /// The axes along which it grows.
    pub axes: &'static [GrowingAxis],
    /// The special tokens that its tokenizers need.
    pub specials: SpecialTokens,
    /// Whether sequences are pieces of one window, so that their length must divide the longest.
    pub whole_windows: bool,
    /// Whether it predicts masked tokens, as `[data.mlm]` says.
    pub mlm: bool,
}

impl PartialEq for FamilyRules {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The `[model]` table. What is left out has the family's published value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The architecture.
    pub family: String,
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
    pub family: FamilyRules,
    /// Size of one head.
    pub head_dim: usize,
    /// Longest sequence.
    pub positions: usize,
    /// Entries of the token table; where none are given, the tokenizer's.
    pub vocab: Option<usize>,
    /// Dropout rate.
    pub dropout: f32,
    /// Added to the variance in every norm, where the family has the key.
    pub eps: Option<f64>,
    /// Form of the activation, where the family has the key.
    pub gelu: Option<Gelu>,
    /// Standard deviation of first weights.
    pub init_std: f32,
}
