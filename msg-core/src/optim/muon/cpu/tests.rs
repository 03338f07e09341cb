//! The kernel against plain loops in double precision.

use super::*;
use crate::optim::age_groups::EntryGroups;

/// Values in -1..1 from a counter.
fn values(seed: u32, count: usize) -> Vec<f32> {
    let value = |at: usize| {
        let bits = (at as u32 ^ seed.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        let bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
        (f64::from((bits ^ (bits >> 16)) >> 8) / f64::from(1 << 23) - 1.0) as f32
    };
    (0..count).map(value).collect()
}

/// Rows of a matrix in double precision.
type Wide = Vec<Vec<f64>>;

fn times(a: &Wide, b: &Wide) -> Wide {
    let entry = |row: &Vec<f64>, j: usize| row.iter().zip(b).map(|(x, row)| x * row[j]).sum();
    a.iter().map(|row| (0..b[0].len()).map(|j| entry(row, j)).collect()).collect()
}

fn transposed(a: &Wide) -> Wide {
    (0..a[0].len()).map(|j| a.iter().map(|row| row[j]).collect()).collect()
}

/// The published iteration, transpositions included.
fn naive(x: &[f32], [rows, columns]: [usize; 2], steps: u32) -> Vec<f64> {
    let mut x: Wide = x.chunks(columns).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
    if rows > columns {
        x = transposed(&x);
    }
    let norm = x.iter().flatten().map(|x| x * x).sum::<f64>().sqrt() + f64::from(NORM_EPS);
    x.iter_mut().flatten().for_each(|x| *x /= norm);
    let [a, b, c] = QUINTIC.map(f64::from);
    for _ in 0..steps {
        let gram = times(&x, &transposed(&x));
        let square = times(&gram, &gram);
        let row = |(gram, square): (&Vec<f64>, &Vec<f64>)| {
            gram.iter().zip(square).map(|(gram, square)| b * gram + c * square).collect()
        };
        let polynomial: Wide = gram.iter().zip(&square).map(row).collect();
        let moved = times(&polynomial, &x);
        x.iter_mut().flatten().zip(moved.iter().flatten()).for_each(|(x, moved)| *x = a * *x + moved);
    }
    if rows > columns {
        x = transposed(&x);
    }
    x.concat()
}

/// Square, tall, wide, one row, one column, longer than a block of a product.
const SIZES: [[usize; 2]; 8] = [[1, 1], [5, 5], [9, 4], [4, 9], [1, 7], [7, 1], [300, 17], [40, 513]];

#[test]
fn the_iteration_is_the_published_one() {
    for sizes in SIZES {
        let start = values(1, sizes[0] * sizes[1]);
        let want = naive(&start, sizes, 5);
        // Rounding errors of the smallest part grow by 3.4445 a step.
        for (precision, bound) in [(Precision::F32, 5e-5), (Precision::Bf16, 0.1)] {
            let mut got = start.clone();
            orthogonalize(&mut got, sizes, 5, precision);
            for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                let far = (f64::from(*got) - want).abs();
                assert!(far <= bound, "{sizes:?} in {precision:?}, entry {at}: {got} and not {want}");
            }
        }
    }
}

#[test]
fn five_steps_bring_singular_values_to_about_one() {
    // The trace of X X^T is the sum of their squares.
    for [rows, columns] in [[24, 60], [60, 24], [31, 31]] {
        let mut x = values(2, rows * columns);
        orthogonalize(&mut x, [rows, columns], 5, Precision::F32);
        let mean = sum_of_squares(&x) / rows.min(columns) as f64;
        assert!((0.6..1.3).contains(&mean), "{rows} x {columns}: {mean}");
    }
}

#[test]
fn nothing_stays_nothing() {
    let mut x = vec![0.0; 12];
    orthogonalize(&mut x, [3, 4], 5, Precision::F32);
    assert_eq!(x, [0.0; 12]);
}

/// Parameters, a momentum, a gradient, and two matrices of three age groups, of which the last axes' lists matter.
fn updated(precision: Precision) -> [Vec<f32>; 2] {
    let sizes = [2, 70, 300];
    let count = sizes.iter().product();
    let units = [
        vec![],
        (0..70).map(|at| u32::from(at >= 64)).collect(),
        (0..300).map(|at| if at >= 280 { 2 } else { u32::from(at >= 250) }).collect(),
    ];
    let group = |at: u8| {
        let at = f32::from(at);
        MuonGroup { momentum: 0.95 + at, rate: 0.02 * (at + 1.0), decay: 0.001 * at }
    };
    let groups = [group(0), group(1), group(2)];
    let step = MuonStep {
        entries: EntryGroups { sizes: &sizes, units: &units },
        groups: &groups,
        share: 0.05,
        steps: 5,
        precision,
    };
    let [mut p, g, mut m] = [3, 4, 5].map(|seed| values(seed, count));
    muon(&mut p, &g, &mut m, 0.75, &step);
    [p, m]
}

#[test]
fn threads_change_no_bit_of_an_update() {
    for precision in [Precision::F32, Precision::Bf16] {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| updated(precision))
                .map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
        };
        let one = with(1);
        assert!([2, 3, 8].into_iter().all(|threads| with(threads) == one), "{precision:?}");
    }
}

#[test]
fn an_entry_is_updated_by_the_numbers_of_its_age_group() {
    let [p, m] = updated(Precision::F32);
    let [before, g, old] = [3, 4, 5].map(|seed| values(seed, p.len()));
    let group = |at: usize| {
        let (row, column) = (at / 300 % 70, at % 300);
        u32::from(row >= 64).max(if column >= 280 { 2 } else { u32::from(column >= 250) }) as f32
    };
    let mut update = Vec::new();
    for at in 0..p.len() {
        let g = g[at] * 0.75;
        let momentum = old[at] + (g - old[at]) * 0.05;
        assert_eq!(m[at].to_bits(), momentum.to_bits(), "momentum {at}");
        update.push(g * 0.05 + momentum * (0.95 + group(at)));
    }
    for matrix in update.chunks_exact_mut(70 * 300) {
        orthogonalize(matrix, [70, 300], 5, Precision::F32);
    }
    for at in 0..p.len() {
        let decayed = before[at] - before[at] * (0.001 * group(at));
        let want = decayed - 0.02 * (group(at) + 1.0) * update[at];
        assert_eq!(p[at].to_bits(), want.to_bits(), "entry {at}");
    }
}
