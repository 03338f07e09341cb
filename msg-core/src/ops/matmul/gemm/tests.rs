//! Bits against the reference, on every path there is.

use super::*;
use pulp::Scalar;

/// A small generator, so that the cases are the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize
    }

    fn pick(&mut self, from: &[usize]) -> usize {
        from[self.next() % from.len()]
    }

    fn values<E: Bits>(&mut self, len: usize) -> Vec<E> {
        (0..len).map(|_| E::from_random(self.next())).collect()
    }
}

/// Test values and their bits.
trait Bits: Element {
    fn bits(self) -> u64;
    fn from_f64(x: f64) -> Self;

    /// Mostly ordinary numbers, with zeros of both signs and some whose products underflow.
    fn from_random(x: usize) -> Self {
        let ordinary = (x % 100_003) as f64 / 50_000.0 - 1.0;
        Self::from_f64(match x % 31 {
            0 => 0.0,
            1 => -0.0,
            2..=4 => ordinary * f64::from(f32::MIN_POSITIVE),
            _ => ordinary,
        })
    }
}

impl Bits for f32 {
    fn bits(self) -> u64 {
        u64::from(self.to_bits())
    }

    fn from_f64(x: f64) -> Self {
        x as f32
    }
}

impl Bits for f64 {
    fn bits(self) -> u64 {
        self.to_bits()
    }

    fn from_f64(x: f64) -> Self {
        if x.abs() < 1e-30 { x * 1e-270 } else { x }
    }
}

fn bits<E: Bits>(values: &[E]) -> Vec<u64> {
    values.iter().map(|x| x.bits()).collect()
}

/// All ways to run a product here, the slow portable one included.
fn run_all<E: Bits>(items: Items<E>, c: &[E], mode: Mode) -> Vec<(&'static str, Vec<u64>)> {
    let mut results = Vec::new();
    let mut run = |name, go: &dyn Fn(Run<E>)| {
        let mut c = c.to_vec();
        items.check(c.len());
        if let Some(items) = items.prepare(&mut c, mode) {
            go(Run { items, c: &mut c, mode });
        }
        results.push((name, bits(&c)));
    };
    run("best", &|run| dispatch(run));
    run("portable", &|run| Scalar::new().vectorize(run));
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        run("avx2", &|run| Simd::vectorize(simd, run));
    }
    results
}

fn layout<E>(data: &[E], rows: usize, cols: usize, kind: usize) -> Matrix<'_, E> {
    match kind {
        0 => Matrix::row_major(data, cols),
        1 => Matrix::row_major(data, rows).transposed(),
        2 => Matrix { data, row_stride: 2 * cols + 3, col_stride: 2 },
        _ => Matrix { data, row_stride: 1, col_stride: rows + 5 },
    }
}

fn compare_with_reference<E: Bits>(seed: u64, cases: usize) {
    let random = &mut Random(seed);
    let edges = [0, 1, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 15, 16, 17, 24, 25, 31, 33, 47, 49, 65, 97];
    let steps = [0, 1, 2, 3, 15, 16, 17, 64, 255, 256, 257, 511, 512, 513, 768];
    for _ in 0..cases {
        let (m, n, k) = (random.pick(&edges), random.pick(&edges), random.pick(&steps));
        let size = Size { m, n, k };
        let batch = random.pick(&[1, 1, 1, 1, 2, 3]);
        let batch = if m * n * k > 100_000 { 1 } else { batch };
        let a_batch_stride = random.pick(&[0, 7, m * k, 2 * m * k + 1]);
        let b_batch_stride = random.pick(&[0, 0, 5, 2 * n * k + 1]);
        let kinds = (random.next() % 4, random.next() % 4);
        let a_data = random.values(batch * (2 * m * k + 8) + 5 * (m + k) + 5);
        let b_data = random.values(batch * (2 * n * k + 8) + 5 * (n + k) + 5);
        let a = layout(&a_data, m, k, kinds.0);
        let b = layout(&b_data, k, n, kinds.1);
        let items = Items { batch, size, a, a_batch_stride, b, b_batch_stride };
        let old = random.values::<E>(batch * m * n);
        for mode in [Mode::Overwrite, Mode::Accumulate] {
            let mut wanted = old.clone();
            for i in 0..batch {
                let Product { a, b, .. } = items.item(i);
                reference(size, a, b, &mut wanted[i * m * n..][..m * n], mode);
            }
            for (name, got) in run_all(items, &old, mode) {
                assert!(got == bits(&wanted), "{name} {size:?} {batch} {kinds:?} {mode:?}");
            }
        }
    }
}

#[test]
fn f32_has_the_bits_of_the_reference() {
    compare_with_reference::<f32>(1, 250);
}

#[test]
fn f64_has_the_bits_of_the_reference() {
    compare_with_reference::<f64>(2, 250);
}

/// Sizes that are split by rows, by columns, over a batch, and into several packed chunks.
const SPLIT: [(usize, Size); 6] = [
    (1, Size { m: 131, n: 67, k: 300 }),
    (1, Size { m: 11, n: 500, k: 270 }),
    (1, Size { m: 67, n: 800, k: 30 }),
    (1, Size { m: 1, n: 790, k: 1400 }),
    (1, Size { m: 65, n: 17, k: 5000 }),
    (40, Size { m: 20, n: 33, k: 50 }),
];

