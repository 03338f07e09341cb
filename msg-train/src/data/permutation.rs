//! A shuffle that is computed entry by entry: no list, so no memory, whatever the size.

use msg_core::random::{Key, philox4x32};

/// Rounds of the network; four make it a good shuffle of large sets, small ones get some more.
const ROUNDS: u32 = 8;

/// A permutation of the numbers below a size, given by a key and an epoch.
///
/// A Feistel network over two halves of `h` bits permutes the numbers below `4^h` for any round function
/// (Luby and Rackoff 1988), here Philox. With the smallest fitting `h`, numbers that land beyond the size
/// walk on along their cycle until they are below it, after fewer than four steps on average.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    key: Key,
    epoch: u64,
    size: u64,
    half: u32,
}

impl Permutation {
    /// A permutation of the numbers below `size`.
    pub fn new(key: Key, epoch: u64, size: u64) -> Self {
        let bits = u64::BITS - size.saturating_sub(1).leading_zeros();
        Permutation { key, epoch, size, half: bits.div_ceil(2).max(1) }
    }

    /// The number at a place.
    ///
    /// # Panics
    /// If the place is not below the size.
    pub fn at(&self, place: u64) -> u64 {
        assert!(place < self.size, "place {place} of {}", self.size);
        let mut number = self.network(place);
        while number >= self.size {
            number = self.network(number);
        }
        number
    }

    fn network(&self, number: u64) -> u64 {
        let mask = (1_u64 << self.half) - 1;
        let (mut left, mut right) = (number >> self.half, number & mask);
        for round in 0..ROUNDS {
            let counter = [right as u32, round, self.epoch as u32, (self.epoch >> 32) as u32];
            let [word, ..] = philox4x32(counter, self.key);
            (left, right) = (right, left ^ (u64::from(word) & mask));
        }
        left << self.half | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_exactly_once() {
        for size in (1..70).chain([255, 256, 257, 1000, 4097, 65_537]) {
            for epoch in [0, 1, 1 << 40] {
                let permutation = Permutation::new(Key::new(3, "test", 0), epoch, size);
                let mut seen = vec![false; size as usize];
                for place in 0..size {
                    let number = permutation.at(place) as usize;
                    assert!(!seen[number], "{number} twice of {size}");
                    seen[number] = true;
                }
            }
        }
    }

    #[test]
    fn seeds_and_epochs_give_other_orders() {
        let order = |seed, epoch| {
            let permutation = Permutation::new(Key::new(seed, "test", 0), epoch, 1000);
            (0..1000).map(|place| permutation.at(place)).collect::<Vec<_>>()
        };
        assert_eq!(order(1, 0), order(1, 0));
        for other in [order(2, 0), order(1, 1), (0..1000).collect()] {
            // Two independent shuffles agree in one place on average.
            let same = order(1, 0).iter().zip(&other).filter(|(one, other)| one == other).count();
            assert!(same < 10, "{same} places agree");
        }
    }

    #[test]
    fn the_largest_sizes_are_permuted_too() {
        let permutation = Permutation::new(Key::new(1, "test", 0), 0, u64::MAX);
        assert_ne!(permutation.at(0), permutation.at(u64::MAX - 1));
    }
}
