//! Names and layouts of a BERT in Hugging Face files.
//!
//! Source: `BertForPreTraining` of transformers.

use crate::hf::{FileLayout, Naming};
use msg_core::params::ParamName;
use std::borrow::Cow;

/// How the walk of a [`Bert`](super::Bert) lies in a file.
pub const NAMING: Naming = Naming::new(layout)
    .with_aliases(&[
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ])
    .with_spelling(spelling);

fn layout(name: &ParamName) -> FileLayout {
    if name.to_string().contains("attention.self.{query,key,value}") {
        FileLayout::Split
    } else {
        FileLayout::AsIs
    }
}

/// Files converted from TensorFlow call a norm's tensors gamma and beta; older ones hold position ids.
fn spelling(name: &str) -> Option<Cow<'_, str>> {
    if name == "bert.embeddings.position_ids" {
        return None;
    }
    let renamed = [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")];
    let found = renamed.iter().find_map(|(old, new)| Some(format!("{}{new}", name.strip_suffix(old)?)));
    Some(found.map_or(Cow::Borrowed(name), Cow::Owned))
}