fn threads_change_nothing<E: Bits>(seed: u64) {
    let random = &mut Random(seed);
    for (batch, size) in SPLIT {
        let Size { m, n, k } = size;
        let a = random.values::<E>(batch * m * k);
        let b = random.values::<E>(batch * k * n);
        let old = random.values::<E>(batch * m * n);
        let (av, bv) = (Matrix::row_major(&a, k), Matrix::row_major(&b, n));
        let mut wanted = old.clone();
        for (i, c) in wanted.chunks_mut(m * n).enumerate() {
            let (a, b) = (&a[i * m * k..], &b[i * k * n..]);
            let (a, b) = (Matrix::row_major(a, k), Matrix::row_major(b, n));
            reference(size, a, b, c, Mode::Accumulate);
        }
        for threads in 1..=3 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let mut c = old.clone();
            pool.expect("a thread pool").install(|| {
                gemm_batched(batch, size, av, m * k, bv, k * n, &mut c, Mode::Accumulate);
            });
            assert!(bits(&c) == bits(&wanted), "{batch} {size:?} {threads} threads");
        }
    }
}

#[test]
fn thread_count_does_not_matter() {
    threads_change_nothing::<f32>(3);
    threads_change_nothing::<f64>(4);
}

#[test]
fn products_inside_parallel_tasks_do_not_share_buffers() {
    let random = &mut Random(5);
    let size = Size { m: 80, n: 100, k: 260 };
    let a = random.values::<f32>(size.m * size.k);
    let b = random.values::<f32>(size.k * size.n);
    let product = || {
        let mut c = vec![0.0; size.m * size.n];
        let (a, b) = (Matrix::row_major(&a, size.k), Matrix::row_major(&b, size.n));
        gemm(size, a, b, &mut c, Mode::Overwrite);
        bits(&c)
    };
    let wanted = product();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("a thread pool");
    let same = pool.install(|| (0..12).into_par_iter().all(|_| product() == wanted));
    assert!(same);
}

fn zero_tail_changes_nothing<E: Bits>(seed: u64) {
    let random = &mut Random(seed);
    let (m, n) = (19, 53);
    for (short, long) in [(1, 2), (200, 256), (256, 257), (258, 700), (512, 768)] {
        for (zero_a, zero_b) in [(true, true), (true, false), (false, true)] {
            for mode in [Mode::Overwrite, Mode::Accumulate] {
                let mut a = random.values::<E>(m * long);
                let mut b = random.values::<E>(long * n);
                if zero_a {
                    a.chunks_mut(long).for_each(|row| row[short..].fill(E::ZERO));
                }
                if zero_b {
                    b[short * n..].fill(E::ZERO);
                }
                let (av, bv) = (Matrix::row_major(&a, long), Matrix::row_major(&b, n));
                let mut c_short = random.values::<E>(m * n);
                c_short[0] = E::from_f64(-0.0);
                let mut c_long = c_short.clone();
                gemm(Size { m, n, k: short }, av, bv, &mut c_short, mode);
                gemm(Size { m, n, k: long }, av, bv, &mut c_long, mode);
                assert!(bits(&c_short) == bits(&c_long), "{short} -> {long} {mode:?}");
            }
        }
    }
}

#[test]
fn zero_tail_of_k_is_the_identity() {
    zero_tail_changes_nothing::<f32>(6);
    zero_tail_changes_nothing::<f64>(7);
}

#[test]
fn underflow_leaves_no_negative_zero() {
    let (tiny, minus_tiny) = ([f32::MIN_POSITIVE], [-f32::MIN_POSITIVE]);
    let (a, b) = (Matrix::row_major(&tiny, 1), Matrix::row_major(&minus_tiny, 1));
    let size = Size { m: 1, n: 1, k: 1 };
    let mut c = [1.0];
    gemm(size, a, b, &mut c, Mode::Overwrite);
    assert_eq!(c[0].to_bits(), 0);
    c[0] = -0.0;
    reference(size, a, b, &mut c, Mode::Accumulate);
    assert_eq!(c[0].to_bits(), 0);
}

#[test]
fn no_steps_leave_zeros_or_the_old_values() {
    let none = Matrix::row_major(&[], 0);
    let mut c = [-0.0_f64, 3.0];
    gemm(Size { m: 1, n: 2, k: 0 }, none, none, &mut c, Mode::Accumulate);
    assert_eq!(bits(&c), bits(&[-0.0, 3.0]));
    gemm(Size { m: 1, n: 2, k: 0 }, none, none, &mut c, Mode::Overwrite);
    assert_eq!(bits(&c), [0, 0]);
    gemm(Size { m: 0, n: 2, k: 9 }, none, none, &mut [], Mode::Overwrite);
}

#[test]
#[should_panic(expected = "a has 5 elements")]
fn a_short_operand_is_refused() {
    let data = [0.0_f32; 5];
    let (a, b) = (Matrix::row_major(&data, 3), Matrix::row_major(&data, 1));
    gemm(Size { m: 2, n: 1, k: 3 }, a, b, &mut [0.0; 2], Mode::Overwrite);
}

#[test]
#[should_panic(expected = "c has 3 elements")]
fn an_output_of_the_wrong_length_is_refused() {
    let data = [0.0_f32; 9];
    let (a, b) = (Matrix::row_major(&data, 3), Matrix::row_major(&data, 1));
    gemm(Size { m: 2, n: 1, k: 3 }, a, b, &mut [0.0; 3], Mode::Overwrite);
}
