//! Learning merges: the pair of neighbouring symbols that is seen most often becomes a symbol, until the
//! vocabulary is full (Sennrich et al. 2016). BPE keeps the merges, WordPiece the vocabulary.
//!
//! The `tokenizers` crate has a trainer, too. It numbers WordPiece's `##` letters and settles ties between
//! queue entries in the order of a randomly keyed hash map, so two trainings may differ. Here the pair with
//! the larger count wins, and of equal ones that with the smaller ids.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

/// A pair must be seen this often to become a symbol.
const FEWEST: u64 = 2;

/// What training starts from.
#[derive(Debug)]
pub(super) struct Start {
    /// First symbols in the order of their ids: special tokens, then letters.
    pub symbols: Vec<String>,
    /// What stands before letters that do not begin a word (`##`), or nothing.
    pub prefix: &'static str,
    /// Symbols at the end of training.
    pub vocab: usize,
}

/// What was learnt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Learned {
    /// All symbols in the order of their ids.
    pub symbols: Vec<String>,
    /// The merged pairs in the order of learning.
    pub merges: Vec<(u32, u32)>,
}

type Pair = (u32, u32);

/// A word as symbols.
struct Word {
    symbols: Vec<u32>,
    count: u64,
}

/// Where a pair occurs, and how often.
#[derive(Default)]
struct Seen {
    count: u64,
    /// Words that hold the pair, or once did.
    words: Vec<u32>,
}

struct Learner {
    start: Start,
    ids: HashMap<String, u32>,
    words: Vec<Word>,
    pairs: HashMap<Pair, Seen>,
    /// Holds an entry for the present count of every pair; older entries are passed over.
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
    merges: Vec<Pair>,
}

/// Learns from words and how often each occurs. Words with a letter that is no symbol are passed over.
pub(super) fn learn(counts: HashMap<String, u64>, start: Start) -> Learned {
    let ids = start.symbols.iter().cloned().zip(0..).collect();
    let mut learner = Learner {
        ids,
        start,
        words: Vec::new(),
        pairs: HashMap::new(),
        queue: BinaryHeap::new(),
        merges: Vec::new(),
    };
    // The order of words decides nothing, but what depends on no order is easier to trust.
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_unstable();
    for (word, count) in counts {
        learner.add(&word, count);
    }
    learner.queue = learner.pairs.iter().map(|(&pair, seen)| (seen.count, Reverse(pair))).collect();
    while learner.start.symbols.len() < learner.start.vocab && learner.merge_best() {}
    Learned { symbols: learner.start.symbols, merges: learner.merges }
}

impl Learner {
    fn add(&mut self, word: &str, count: u64) {
        let mut letter = String::new();
        let symbols: Option<Vec<u32>> = word
            .chars()
            .enumerate()
            .map(|(at, character)| {
                letter.clear();
                letter.push_str(if at == 0 { "" } else { self.start.prefix });
                letter.push(character);
                self.ids.get(&letter).copied()
            })
            .collect();
        let Some(symbols) = symbols else { return };
        let index = self.words.len() as u32;
        for pair in symbols.windows(2) {
            let seen = self.pairs.entry((pair[0], pair[1])).or_default();
            seen.count += count;
            if seen.words.last() != Some(&index) {
                seen.words.push(index);
            }
        }
        self.words.push(Word { symbols, count });
    }

