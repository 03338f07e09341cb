//! What a GPT writes after a prompt.

use super::TextStream;
use crate::{
    data::{Specials, Tokenizer},
    error::{Error, Result},
    generate::sampling::Sampling,
};
use msg_core::{device::Backend, ops::cross_entropy::IGNORED};
use msg_models::{
    GrowingModel,
    gpt::{Gpt, GptBatch},
};

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
    Ok(match (ids.is_empty(), tokenizer.specials()) {
        (true, Specials::Gpt { end }) => vec![end],
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
    model: &Gpt<D>,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    request: &Request,
    on: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Vec<u32>> {
    request.sampling.check()?;
    if request.tokens == 0 {
        return Err(Error::Argument { name: "tokens", expected: "at least 1".into(), got: "0".into() });
    }
    let masks = model.masks(request.step)?;
    let mut ids = prompt.to_vec();
    let mut text = TextStream::after(tokenizer, prompt);
    for number in 0..request.tokens as u64 {
        let seen = &ids[ids.len().saturating_sub(model.config().positions)..];
        let (labels, shape) = (vec![IGNORED; seen.len()], (1, seen.len()));
        let batch = GptBatch::new(model.device(), seen, &labels, shape, model.config())?;
        let logits = model.next_logits(&batch, &masks)?.as_vec();
        // A model's table may have entries that no token fills.
        let spelt = logits.len().min(tokenizer.vocab());
        let token = request.sampling.token(&logits[..spelt], number)?;
        if tokenizer.specials() == (Specials::Gpt { end: token }) {
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
