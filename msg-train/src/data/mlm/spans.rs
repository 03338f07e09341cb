//! Documents cut into spans of nearly equal size.

use crate::data::Documents;

/// A stretch of a part's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its first token.
    pub start: u64,
    /// Tokens in it.
    pub tokens: u64,
}

/// The spans of all documents, numbered in the order of the text. A document of a single token, which is no
/// pair of segments, has none.
#[derive(Debug)]
pub(super) struct Spans {
    /// Largest span.
    capacity: u64,
    /// Spans of each document and all before it.
    counts: Vec<u64>,
}

impl Spans {
    pub(super) fn new(documents: &Documents, capacity: u64) -> Self {
        let mut count = 0;
        let counts = (0..documents.count()).map(|document| {
            let (start, end) = documents.bounds(document);
            count += if end - start < 2 { 0 } else { (end - start).div_ceil(capacity) };
            count
        });
        Spans { capacity, counts: counts.collect() }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.counts.last().copied().unwrap_or(0)
    }

    /// A span by number, which must be below the count.
    pub(super) fn get(&self, documents: &Documents, index: u64) -> Span {
        let document = self.counts.partition_point(|&count| count <= index);
        let before = document.checked_sub(1).map_or(0, |before| self.counts[before]);
        let (start, end) = documents.bounds(document);
        let (parts, part) = ((end - start).div_ceil(self.capacity), index - before);
        // In u128 the product cannot overflow.
        let cut = |part: u64| (u128::from(end - start) * u128::from(part) / u128::from(parts)) as u64;
        Span { start: start + cut(part), tokens: cut(part + 1) - cut(part) }
    }
}