    /// Merges the best pair; false where none is left.
    fn merge_best(&mut self) -> bool {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            if count < FEWEST {
                return false;
            }
            if self.pairs.get(&pair).is_some_and(|seen| seen.count == count) {
                self.merge(pair);
                return true;
            }
        }
        false
    }

    fn merge(&mut self, pair: Pair) {
        let id = self.symbol(pair);
        self.merges.push(pair);
        let words = self.pairs.remove(&pair).map(|seen| seen.words).unwrap_or_default();
        let mut changed = HashSet::new();
        for index in words {
            let word = &mut self.words[index as usize];
            let merged = merged(&word.symbols, pair, id);
            if merged.len() == word.symbols.len() {
                continue;
            }
            for old in word.symbols.windows(2).map(|old| (old[0], old[1])).filter(|&old| old != pair) {
                if let Some(seen) = self.pairs.get_mut(&old) {
                    seen.count -= word.count;
                }
                changed.insert(old);
            }
            for new in merged.windows(2).map(|new| (new[0], new[1])) {
                let seen = self.pairs.entry(new).or_default();
                seen.count += word.count;
                if (new.0 == id || new.1 == id) && seen.words.last() != Some(&index) {
                    seen.words.push(index);
                }
                changed.insert(new);
            }
            word.symbols = merged;
        }
        for pair in changed {
            match self.pairs.get(&pair).map(|seen| seen.count) {
                Some(0) => drop(self.pairs.remove(&pair)),
                Some(count) => self.queue.push((count, Reverse(pair))),
                None => {}
            }
        }
    }

    /// The symbol that a pair becomes; two pairs may spell the same one.
    fn symbol(&mut self, (left, right): Pair) -> u32 {
        let Start { symbols, prefix, .. } = &mut self.start;
        let right = symbols[right as usize].as_str();
        let symbol = format!("{}{}", symbols[left as usize], right.strip_prefix(*prefix).unwrap_or(right));
        *self.ids.entry(symbol).or_insert_with_key(|symbol| {
            symbols.push(symbol.clone());
            symbols.len() as u32 - 1
        })
    }
}

/// A word with every occurrence of `pair`, left to right, replaced by `id`.
fn merged(symbols: &[u32], pair: Pair, id: u32) -> Vec<u32> {
    let mut merged = Vec::with_capacity(symbols.len());
    let mut at = 0;
    while at < symbols.len() {
        if symbols[at..].starts_with(&[pair.0, pair.1]) {
            merged.push(id);
            at += 2;
        } else {
            merged.push(symbols[at]);
            at += 1;
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(words: &[(&str, u64)]) -> HashMap<String, u64> {
        words.iter().map(|&(word, count)| (word.to_owned(), count)).collect()
    }

    #[test]
    fn the_most_frequent_pair_comes_first_and_ties_go_to_smaller_ids() {
        let symbols = ["a", "b", "c"].map(str::to_owned).to_vec();
        let words = counts(&[("abab", 3), ("cab", 1), ("bc", 7)]);
        let learned = learn(words, Start { symbols, prefix: "", vocab: 6 });
        // ab is seen 7 times (0, 1), as is bc (1, 2); abab then has "ab ab" 3 times.
        assert_eq!(learned.merges, [(0, 1), (1, 2), (3, 3)]);
        assert_eq!(learned.symbols[3..], ["ab", "bc", "abab"]);
    }

    #[test]
    fn training_equals_that_of_the_crate_where_it_is_defined() {
        use tokenizers::{
            Model, Trainer,
            models::bpe::{BPE, BpeTrainer},
        };
        let text = include_str!("learn.rs");
        let words: Vec<String> =
            text.split_whitespace().filter(|word| word.is_ascii()).map(str::to_owned).collect();
        let mut trainer =
            BpeTrainer::builder().vocab_size(400).min_frequency(FEWEST).show_progress(false).build();
        trainer.feed(words.iter(), |word| Ok(vec![word.to_owned()])).unwrap();
        let mut model = BPE::default();
        trainer.train(&mut model).unwrap();
        let mut seen = HashMap::new();
        let mut letters = std::collections::BTreeSet::new();
        for word in words {
            letters.extend(word.chars().map(String::from));
            *seen.entry(word).or_default() += 1;
        }
        let symbols = letters.into_iter().collect();
        let learned = learn(seen, Start { symbols, prefix: "", vocab: 400 });
        for (id, symbol) in (0..).zip(&learned.symbols) {
            assert_eq!(model.id_to_token(id).as_ref(), Some(symbol));
        }
        assert_eq!(learned.symbols.len(), 400);
    }
}
