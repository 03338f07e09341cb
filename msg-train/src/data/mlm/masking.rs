//! Which tokens are to be predicted, and what stands in their place (Devlin et al. 2019, section 3.1).

use crate::data::{BertSpecials, tokenizer::WordParts};
use msg_core::random::{Key, fill_bits, uniform};
use std::{ops::Range, sync::Arc};

/// Share of the chosen tokens that become `[MASK]`.
const MASKED: f32 = 0.8;
/// Share of the chosen tokens that become `[MASK]` or a random token; the others stay.
const CHANGED: f32 = 0.9;

/// The draws of masks.
#[derive(Debug)]
pub(super) struct Masking {
    key: Key,
    rate: f64,
    /// Where whole words are masked.
    words: Option<Arc<WordParts>>,
    mask: u32,
    /// Never drawn as random tokens; in ascending order.
    specials: [u32; 5],
    vocab: usize,
}

impl Masking {
    pub(super) fn new(
        seed: u64,
        rate: f64,
        words: Option<Arc<WordParts>>,
        specials: BertSpecials,
        vocab: usize,
    ) -> Self {
        let key = Key::new(seed, "data.mlm.mask", 0);
        Masking { key, rate, words, mask: specials.mask, specials: specials.sorted(), vocab }
    }

    /// Chooses `rate` of the tokens in two segments, at least one, labels them and hides most.
    ///
    /// Whole words are chosen in random order, those that would exceed the share left out; where all would,
    /// the first is taken.
    pub(super) fn apply(
        &self,
        segments: [Range<usize>; 2],
        index: u64,
        epoch: u64,
        ids: &mut [u32],
        labels: &mut [i64],
    ) {
        // Three words a position: its place in the order, what becomes of it, which random token.
        let mut words = vec![0; 3 * ids.len()];
        fill_bits(self.key, [epoch as u32, (index >> 32) as u32, index as u32], 0, &mut words);
        let (order, rest) = words.split_at(ids.len());
        let (fate, token) = rest.split_at(ids.len());
        let tokens: usize = segments.iter().map(Range::len).sum();
        let share = ((tokens as f64 * self.rate).round() as usize).max(1);
        let mut groups: Vec<Range<usize>> =
            segments.into_iter().flat_map(|segment| self.groups(segment, ids)).collect();
        groups.sort_unstable_by_key(|group| (order[group.start], group.start));
        let mut room = share;
        let mut chosen: Vec<Range<usize>> = Vec::new();
        for group in &groups {
            if group.len() <= room {
                room -= group.len();
                chosen.push(group.clone());
            }
        }
        if chosen.is_empty() {
            chosen.extend(groups.first().cloned());
        }
        for at in chosen.into_iter().flatten() {
            labels[at] = i64::from(ids[at]);
            let fate = uniform(fate[at]);
            if fate < MASKED {
                ids[at] = self.mask;
            } else if fate < CHANGED {
                ids[at] = self.random(token[at]);
            }
        }
    }

    /// What is chosen together: words, or single tokens.
    fn groups(&self, segment: Range<usize>, ids: &[u32]) -> Vec<Range<usize>> {
        let mut groups: Vec<Range<usize>> = Vec::new();
        for at in segment {
            match (groups.last_mut(), &self.words) {
                (Some(group), Some(words)) if words.joins(ids[at - 1], ids[at]) => group.end = at + 1,
                _ => groups.push(at..at + 1),
            }
        }
        groups
    }

    /// A token that is not special.
    fn random(&self, word: u32) -> u32 {
        let ordinary = self.vocab - self.specials.len();
        let drawn = ((u64::from(word) * ordinary as u64) >> 32) as u32;
        self.specials.iter().fold(drawn, |id, &special| if id >= special { id + 1 } else { id })
    }
}
