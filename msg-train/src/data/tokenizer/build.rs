//! Training a tokenizer on a sample of the text, and its tokenizer.json.

use super::{
    Tokenizer,
    chunks::chunks,
    learn::{Learned, Start, learn},
    specials::UNKNOWN,
    words::byte_characters,
};
use crate::{
    config::{SpecialTokens, TokenizerConfig, TokenizerKind},
    error::{Error, Result},
};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};
use tokenizers::{
    Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, normalizers::BertNormalizer,
    pre_tokenizers::bert::BertPreTokenizer, pre_tokenizers::byte_level::ByteLevel,
};

/// Letters that WordPiece spells words with; rarer ones become `[UNK]`.
const WORD_PIECE_LETTERS: usize = 1000;
/// Stands before pieces that continue a word.
const CONTINUES: &str = "##";

/// Collects words and makes a tokenizer of them.
#[derive(Debug)]
pub struct Trainer {
    kind: Trained,
    tokens: SpecialTokens,
    /// How often each chunk of text occurs.
    chunks: HashMap<String, u64>,
}

/// A kind that is made here, with the entries asked for.
#[derive(Clone, Copy, Debug)]
enum Trained {
    Bpe(usize),
    WordPiece(usize),
    Bytes,
}

impl Trainer {
    /// A trainer of the configured kind; `None` where the tokenizer comes from a file.
    ///
    /// # Errors
    /// Where the size of the vocabulary is missing, too small, or given where it is fixed.
    pub fn new(config: &TokenizerConfig, tokens: SpecialTokens) -> Result<Option<Self>> {
        let refused = |expected: String| Error::Config {
            file: "configuration".into(),
            key: "data.tokenizer.vocab".into(),
            expected,
            got: config.vocab.map_or("none".to_owned(), |vocab| vocab.to_string()),
        };
        let specials = tokens.of_trained(config.kind).len();
        let at_least = |fewest: usize| match config.vocab {
            Some(vocab) if vocab >= fewest && u32::try_from(vocab).is_ok() => Ok(vocab),
            _ => Err(refused(format!("at least {fewest} entries"))),
        };
        let kind = match config.kind {
            TokenizerKind::Bpe => Trained::Bpe(at_least(256 + specials)?),
            TokenizerKind::WordPiece => Trained::WordPiece(at_least(specials + 2)?),
            TokenizerKind::Bytes => match config.vocab {
                None => Trained::Bytes,
                Some(vocab) if vocab == 256 + specials => Trained::Bytes,
                Some(_) => return Err(refused(format!("{} entries for bytes", 256 + specials))),
            },
            TokenizerKind::File => return Ok(None),
        };
        Ok(Some(Trainer { kind, tokens, chunks: HashMap::new() }))
    }

    /// Whether it learns from text.
    pub fn wants_text(&self) -> bool {
        !matches!(self.kind, Trained::Bytes)
    }

    /// Counts the chunks of texts, in parallel.
    pub fn count(&mut self, texts: &[&str]) {
        let counts: Vec<HashMap<&str, u64>> = texts.par_iter().map(|text| count_chunks(text)).collect();
        for (chunk, count) in counts.into_iter().flatten() {
            match self.chunks.get_mut(chunk) {
                Some(sum) => *sum += count,
                None => drop(self.chunks.insert(chunk.to_owned(), count)),
            }
        }
    }

