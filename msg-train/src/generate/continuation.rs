//! What a causal model writes after a prompt.

use super::TextStream;
use crate::{
    data::Tokenizer,
    error::{Error, Result},
    families::{any::AnyModel, objective::Text},
    generate::sampling::Sampling,
};
use msg_core::Backend;

/// How much to write, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Tokens at most; the end token ends the text before.
    pub tokens: usize,
    /// How each is chosen.
    pub sampling: Sampling,
    /// The step whose masks are in force.
    pub step: u64,
}

/// The ids of a prompt; of an empty one the end token, after which a document begins.
///
/// # Errors
/// Where the tokenizer refuses the text.
pub fn prompt_ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(text)?;
    Ok(match (ids.is_empty(), tokenizer.specials().end()) {
        (true, Some(end)) => vec![end],
        _ => ids,
    })
}

/// Goes on after `prompt`, token by token, and returns the ids of what was written, the end token left out.
/// `on` is given the text piece by piece. Where prompt and text are longer than the model's positions, the
/// model sees the last ones.
///
/// # Errors
/// Where an option is out of range, the prompt is empty or of another vocabulary, a logit is no number, or
/// the device fails.
pub fn continued<D: Backend>(
    model: &dyn AnyModel<D>,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    request: &Request,
    on: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Vec<u32>> {
    let Text::Continues(next) = model.text() else {
        let expected = "one that continues a text".into();
        return Err(Error::Argument { name: "model", expected, got: model.family().into() });
    };
    request.sampling.check()?;
    if request.tokens == 0 {
        return Err(Error::Argument { name: "tokens", expected: "at least 1".into(), got: "0".into() });
    }
    let (masks, (_, positions)) = (model.masks_at(request.step)?, model.lengths());
    let mut ids = prompt.to_vec();
    let mut text = TextStream::after(tokenizer, prompt);
    for number in 0..request.tokens as u64 {
        let seen = &ids[ids.len().saturating_sub(positions)..];
        let logits = next.next_token_logits(seen, &masks)?;
        // A model's table may have entries that no token fills.
        let spelt = logits.len().min(tokenizer.vocab());
        let token = request.sampling.token(&logits[..spelt], number)?;
        if tokenizer.specials().end() == Some(token) {
            break;
        }
        ids.push(token);
        let piece = text.push(token)?;
        if !piece.is_empty() {
            on(&piece)?;
        }
    }
    let rest = text.finish()?;
    if !rest.is_empty() {
        on(&rest)?;
    }
    Ok(ids.split_off(prompt.len()))
}
