//! What a model fills into masked places.

use crate::{
    data::{BertSpecials, Tokenizer},
    error::{Error, Result},
    families::{any::AnyModel, objective::Text},
    generate::sampling::{ranked, softmax},
};
use msg_core::Backend;

/// Marks a place to be filled in.
pub const MASK: &str = "[MASK]";

/// A token for a masked place.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its id.
    pub id: u32,
    /// As the vocabulary spells it.
    pub token: String,
    /// Its probability among all entries of the token table.
    pub probability: f64,
}

/// A text whose masked places are filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    /// The text with the most probable token in each place.
    pub text: String,
    /// The candidates of each place, in the order of the text, most probable first.
    pub places: Vec<Vec<Candidate>>,
}

/// Fills every `[MASK]` of a text in, under the masks of a step; `top` candidates for each.
///
/// # Errors
/// Where the text has no `[MASK]` or is longer than the model's positions, `top` is 0, a logit is no number,
/// or the device fails.
pub fn fill<D: Backend>(
    model: &dyn AnyModel<D>,
    tokenizer: &Tokenizer,
    text: &str,
    top: usize,
    step: u64,
) -> Result<Filled> {
    let specials = bert(tokenizer)?;
    let mut ids = Vec::new();
    for (number, piece) in text.split(MASK).enumerate() {
        if number > 0 {
            ids.push(specials.mask);
        }
        ids.extend(tokenizer.encode(piece)?);
    }
    let places = fill_ids(model, tokenizer, &ids, top, step)?;
    let mut best = places.iter().filter_map(|candidates| Some(candidates.first()?.id));
    for id in ids.iter_mut().filter(|id| **id == specials.mask) {
        *id = best.next().unwrap_or(*id);
    }
    Ok(Filled { text: tokenizer.decode(&ids)?, places })
}

/// The candidates of each mask token among `ids`, which are one segment without special tokens around it.
/// Special tokens are no candidates.
///
/// # Errors
/// As [`fill`].
pub fn fill_ids<D: Backend>(
    model: &dyn AnyModel<D>,
    tokenizer: &Tokenizer,
    ids: &[u32],
    top: usize,
    step: u64,
) -> Result<Vec<Vec<Candidate>>> {
    let refuse = |name, expected: String, got: String| Err(Error::Argument { name, expected, got });
    let specials = bert(tokenizer)?;
    if top == 0 {
        return refuse("top-k", "at least 1".into(), "0".into());
    }
    if !ids.contains(&specials.mask) {
        return refuse("prompt", format!("a text with {MASK}"), "one without".into());
    }
    let room = model.lengths().1.saturating_sub(2);
    if ids.len() > room {
        let expected = format!("at most {room} tokens beside [CLS] and [SEP]");
        return refuse("prompt", expected, ids.len().to_string());
    }
    let ids = [&[specials.cls], ids, &[specials.sep]].concat();
    let Text::Fills(fills) = model.text() else {
        let expected = "one that fills in masked tokens".into();
        return refuse("model", expected, model.family().into());
    };
    let rows = fills.fill_in_logits(&ids, specials.mask, &model.masks_at(step)?)?;
    let never = specials.sorted();
    let candidates = |row: &[f32]| -> Result<Vec<Candidate>> {
        let probable = softmax(&ranked(row)?, 1.0).into_iter();
        let spelt = probable
            .filter(|(id, _)| never.binary_search(id).is_err())
            .filter_map(|(id, p)| Some(Candidate { id, token: tokenizer.token(id)?, probability: p }));
        Ok(spelt.take(top).collect())
    };
    rows.iter().map(|row| candidates(row)).collect()
}

/// The special tokens of a BERT's tokenizer.
fn bert(tokenizer: &Tokenizer) -> Result<BertSpecials> {
    let specials = tokenizer.specials();
    specials.bert().ok_or_else(|| Error::Argument {
        name: "tokenizer",
        expected: "one for bert".into(),
        got: format!("one for {}", specials.kind().name()),
    })
}