    /// The words of the chunks counted, and how often each occurs.
    fn words(&mut self) -> Result<HashMap<String, u64>> {
        let word_piece = matches!(self.kind, Trained::WordPiece(_));
        let mut words = HashMap::new();
        for (chunk, count) in self.chunks.drain() {
            split(&chunk, word_piece, |word| match words.get_mut(word) {
                Some(sum) => *sum += count,
                None => drop(words.insert(word.to_owned(), count)),
            })
            .map_err(|error| Error::Data { path: "tokenizer.json".into(), message: error.to_string() })?;
        }
        Ok(words)
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// Where the crate refuses a text, or what was learnt, which would be our mistake.
    pub fn finish(mut self) -> Result<Tokenizer> {
        let words = self.words()?;
        let Trainer { kind, tokens, .. } = self;
        let json = match kind {
            Trained::Bpe(vocab) => {
                // Specials first, then bytes in the order of their values.
                let specials = tokens.of_trained(TokenizerKind::Bpe);
                let symbols = specials.iter().map(|&special| special.to_owned());
                let symbols = symbols.chain(byte_characters().into_iter().map(String::from)).collect();
                byte_level(tokens, &learn(words, Start { symbols, prefix: "", vocab }), &specials, true)
            }
            Trained::Bytes => {
                // Here the id of a byte is its value.
                let specials = tokens.of_trained(TokenizerKind::Bytes);
                let symbols = byte_characters().into_iter().map(String::from);
                let symbols = symbols.chain(specials.iter().map(|&special| special.to_owned())).collect();
                byte_level(tokens, &Learned { symbols, merges: Vec::new() }, &specials, false)
            }
            Trained::WordPiece(vocab) => word_piece(tokens, words, vocab),
        };
        let path = Path::new("tokenizer.json");
        // Written by the crate itself, which orders the vocabulary by id.
        let tokenizer = Tokenizer::parse(path, json.to_string().into_bytes(), tokens)?;
        let text = tokenizer.inner.to_string(true);
        let text = text.map_err(|error| Error::Data { path: path.into(), message: error.to_string() })?;
        Tokenizer::parse(path, text.into_bytes(), tokens)
    }
}

/// How often each chunk of a text occurs.
fn count_chunks(text: &str) -> HashMap<&str, u64> {
    let mut counts = HashMap::new();
    chunks(text).for_each(|chunk| *counts.entry(chunk).or_default() += 1);
    counts
}

/// Hands over the words of a text as a tokenizer's model would get them.
fn split(text: &str, word_piece: bool, mut word: impl FnMut(&str)) -> tokenizers::Result<()> {
    let mut normalized = text.into();
    if word_piece {
        BertNormalizer::new(true, true, None, true).normalize(&mut normalized)?;
    }
    let mut split = PreTokenizedString::from(normalized);
    if word_piece {
        BertPreTokenizer.pre_tokenize(&mut split)?;
    } else {
        ByteLevel::new(false, true, true).pre_tokenize(&mut split)?;
    }
    let splits = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits.into_iter().for_each(|(text, ..)| word(text));
    Ok(())
}

/// Learns a WordPiece vocabulary: the commonest letters, then merged pieces.
fn word_piece(tokens: SpecialTokens, words: HashMap<String, u64>, vocab: usize) -> Value {
    let specials = tokens.of_trained(TokenizerKind::WordPiece);
    let mut letters: HashMap<char, u64> = HashMap::new();
    for (word, count) in &words {
        for letter in word.chars() {
            *letters.entry(letter).or_default() += count;
        }
    }
    let mut letters: Vec<(char, u64)> = letters.into_iter().collect();
    letters.sort_unstable_by_key(|&(letter, count)| (std::cmp::Reverse(count), letter));
    // A letter takes up to two entries: as the first of a word, and within one.
    letters.truncate(WORD_PIECE_LETTERS.min((vocab - specials.len()) / 2));
    let kept: BTreeSet<char> = letters.into_iter().map(|(letter, _)| letter).collect();
    let inner: BTreeSet<char> =
        words.keys().flat_map(|word| word.chars().skip(1)).filter(|letter| kept.contains(letter)).collect();
    let symbols = specials.iter().map(|&special| special.to_owned());
    let symbols = symbols.chain(kept.iter().map(|letter| letter.to_string()));
    let symbols = symbols.chain(inner.iter().map(|letter| format!("{CONTINUES}{letter}"))).collect();
    let learned = learn(words, Start { symbols, prefix: CONTINUES, vocab });
    pieces(tokens, &learned.symbols, &specials, Spelling::default())
}

/// What a WordPiece tokenizer does to letters before it looks words up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spelling {
    pub(super) lowercase: bool,
    /// None follows `lowercase`.
    pub(super) strip_accents: Option<bool>,
    /// Whether Chinese characters are words.
    pub(super) chinese: bool,
}

