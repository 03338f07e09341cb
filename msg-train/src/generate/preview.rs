//! A taste of a finished run: what its model makes of the first held-out text.

use super::{Candidate, MASK, Request, continued, fill_ids};
use crate::{
    checkpoint::Saved,
    data::{Part, Prepared, Tokenizer},
    error::Result,
    families::objective::Text,
    generate::sampling::Sampling,
};
use msg_core::Backend;

/// Tokens of the text that a model is shown.
const SHOWN: usize = 24;
/// Tokens that a GPT writes.
const WRITTEN: usize = 40;
/// Candidates of a BERT.
const CANDIDATES: usize = 3;

/// A text and what a model made of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// A GPT went on.
    Continued {
        /// The held-out text.
        prompt: String,
        /// What it wrote.
        text: String,
    },
    /// A BERT filled a token in.
    Filled {
        /// The held-out text with `[MASK]` in the place of a token.
        prompt: String,
        /// The token that stood there.
        hidden: String,
        /// What it would put there.
        candidates: Vec<Candidate>,
    },
}

/// A sample on the beginning of the held-out text, or of the training text where none is held out; none
/// where the text is too short. The same for the same model.
///
/// # Errors
/// Where data or device fail.
pub fn of_held_out<D: Backend>(saved: &Saved<D>, data: &Prepared) -> Result<Option<Sample>> {
    let tokenizer = saved.tokenizer()?;
    let held_out = data.documents(Part::HeldOut).tokens() > 0;
    let part = if held_out { Part::HeldOut } else { Part::Train };
    let (step, sampling) = (saved.state.step, Sampling::default());
    let text = saved.model.text();
    let positions = match text {
        Text::Continues(_) => saved.model.lengths().1,
        Text::Fills(_) => saved.model.lengths().1.saturating_sub(2),
        Text::Neither => return Ok(None),
    };
    let length = data.documents(part).tokens().min(SHOWN.min(positions) as u64);
    let mut ids = vec![0; length as usize];
    data.read(part, 0, &mut ids)?;
    let (model, specials) = (&*saved.model, tokenizer.specials());
    Ok(match text {
        Text::Neither => None,
        Text::Continues(_) => {
            // A document that ends here would be followed by another.
            let ids: Vec<u32> = ids.into_iter().take_while(|id| specials.end() != Some(*id)).collect();
            if ids.is_empty() {
                return Ok(None);
            }
            let mut text = String::new();
            let request = Request { tokens: WRITTEN, sampling, step };
            continued(model, tokenizer, &ids, &request, &mut |piece| {
                text.push_str(piece);
                Ok(())
            })?;
            Some(Sample::Continued { prompt: tokenizer.decode(&ids)?, text })
        }
        Text::Fills(_) => {
            let (Some(at), Some(specials)) = (word(tokenizer, &ids)?, specials.bert()) else {
                return Ok(None);
            };
            let hidden = tokenizer.token(ids[at]).unwrap_or_default();
            let prompt = [tokenizer.decode(&ids[..at])?, MASK.into(), tokenizer.decode(&ids[at + 1..])?];
            ids[at] = specials.mask;
            let candidates = fill_ids(model, tokenizer, &ids, CANDIDATES, step)?;
            let candidates = candidates.into_iter().next().unwrap_or_default();
            Some(Sample::Filled { prompt: prompt.join(" ").trim().to_owned(), hidden, candidates })
        }
    })
}

/// The token nearest to the middle that is a whole word; the middle one where none is.
fn word(tokenizer: &Tokenizer, ids: &[u32]) -> Result<Option<usize>> {
    let middle = ids.len() / 2;
    let mut places: Vec<usize> = (0..ids.len()).collect();
    places.sort_by_key(|place| place.abs_diff(middle));
    let parts = tokenizer.word_parts();
    let part = |at: usize| ids.get(at..at + 2).is_some_and(|pair| parts.joins(pair[0], pair[1]));
    for &at in places.iter().filter(|at| !part(**at) && !at.checked_sub(1).is_some_and(part)) {
        let text = tokenizer.decode(&ids[at..=at])?;
        let word = text.trim();
        if word.chars().count() >= 3 && word.chars().all(char::is_alphabetic) {
            return Ok(Some(at));
        }
    }
    Ok(places.first().copied())
}
