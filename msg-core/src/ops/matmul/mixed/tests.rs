//! Every kernel against sums in f64, and against the promise that nothing but row and column reaches a bit.

use super::*;
use half::bf16;

/// Numbers in [-1, 1), the same everywhere.
fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn rounded(x: &[f32]) -> Vec<bf16> {
    x.iter().map(|x| bf16::of(*x)).collect()
}

/// A row-major matrix, or its transpose's elements as that matrix.
fn matrix<E>(data: &[E], (rows, columns): (usize, usize), transposed: bool) -> Matrix<'_, E> {
    if transposed { Matrix::row_major(data, rows).transposed() } else { Matrix::row_major(data, columns) }
}

/// The element of a product of rounded operands in double precision, and the sum of its terms' sizes.
fn element(k: usize, a: impl Fn(usize) -> f32, b: impl Fn(usize) -> f32) -> (f64, f64) {
    let terms = (0..k).map(|p| f64::from(bf16::of(a(p)).get()) * f64::from(bf16::of(b(p)).get()));
    terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
}

const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (3, 5, 7),
    (32, 32, 32),
    (33, 31, 65),
    (64, 96, 256),
    (17, 40, 300),
    (100, 257, 33),
    (290, 70, 64),
    (5, 9, 2100),
];

#[test]
fn products_are_those_of_rounded_operands_in_every_layout() {
    for (m, n, k) in SIZES {
        let (a, b, old) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
        for (left_turned, right_turned) in [(false, false), (false, true), (true, false), (true, true)] {
            let left = matrix(&a, (m, k), left_turned);
            let right = matrix(&b, (k, n), right_turned);
            let size = Size { m, n, k };
            let mut c = old.clone();
            product(size, left, right, Overwrite { c: &mut c, columns: n });
            let mut sum = old.clone();
            product(size, left, right, Accumulate { c: &mut sum, columns: n });
            let mut narrow = vec![bf16::ZERO; m * n];
            product(size, left, right, Overwrite { c: &mut narrow, columns: n });
            // Operands already rounded are the same operands.
            let (half_a, half_b) = (rounded(&a), rounded(&b));
            let mut same = vec![0.0; m * n];
            let (left_half, right_half) =
                (matrix(&half_a, (m, k), left_turned), matrix(&half_b, (k, n), right_turned));
            product(size, left_half, right_half, Overwrite { c: &mut same, columns: n });
            assert!(same.iter().zip(&c).all(|(x, y)| x.to_bits() == y.to_bits()), "{size:?}");
            for (at, c) in c.iter().enumerate() {
                let (i, j) = (at / n, at % n);
                let (exact, size_of_terms) = element(
                    k,
                    |p| left.data[i * left.row_stride + p * left.col_stride],
                    |p| right.data[p * right.row_stride + j * right.col_stride],
                );
                let tolerance = (k + 1) as f64 * 1.2e-7 * (size_of_terms + 1.0);
                assert!((f64::from(*c) - exact).abs() <= tolerance, "{size:?} {i} {j}: {c} {exact}");
                let both = exact + f64::from(old[at]);
                assert!((f64::from(sum[at]) - both).abs() <= tolerance, "{size:?} {i} {j}");
                assert_eq!(narrow[at].to_bits(), bf16::of(*c).to_bits());
            }
        }
    }
}

#[test]
fn every_kernel_sums_the_same_up_to_rounding() {
    let tiles = |seed| -> Vec<Tile> {
        let values = numbers(6 * 512, seed);
        let pair = |x: &[f32]| u32::from(x[0].bf16_bits()) | u32::from(x[1].bf16_bits()) << 16;
        let entries: Vec<u32> = values.chunks_exact(2).map(pair).collect();
        entries.as_chunks::<16>().0.as_chunks::<16>().0.to_vec()
    };
    let (left, right) = (tiles(5), tiles(6));
    let old: Sums = *numbers(1024, 7).as_chunks::<32>().0.as_array().unwrap();
    let mut expected = old;
    for kernel in [&[Kernel::Portable][..], &Kernel::all()].concat() {
        let mut sums = old;
        kernel.begin().add(&left[..4], &right[..4], &mut sums, true);
        kernel.begin().add(&left[4..], &right[4..], &mut sums, false);
        if kernel == Kernel::Portable {
            expected = sums;
        }
        for (sum, expected) in sums.as_flattened().iter().zip(expected.as_flattened()) {
            assert!((sum - expected).abs() <= 2e-5, "{kernel:?}: {sum} {expected}");
        }
        assert!(sums != old, "{kernel:?}");
    }
}

/// The bits of a product in the upper left corner of a larger one, whose K continues with zeros.
#[test]
fn growth_reaches_no_bit() {
    for (m, n, k) in SIZES {
        let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
        let mut small = vec![0.0; m * n];
        let size = Size { m, n, k };
        product(
            size,
            Matrix::row_major(&a, k),
            Matrix::row_major(&b, n),
            Overwrite { c: &mut small, columns: n },
        );
        for (more_m, more_n, more_k) in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (37, 70, 33), (300, 5, 2500)] {
            let (m2, n2, k2) = (m + more_m, n + more_n, k + more_k);
            let (mut wide_a, mut wide_b) = (numbers(m2 * k2, 8), numbers(k2 * n2, 9));
            for i in 0..m {
                wide_a[i * k2..][..k].copy_from_slice(&a[i * k..][..k]);
                wide_a[i * k2 + k..(i + 1) * k2].fill(0.0);
            }
            for p in 0..k {
                wide_b[p * n2..][..n].copy_from_slice(&b[p * n..][..n]);
            }
            let mut large = vec![0.0; m2 * n2];
            let size = Size { m: m2, n: n2, k: k2 };
            let (left, right) = (Matrix::row_major(&wide_a, k2), Matrix::row_major(&wide_b, n2));
            product(size, left, right, Overwrite { c: &mut large, columns: n2 });
            for i in 0..m {
                let (small, large) = (&small[i * n..][..n], &large[i * n2..][..n]);
                let equal = small.iter().zip(large).all(|(x, y)| x.to_bits() == y.to_bits());
                assert!(equal, "{m} {n} {k} in {m2} {n2} {k2}, row {i}");
            }
        }
    }
}

#[test]
fn no_steps_leave_zeros_or_what_was_there() {
    let (mut c, mut old) = (vec![1.0f32; 6], vec![-2.0f32; 6]);
    let nothing = Matrix::<f32>::row_major(&[], 0);
    let size = Size { m: 2, n: 3, k: 0 };
    product(size, nothing, Matrix::<f32>::row_major(&[], 3), Overwrite { c: &mut c, columns: 3 });
    product(size, nothing, Matrix::<f32>::row_major(&[], 3), Accumulate { c: &mut old, columns: 3 });
    assert_eq!((c, old), (vec![0.0; 6], vec![-2.0; 6]));
}
