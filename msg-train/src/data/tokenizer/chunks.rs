//! Tokenising each chunk of text once.
//!
//! Text repeats its words, and the general encoder spends most of its time on what surrounds tokens (offsets,
//! copies). The tokenizers of GPT-2 and BERT never join text across a place where whitespace follows
//! something else, nor does what stands on one side decide about the other: there the text can be cut, and
//! what a chunk becomes be remembered.

use std::{collections::HashMap, ops::Range};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, models::ModelWrapper};

/// Longest chunk that is remembered, in bytes: longer ones do not come again.
const LONGEST: usize = 48;
/// Most chunks remembered by one thread.
const MOST: usize = 1 << 16;

/// Whether the text of a tokenizer can be cut into chunks.
pub(super) fn can_cut(tokenizer: &tokenizers::Tokenizer) -> bool {
    // Other added tokens may have spaces within; special ones are spelt out.
    if tokenizer.get_added_tokens_decoder().values().any(|token| !token.special) {
        return false;
    }
    match (tokenizer.get_normalizer(), tokenizer.get_pre_tokenizer(), tokenizer.get_model()) {
        (None, Some(PreTokenizerWrapper::ByteLevel(level)), ModelWrapper::BPE(model)) => {
            level.use_regex && !level.add_prefix_space && model.dropout.is_none()
        }
        (
            Some(NormalizerWrapper::BertNormalizer(_)),
            Some(PreTokenizerWrapper::BertPreTokenizer(_)),
            ModelWrapper::WordPiece(_),
        ) => true,
        _ => false,
    }
}

/// Cuts a text wherever a space, tab or end of line follows something that is no whitespace.
pub(super) fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut in_word = false;
        let end = rest.char_indices().find(|&(_, letter)| {
            // Of all whitespace only this: BERT drops some of the rest as control characters.
            let cut = in_word && matches!(letter, ' ' | '\t' | '\r' | '\n');
            in_word = !letter.is_whitespace();
            cut
        });
        let (chunk, after) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// What chunks became.
#[derive(Debug, Default)]
pub(super) struct Cache {
    places: HashMap<Box<str>, Range<u32>>,
    ids: Vec<u32>,
}

impl Cache {
    /// The ids of a chunk, if they are known.
    pub(super) fn get(&self, chunk: &str) -> Option<&[u32]> {
        self.places.get(chunk).map(|place| &self.ids[place.start as usize..place.end as usize])
    }

    /// Remembers a chunk while there is room.
    pub(super) fn insert(&mut self, chunk: &str, ids: &[u32]) {
        if chunk.len() <= LONGEST && self.places.len() < MOST {
            let start = self.ids.len() as u32;
            self.ids.extend(ids);
            self.places.insert(chunk.into(), start..self.ids.len() as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_start_with_the_whitespace_before_a_word() {
        let text = "\n one  two,three\t\n'd four\u{3000} \u{85}x\u{85}y ";
        let expected = ["\n one", "  two,three", "\t\n'd", " four\u{3000} \u{85}x\u{85}y", " "];
        assert_eq!(chunks(text).collect::<Vec<_>>(), expected);
        assert_eq!(chunks("").count(), 0);
    }
}
