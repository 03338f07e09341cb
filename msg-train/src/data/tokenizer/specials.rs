//! The special tokens of a tokenizer, and what each kind of model uses them for. The only file that tells the kinds
//! apart: others ask for a role, such as the token that ends a document.

use crate::config::{SpecialTokens, TokenizerKind};
use serde_json::{Value, json};

/// Ends every document of a causal model.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Spellings of the token that ends a document, in tokenizers of other makers too: the first one that a tokenizer has
/// counts.
const ENDS: [&str; 6] = [END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "[EOS]", "<s>"];
/// BERT's special tokens: padding, unknown, start, separator, mask.
const BERT: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// What WordPiece writes for a word that it cannot spell.
pub(super) const UNKNOWN: &str = BERT[1];

impl SpecialTokens {
    /// The special tokens of a tokenizer that is trained here, in the order of their ids.
    pub(super) fn of_trained(self, kind: TokenizerKind) -> Vec<&'static str> {
        match (self, kind) {
            (SpecialTokens::EndOfText, TokenizerKind::WordPiece) => vec![END_OF_TEXT, UNKNOWN],
            (SpecialTokens::EndOfText, _) => vec![END_OF_TEXT],
            (SpecialTokens::Bert, _) => BERT.to_vec(),
        }
    }

    /// The special tokens of a vocabulary from elsewhere; the error says which one is missing.
    pub(super) fn among(self, has: impl Fn(&str) -> bool) -> Result<Vec<&'static str>, String> {
        match self {
            SpecialTokens::EndOfText => match ENDS.into_iter().find(|end| has(end)) {
                Some(end) => Ok(vec![end]),
                None => Err(format!(
                    "expected one of the special tokens {}, got a vocabulary without them",
                    ENDS.join(", ")
                )),
            },
            SpecialTokens::Bert => match BERT.into_iter().find(|token| !has(token)) {
                None => Ok(BERT.to_vec()),
                Some(missing) => {
                    Err(format!("expected the special token {missing}, got a vocabulary without it"))
                }
            },
        }
    }

    /// The ids of the special tokens in a vocabulary; the error says which one is missing.
    pub(super) fn find(self, id: impl Fn(&str) -> Option<u32>) -> Result<Specials, String> {
        let tokens = self.among(|token| id(token).is_some())?;
        let ids: Vec<u32> = tokens.into_iter().filter_map(id).collect();
        Ok(match (self, ids.as_slice()) {
            (SpecialTokens::Bert, &[pad, unk, cls, sep, mask]) => {
                Specials::Bert(BertSpecials { pad, unk, cls, sep, mask })
            }
            _ => Specials::EndOfText { end: ids.first().copied().unwrap_or_default() },
        })
    }

    /// What other programs add around a text, in a tokenizer.json; here special tokens are added by batches.
    pub(super) fn post_processor(self, id: impl Fn(&str) -> Option<usize>) -> Value {
        match self {
            SpecialTokens::EndOfText => Value::Null,
            SpecialTokens::Bert => {
                json!({"type": "BertProcessing", "sep": ["[SEP]", id("[SEP]")], "cls": ["[CLS]", id("[CLS]")]})
            }
        }
    }
}

/// The special tokens of a tokenizer, by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Specials {
    /// Those of a causal model.
    EndOfText {
        /// Follows every document.
        end: u32,
    },
    /// BERT's.
    Bert(BertSpecials),
}

/// Ids of BERT's special tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BertSpecials {
    /// Fills sequences up.
    pub pad: u32,
    /// Stands for what the vocabulary cannot spell.
    pub unk: u32,
    /// Starts a sequence.
    pub cls: u32,
    /// Ends a segment.
    pub sep: u32,
    /// Hides a token.
    pub mask: u32,
}

impl BertSpecials {
    /// All of them, in ascending order.
    pub fn sorted(self) -> [u32; 5] {
        let mut ids = [self.pad, self.unk, self.cls, self.sep, self.mask];
        ids.sort_unstable();
        ids
    }
}

impl Specials {
    /// Which kind they are of.
    pub fn kind(self) -> SpecialTokens {
        match self {
            Specials::EndOfText { .. } => SpecialTokens::EndOfText,
            Specials::Bert(_) => SpecialTokens::Bert,
        }
    }

    /// The token that follows every document, where there is one.
    pub fn end(self) -> Option<u32> {
        match self {
            Specials::EndOfText { end } => Some(end),
            Specials::Bert(_) => None,
        }
    }

    /// BERT's tokens, where they are of that kind.
    pub fn bert(self) -> Option<BertSpecials> {
        match self {
            Specials::EndOfText { .. } => None,
            Specials::Bert(specials) => Some(specials),
        }
    }

    /// The token that fills a sequence up.
    pub fn padding(self) -> u32 {
        match self {
            Specials::EndOfText { end } => end,
            Specials::Bert(specials) => specials.pad,
        }
    }

    /// The beginning of a text as a model sees it, at most `most` tokens with the special ones around.
    pub fn around(self, mut ids: Vec<u32>, most: usize) -> Vec<u32> {
        match self {
            Specials::Bert(specials) if !ids.is_empty() && most >= 3 => {
                ids.truncate(most - 2);
                ids.insert(0, specials.cls);
                ids.push(specials.sep);
            }
            _ => ids.truncate(most),
        }
        ids
    }

    /// The tokens by the names that transformers has for them.
    pub fn named(self) -> Vec<(&'static str, u32)> {
        match self {
            Specials::EndOfText { end } => vec![("bos_token", end), ("eos_token", end)],
            Specials::Bert(BertSpecials { pad, unk, cls, sep, mask }) => vec![
                ("pad_token", pad),
                ("unk_token", unk),
                ("cls_token", cls),
                ("sep_token", sep),
                ("mask_token", mask),
            ],
        }
    }

    /// What transformers' tokenizers give a model. A GPT-2 would look token types up in its token table.
    pub fn model_inputs(self) -> &'static [&'static str] {
        match self {
            Specials::EndOfText { .. } => &["input_ids", "attention_mask"],
            Specials::Bert(_) => &["input_ids", "token_type_ids", "attention_mask"],
        }
    }
}
