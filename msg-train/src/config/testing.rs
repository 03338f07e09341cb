//! A family for tests of what knows no families, and a small run of it.

use super::{FamilyRules, Resolved, SpecialTokens, parse};
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

/// A small run of one stage; further stages may follow.
const SMALL: &str = r#"
    [run]
    name = "small"
    [data]
    sources = ["text"]
    tokenizer = { kind = "bytes" }
    [model]
    family = "gpt"
    head_dim = 4
    [lr]
    shape = "constant"
    peak = 1e-3
    [[stage]]
    steps = 3
    layers = 1
    hidden = 8
    ffn = 16
    heads = 2
    sequence = 16
    batch = 4
"#;

/// A small run with `more` stages after its first, and some keys changed.
pub(crate) fn small(more: &str, changes: &[&str]) -> Resolved {
    let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
    parse(&format!("{SMALL}{more}"), "small.toml", &changes, FAMILIES).unwrap()
}