impl Default for Spelling {
    fn default() -> Self {
        Spelling { lowercase: true, strip_accents: None, chinese: true }
    }
}

/// A WordPiece tokenizer of these symbols, the first with id 0.
pub(super) fn pieces(
    tokens: SpecialTokens,
    symbols: &[String],
    specials: &[&str],
    spelling: Spelling,
) -> Value {
    let model = json!({
        "type": "WordPiece", "unk_token": UNKNOWN, "continuing_subword_prefix": CONTINUES,
        "max_input_chars_per_word": 100, "vocab": vocabulary(symbols),
    });
    let Spelling { lowercase, strip_accents, chinese } = spelling;
    let parts = Parts {
        normalizer: json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": chinese,
            "strip_accents": strip_accents, "lowercase": lowercase,
        }),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        decoder: json!({"type": "WordPiece", "prefix": CONTINUES, "cleanup": true}),
        model,
    };
    parts.join(tokens, symbols, specials)
}

/// A byte-level tokenizer, which can spell every text.
pub(super) fn byte_level(
    tokens: SpecialTokens,
    learned: &Learned,
    specials: &[&str],
    split_words: bool,
) -> Value {
    let level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": split_words,
    });
    let name = |id: u32| learned.symbols[id as usize].as_str();
    let merges: Vec<[&str; 2]> =
        learned.merges.iter().map(|&(left, right)| [name(left), name(right)]).collect();
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
        "vocab": vocabulary(&learned.symbols), "merges": merges,
    });
    let parts = Parts { normalizer: Value::Null, pre_tokenizer: level.clone(), decoder: level, model };
    parts.join(tokens, &learned.symbols, specials)
}

fn vocabulary(symbols: &[String]) -> Map<String, Value> {
    symbols.iter().zip(0_u32..).map(|(symbol, id)| (symbol.clone(), id.into())).collect()
}

/// The parts of a tokenizer.json.
struct Parts {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    model: Value,
}

