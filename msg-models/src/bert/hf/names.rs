//! Names and layouts of a BERT in Hugging Face files.
//!
//! Source: `BertForPreTraining` of transformers.

use crate::{
    bert::config::BertConfig,
    hf::{file_layout::FileLayout, layout::Naming},
    sizes::Sizes,
};
use msg_core::params::ParamName;
use std::borrow::Cow;

/// How the walk of a [`Bert`](crate::bert::Bert) is laid out in a file.
pub const NAMING: Naming = Naming::new(layout)
    .with_aliases(&[
        ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ])
    .with_spelling(spelling)
    .with_parts("bert.", &["bert.pooler.", "cls.predictions.", "cls.seq_relationship."]);

/// The matrices of a model: what a file must hold before a model is made for it.
pub fn outline(config: &BertConfig) -> impl Iterator<Item = (String, Vec<usize>)> {
    let &BertConfig { vocab, positions, segments, head_dim, sizes, .. } = config;
    let Sizes { layers, hidden, ffn, heads, .. } = sizes;
    let of = |name: &str, shape: [usize; 2]| (format!("{name}.weight"), shape.to_vec());
    let outside = [
        of("bert.embeddings.word_embeddings", [vocab, hidden]),
        of("bert.embeddings.position_embeddings", [positions, hidden]),
        of("bert.embeddings.token_type_embeddings", [segments, hidden]),
        of("bert.pooler.dense", [hidden, hidden]),
        of("cls.predictions.transform.dense", [hidden, hidden]),
    ];
    let inner = heads.saturating_mul(head_dim);
    outside.into_iter().chain((0..layers).flat_map(move |layer| {
        let in_layer = |name: &str, shape| of(&format!("bert.encoder.layer.{layer}.{name}"), shape);
        [
            in_layer("attention.self.query", [inner, hidden]),
            in_layer("attention.self.key", [inner, hidden]),
            in_layer("attention.self.value", [inner, hidden]),
            in_layer("attention.output.dense", [hidden, inner]),
            in_layer("intermediate.dense", [ffn, hidden]),
            in_layer("output.dense", [hidden, ffn]),
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
