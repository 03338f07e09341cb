//! Which token continues the word of the token before it, for whole-word masking.

use std::collections::HashMap;
use tokenizers::models::ModelWrapper;

/// How tokens join into words.
///
/// Of a WordPiece vocabulary, the pieces that start with `##` continue a word. Of all others a token does
/// where it starts with a letter, digit or byte above 127 and the token before it ends with one: a token
/// that starts with a space begins a word.
#[derive(Clone, Debug)]
pub struct WordParts {
    tokens: Vec<Ends>,
}

/// Both ends of a token.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    /// It can continue a word.
    continues: bool,
    /// A word can continue after it.
    open: bool,
}

impl WordParts {
    /// The words of a tokenizer with ids below `vocab`.
    pub(super) fn of(tokenizer: &tokenizers::Tokenizer, vocab: usize) -> Self {
        let prefix = match tokenizer.get_model() {
            ModelWrapper::WordPiece(model) => Some(model.continuing_subword_prefix.clone()),
            _ => None,
        };
        let bytes: HashMap<char, u8> = byte_characters().into_iter().zip(0..=u8::MAX).collect();
        let is_word = |letter: char| match bytes.get(&letter) {
            Some(byte) => byte.is_ascii_alphanumeric() || *byte > 127,
            None => letter.is_alphanumeric(),
        };
        let mut tokens = vec![Ends::default(); vocab];
        for (token, id) in tokenizer.get_vocab(true) {
            tokens[id as usize] = match &prefix {
                Some(prefix) => Ends { continues: token.starts_with(prefix.as_str()), open: true },
                None => Ends {
                    continues: token.chars().next().is_some_and(is_word),
                    open: token.chars().next_back().is_some_and(is_word),
                },
            };
        }
        WordParts { tokens }
    }

    /// Whether `token` continues the word that `before` belongs to.
    pub fn joins(&self, before: u32, token: u32) -> bool {
        self.ends(before).open && self.ends(token).continues
    }

    fn ends(&self, id: u32) -> Ends {
        self.tokens.get(id as usize).copied().unwrap_or_default()
    }
}

/// The character that stands for each byte in byte-level vocabularies (GPT-2's table): itself where it is
/// printable, else one of those from 256 on.
pub(super) fn byte_characters() -> Vec<char> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut others = (256..512).filter_map(char::from_u32);
    (0..=u8::MAX)
        .map(|byte| if printable(byte) { Some(char::from(byte)) } else { others.next() })
        .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}
