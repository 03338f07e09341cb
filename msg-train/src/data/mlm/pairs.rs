//! Which two segments an example has.

use super::spans::{Span, Spans};
use crate::data::Documents;
use msg_core::random::{Key, philox4x32};

/// The segments of an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segments {
    pub first: Span,
    pub second: Span,
    /// Whether the second is not what follows the first.
    pub random: bool,
}

/// The draws of pairs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pairs {
    /// The partner of every span, by epoch.
    mirror: Key,
    /// Coin and cut of every pair.
    pair: Key,
}

impl Pairs {
    pub(super) fn new(seed: u64) -> Self {
        Pairs { mirror: Key::new(seed, "data.mlm.mirror", 0), pair: Key::new(seed, "data.mlm.pair", 0) }
    }

    /// The segments of span number `index` in an epoch.
    pub(super) fn segments(&self, spans: &Spans, documents: &Documents, index: u64, epoch: u64) -> Segments {
        let partner = self.partner(index, spans.count(), epoch);
        // Both partners must come to the same draws.
        let pair = index.min(partner);
        let counter = [pair as u32, (pair >> 32) as u32, epoch as u32, (epoch >> 32) as u32];
        let [coin, cut, ..] = philox4x32(counter, self.pair);
        let random = partner != index && coin >> 31 == 1;
        let own = spans.get(documents, index);
        let other = if random { spans.get(documents, partner) } else { own };
        // One cut for both keeps every exchange within the length; each segment has a token at least.
        let cuts = own.tokens.min(other.tokens) - 1;
        let cut = 1 + ((u64::from(cut) * cuts) >> 32);
        Segments {
            first: Span { start: own.start, tokens: cut },
            second: Span { start: other.start + cut, tokens: other.tokens - cut },
            random,
        }
    }

    /// The partner of a span: its mirror image about a random point, so each is the other's.
    fn partner(&self, index: u64, count: u64, epoch: u64) -> u64 {
        let [lo, hi, ..] = philox4x32([epoch as u32, (epoch >> 32) as u32, 0, 0], self.mirror);
        let point = (u64::from(hi) << 32 | u64::from(lo)) % count;
        if point >= index { point - index } else { point + (count - index) }
    }
}
