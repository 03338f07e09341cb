//! Growth of slices against its twin, and the standard deviation.

use super::*;
use crate::random::{bits_at, fill_bits, normal};

/// Slow twin of [`grow`], entry by entry with the scalar functions. It defines the result.
fn reference_grow(axes: &[AxisSource<'_>; 4], old: &[f32], fill: Fill, key: Key) -> Vec<f32> {
    check(axes, old);
    let mut new = Vec::with_capacity(new_len(axes));
    for c0 in 0..axes[0].source.len() {
        for c1 in 0..axes[1].source.len() {
            for c2 in 0..axes[2].source.len() {
                for c3 in 0..axes[3].source.len() {
                    let entry = reference_entry(axes, old, fill, key, [c0, c1, c2, c3]);
                    new.push(entry);
                }
            }
        }
    }
    new
}

/// One entry of [`reference_grow`].
fn reference_entry(axes: &[AxisSource<'_>; 4], old: &[f32], fill: Fill, key: Key, coords: [usize; 4]) -> f32 {
    let mut index = 0;
    let mut fresh = false;
    for (axis, c) in axes.iter().zip(coords) {
        let source = axis.source[c];
        fresh |= source == FRESH;
        index = index * axis.old + if fresh { 0 } else { source as usize };
    }
    match fill {
        _ if !fresh => old[index],
        Fill::Constant(value) => value,
        Fill::Normal { std } => normal(bits_at(key, coords.map(|c| c as u32))) * std,
    }
}

/// Random words for the choice of test cases.
struct Dice {
    key: Key,
    at: u32,
}

impl Dice {
    fn new(name: &str) -> Self {
        let key = Key::new(0, name, 0);
        Self { key, at: 0 }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.at += 1;
        bits_at(self.key, [0, 0, 0, self.at]) as usize % limit
    }
}

/// A source map of one of several kinds, with the old size it belongs to.
fn random_axis(dice: &mut Dice, limit: usize) -> (usize, Vec<u32>) {
    let old = 1 + dice.below(limit);
    let extra = dice.below(limit);
    let mut source: Vec<u32> = (0..old as u32).collect();
    match dice.below(6) {
        0 => {}
        1 => source.extend(vec![FRESH; extra]),
        2 => {
            source.extend(vec![FRESH; extra]);
            for i in (1..source.len()).rev() {
                source.swap(i, dice.below(i + 1));
            }
        }
        3 => source.extend((0..extra).map(|_| dice.below(old) as u32)),
        4 => return (0, vec![FRESH; 1 + extra]),
        _ => {
            source.extend(vec![FRESH; extra]);
            let by = dice.below(source.len());
            source.rotate_left(by);
        }
    }
    (old, source)
}

/// Holds `grow` to its twin for the given maps, under several fill rules.
fn compare(maps: &[(usize, Vec<u32>); 4]) {
    let axes = [0, 1, 2, 3].map(|i| AxisSource { old: maps[i].0, source: &maps[i].1 });
    let old: Vec<f32> = (0..axes.iter().map(|a| a.old).product::<usize>()).map(|i| i as f32 + 1.0).collect();
    let key = Key::new(5, "compare", 3);
    for fill in [Fill::Normal { std: 0.02 }, Fill::Constant(0.0), Fill::Constant(-0.0), Fill::Constant(3.5)] {
        let bits = |values: Vec<f32>| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let fast = bits(grow(&axes, &old, fill, key));
        let slow = bits(reference_grow(&axes, &old, fill, key));
        assert!(fast == slow, "{maps:?} {fill:?}");
    }
}

/// Maps of an absent axis.
fn padding() -> (usize, Vec<u32>) {
    (1, vec![0])
}

#[test]
fn equals_the_reference_on_random_maps() {
    let mut dice = Dice::new("random maps");
    for round in 0..200 {
        let rank = 1 + round % 4;
        let limit = [1000, 60, 16, 8][rank - 1];
        let maps = [0, 1, 2, 3].map(|i| if i + rank < 4 { padding() } else { random_axis(&mut dice, limit) });
        compare(&maps);
    }
}

#[test]
fn equals_the_reference_over_many_chunks() {
    let grown = |old: u32, fresh: usize| {
        let mut source: Vec<u32> = (0..old).collect();
        source.extend(vec![FRESH; fresh]);
        (old as usize, source)
    };
    compare(&[padding(), padding(), grown(300, 40), grown(768, 256)]);
    compare(&[padding(), padding(), padding(), grown(100_001, 70_000)]);
    compare(&[padding(), padding(), grown(70_000, 5_000), grown(1, 2)]);
    let one_in_ten = (0..1000).map(|j| if j % 10 == 0 { FRESH } else { j });
    let scattered = (1000, one_in_ten.collect());
    compare(&[padding(), grown(2, 0), grown(90, 3), scattered]);
}

#[test]
fn empty_axes() {
    compare(&[padding(), padding(), (3, vec![]), (2, vec![0, 1])]);
    compare(&[(3, vec![]), padding(), padding(), (2, vec![])]);
    compare(&[(0, vec![FRESH; 2]), padding(), padding(), (2, vec![1])]);
    compare(&[(0, vec![]), (0, vec![]), (0, vec![]), (0, vec![])]);
}

#[test]
fn thread_count_does_not_matter() {
    let source: Vec<u32> = (0..500).chain([FRESH; 300]).collect();
    let axis = AxisSource { old: 500, source: &source };
    let unit = AxisSource { old: 1, source: &[0] };
    let old: Vec<f32> = (0..250_000).map(|i| (i % 1013) as f32 - 3.0).collect();
    let work = || {
        let key = Key::new(1, "threads", 1);
        let fill = Fill::Normal { std: 1.0 };
        let new = grow(&[unit, unit, axis, axis], &old, fill, key);
        (std_of(&new).to_bits(), new)
    };
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a small pool");
    let one = pool(1).install(work);
    assert!(one == pool(2).install(work));
    assert!(one == pool(5).install(work));
}

#[test]
#[should_panic(expected = "source on axis 2")]
fn sources_are_checked() {
    let good = AxisSource { old: 2, source: &[0, 1] };
    let bad = AxisSource { old: 2, source: &[0, 2] };
    let key = Key::new(0, "", 0);
    let _ = grow(&[good, good, bad, good], &[0.0; 16], Fill::Constant(0.0), key);
}

#[test]
#[should_panic(expected = "size of the old tensor")]
fn sizes_are_checked() {
    let axis = AxisSource { old: 1, source: &[0] };
    let _ = grow(&[axis; 4], &[], Fill::Constant(0.0), Key::new(0, "", 0));
}

#[test]
fn std_of_known_values() {
    assert_eq!(std_of(&[]), 0.0);
    assert_eq!(std_of(&[4.0]), 0.0);
    assert_eq!(std_of(&[2.5; 100_000]), 0.0);
    assert_eq!(std_of(&[1.0, 3.0]), 1.0);
    assert_eq!(std_of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]), 2.0);
    assert!(std_of(&[1.0, f32::NAN]).is_nan());
}

#[test]
fn std_of_many_values_with_a_large_mean() {
    let mut words = vec![0; 200_003];
    fill_bits(Key::new(0, "std", 0), [0; 3], 0, &mut words);
    let values: Vec<f32> = words.iter().map(|w| 1000.0 + (w % 64) as f32).collect();
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let square = |v: &f32| (f64::from(*v) - mean).powi(2);
    let expected = (values.iter().map(square).sum::<f64>() / n).sqrt();
    assert!((f64::from(std_of(&values)) / expected - 1.0).abs() < 1e-7);
}
