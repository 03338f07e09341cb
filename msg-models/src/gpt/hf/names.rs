//! Names and layouts of a GPT-2 in Hugging Face files.
//!
//! Source: `GPT2LMHeadModel` of transformers; its `Conv1D` keeps weights as (inputs, outputs).

use crate::{
    gpt::config::GptConfig,
    hf::{file_layout::FileLayout, layout::Naming},
    sizes::Sizes,
};
use msg_core::params::ParamName;
use std::borrow::Cow;

/// How the walk of a [`Gpt`](crate::gpt::Gpt) is laid out in a file.
pub const NAMING: Naming = Naming::new(layout)
    .with_aliases(&[("lm_head.weight", "transformer.wte.weight")])
    .with_spelling(spelling)
    .with_parts("transformer.", &[]);

/// The matrices of a model: what a file must hold before a model is made for it.
pub fn outline(config: &GptConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
    let &GptConfig { vocab, positions, head_dim, sizes, .. } = config;
    let Sizes { layers, hidden, ffn, heads, .. } = sizes;
    let tables = [
        ("transformer.wte.weight".to_owned(), vec![vocab, hidden]),
        ("transformer.wpe.weight".to_owned(), vec![positions, hidden]),
    ];
    let inner = heads.saturating_mul(head_dim);
    tables.into_iter().chain((0..layers).flat_map(move |layer| {
        let of =
            |name: &str, shape: [usize; 2]| (format!("transformer.h.{layer}.{name}.weight"), shape.to_vec());
        [
            of("attn.c_attn", [hidden, inner.saturating_mul(3)]),
            of("attn.c_proj", [inner, hidden]),
            of("mlp.c_fc", [hidden, ffn]),
            of("mlp.c_proj", [ffn, hidden]),
        ]
    }))
}

fn layout(name: &ParamName) -> FileLayout {
    let name = name.to_string();
    let conv = ["c_attn.weight", "c_proj.weight", "c_fc.weight"];
    match &name {
        name if conv.iter().any(|leaf| name.ends_with(leaf)) => FileLayout::Transposed,
        name if name.ends_with("c_attn.bias") => FileLayout::Merged,
        _ => FileLayout::AsIs,
    }
}

/// Files of the bare `GPT2Model` lack the prefix; older ones hold the causal mask as a buffer.
fn spelling(name: &str) -> Option<Cow<'_, str>> {
    if name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") {
        return None;
    }
    let bare = ["wte.", "wpe.", "h.", "ln_f."].iter().any(|start| name.starts_with(start));
    Some(if bare { Cow::Owned(format!("transformer.{name}")) } else { Cow::Borrowed(name) })
}
