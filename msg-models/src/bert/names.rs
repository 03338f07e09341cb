//! Names and layouts of a BERT in Hugging Face files.
//!
//! Source: `BertForPreTraining` of transformers.

use super::BertConfig;
use crate::{
    Sizes,
    hf::{FileLayout, Naming},
};
use msg_core::params::ParamName;
use std::borrow::Cow;

/// How the walk of a [`Bert`](super::Bert) lies in a file.
pub const NAMING: Naming = Naming::new(layout)
    .with_aliases(&[
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ])
    .with_spelling(spelling)
    .with_parts("bert.", &["bert.pooler.", "cls.predictions.", "cls.seq_relationship."]);

/// Tensors that fix every size of a model: what a file must hold before one is made for it.
pub fn outline(config: &BertConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
    let &BertConfig { vocab, positions, segments, head_dim, sizes, .. } = config;
    let Sizes { layers, hidden, ffn, heads } = sizes;
    let table = move |name: &str, entries| (format!("bert.embeddings.{name}.weight"), vec![entries, hidden]);
    let tables = [
        table("word_embeddings", vocab),
        table("position_embeddings", positions),
        table("token_type_embeddings", segments),
    ];
    let inner = heads.saturating_mul(head_dim);
    tables.into_iter().chain((0..layers).flat_map(move |layer| {
        let at = format!("bert.encoder.layer.{layer}");
        [
            (format!("{at}.attention.self.query.weight"), vec![inner, hidden]),
            (format!("{at}.intermediate.dense.weight"), vec![ffn, hidden]),
        ]
    }))
}

fn layout(name: &ParamName) -> FileLayout {
    if name.to_string().contains("attention.self.{query,key,value}") {
        FileLayout::Split
    } else {
        FileLayout::AsIs
    }
}

/// Files of the bare `BertModel` lack the prefix; those converted from TensorFlow call a norm's tensors gamma
/// and beta; older ones hold position ids.
fn spelling(name: &str) -> Option<Cow<'_, str>> {
    if ["embeddings.", "encoder.", "pooler."].iter().any(|start| name.starts_with(start)) {
        let full = format!("bert.{name}");
        return spelling(&full).map(|name| Cow::Owned(name.into_owned()));
    }
    if name == "bert.embeddings.position_ids" {
        return None;
    }
    let renamed = [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")];
    let found = renamed.iter().find_map(|(old, new)| Some(format!("{}{new}", name.strip_suffix(old)?)));
    Some(found.map_or(Cow::Borrowed(name), Cow::Owned))
}
