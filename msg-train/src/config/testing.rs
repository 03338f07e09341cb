//! A family for tests of what knows no families.

use super::{FamilyRules, SpecialTokens};
use msg_core::ops::Gelu;
use msg_models::gpt::GptConfig;

/// The rules of a GPT.
pub(crate) const FAMILIES: &[FamilyRules] = &[FamilyRules {
    name: "gpt",
    fill: |model| {
        model.eps.get_or_insert(1e-5);
        model.gelu.get_or_insert(Gelu::Tanh);
        model.dropout.get_or_insert(0.1);
    },
    axes: GptConfig::AXES,
    specials: SpecialTokens::EndOfText,
    whole_windows: true,
    mlm: false,
}];
