//! Names and layouts of a GPT-2 in Hugging Face files.
//!
//! Source: `GPT2LMHeadModel` of transformers; its `Conv1D` keeps weights as (inputs, outputs).

use crate::hf::{FileLayout, Naming};
use msg_core::params::ParamName;
use std::borrow::Cow;

/// How the walk of a [`Gpt`](super::Gpt) lies in a file.
pub const NAMING: Naming =
    Naming::new(layout).with_aliases(&[("lm_head.weight", "transformer.wte.weight")]).with_spelling(spelling);

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