impl Parts {
    fn join(self, tokens: SpecialTokens, symbols: &[String], specials: &[&str]) -> Value {
        let id = |token: &str| symbols.iter().position(|symbol| symbol == token);
        let added: Vec<Value> = specials
            .iter()
            .map(|&token| {
                json!({
                    "id": id(token), "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true,
                })
            })
            .collect();
        let post_processor = tokens.post_processor(id);
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": self.normalizer, "pre_tokenizer": self.pre_tokenizer,
            "post_processor": post_processor, "decoder": self.decoder, "model": self.model,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokenizer::Specials;

    const TEXT: &str =
        "The quick brown fox, the lazy dog: <|endoftext|> [MASK]\n\tNaïve 漢字 \u{1F600}\u{0}\n\n  end ";

    fn train(kind: TokenizerKind, vocab: Option<usize>, tokens: SpecialTokens) -> Tokenizer {
        let config = TokenizerConfig { kind, vocab, path: None };
        let mut trainer = Trainer::new(&config, tokens).unwrap().unwrap();
        if trainer.wants_text() {
            trainer.count(&[TEXT, "the quick fox and the dog", include_str!("build.rs")]);
        }
        trainer.finish().unwrap()
    }

    #[test]
    fn byte_level_tokenizers_give_every_text_back() {
        for tokens in [SpecialTokens::EndOfText, SpecialTokens::Bert] {
            for (kind, vocab) in [(TokenizerKind::Bpe, Some(600)), (TokenizerKind::Bytes, None)] {
                let tokenizer = train(kind, vocab, tokens);
                let ids = tokenizer.encode(TEXT).unwrap();
                assert_eq!(tokenizer.decode(&ids).unwrap(), TEXT, "{kind:?}");
                // What reads like a special token in the text is not one.
                match tokenizer.specials() {
                    Specials::EndOfText { end } => assert!(!ids.contains(&end)),
                    Specials::Bert(specials) => assert!(!ids.contains(&specials.mask)),
                }
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab()));
                if kind == TokenizerKind::Bpe {
                    assert_eq!(tokenizer.vocab(), 600);
                    assert!(ids.len() < TEXT.len());
                } else {
                    assert!(ids.iter().copied().eq(TEXT.bytes().map(u32::from)));
                }
            }
        }
    }

    #[test]
    fn word_pieces_spell_words_and_mark_what_they_cannot() {
        let tokenizer = train(TokenizerKind::WordPiece, Some(300), SpecialTokens::Bert);
        let ids = tokenizer.encode("The QUICK dog \u{1F980}").unwrap();
        let Specials::Bert(specials) = tokenizer.specials() else { panic!("BERT") };
        assert_eq!(ids.last(), Some(&specials.unk));
        assert_eq!(tokenizer.decode(&ids).unwrap(), "the quick dog");
        let parts = tokenizer.word_parts();
        let ids = tokenizer.encode("unquickable fox").unwrap();
        let fox = ids.len() - tokenizer.encode("fox").unwrap().len();
        for at in 1..ids.len() {
            assert_eq!(parts.joins(ids[at - 1], ids[at]), at != fox, "{at}");
        }
    }

    #[test]
    fn bytes_join_into_words_between_spaces_and_marks() {
        let tokenizer = train(TokenizerKind::Bytes, None, SpecialTokens::Bert);
        let (ids, parts) = (tokenizer.encode("ab, é").unwrap(), tokenizer.word_parts());
        let joins: Vec<bool> = ids.windows(2).map(|pair| parts.joins(pair[0], pair[1])).collect();
        assert_eq!(joins, [true, false, false, false, true]);
    }

    #[test]
    fn training_twice_gives_the_same_file() {
        for (kind, vocab) in [(TokenizerKind::Bpe, 700), (TokenizerKind::WordPiece, 500)] {
            let first = train(kind, Some(vocab), SpecialTokens::Bert);
            for _ in 0..3 {
                assert_eq!(first.json(), train(kind, Some(vocab), SpecialTokens::Bert).json());
            }
        }
    }

    #[test]
    fn chunks_by_themselves_become_what_the_whole_text_does() {
        let nasty = "  a\n\n\n b 's't ''re x'll\u{a0}\u{3000} \u{301}e\u{301} \u{1F600}\t\tdon't  \r\n I\u{307}\u{85}q \u{0}\u{200b} ";
        let text = [nasty, TEXT, include_str!("build.rs"), nasty, "  "].concat();
        for (kind, vocab) in [(TokenizerKind::Bpe, 700), (TokenizerKind::WordPiece, 500)] {
            let tokenizer = train(kind, Some(vocab), SpecialTokens::Bert);
            assert!(tokenizer.caches.is_some());
            let whole = tokenizer.encode_whole(&text).unwrap();
            for _ in 0..2 {
                assert!(tokenizer.encode(&text).unwrap() == whole, "{kind:?}");
            }
        }
    }

    #[test]
    fn sizes_and_files_that_cannot_be_are_refused() {
        for (kind, vocab, text) in [
            (TokenizerKind::Bpe, None, "at least 257 entries, got none"),
            (TokenizerKind::Bpe, Some(256), "at least 257 entries, got 256"),
            (TokenizerKind::WordPiece, Some(3), "at least 4 entries, got 3"),
            (TokenizerKind::Bytes, Some(300), "257 entries for bytes, got 300"),
        ] {
            let error = Trainer::new(&TokenizerConfig { kind, vocab, path: None }, SpecialTokens::EndOfText)
                .unwrap_err();
            assert_eq!(error.to_string(), format!("configuration: data.tokenizer.vocab: expected {text}"));
        }
        let gpt = train(TokenizerKind::Bytes, None, SpecialTokens::EndOfText);
        let error =
            Tokenizer::parse(Path::new("t.json"), gpt.json().to_vec(), SpecialTokens::Bert).unwrap_err();
        assert_eq!(
            error.to_string(),
            "t.json: expected the special token [PAD], got a vocabulary without it"
        );
        let error = Tokenizer::parse(Path::new("t.json"), b"{".to_vec(), SpecialTokens::Bert)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("t.json: expected a tokenizer.json, got "), "{error}");
    }
}
