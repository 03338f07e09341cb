//! What this machine can do at best: the ceilings that shares are quoted of.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::{hint::black_box, time::Instant};

/// Independent chains of fused multiply-adds: enough to hide the latency of any core.
const CHAINS: usize = 12;
const STEPS: usize = 1 << 22;

struct Chains;

impl WithSimd for Chains {
    /// Floating-point operations done.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let (x, y) = (simd.splat_f32s(black_box(0.999)), simd.splat_f32s(black_box(0.001)));
        let mut sums = [simd.splat_f32s(1.0); CHAINS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, x, y);
            }
        }
        black_box(sums.map(|sum| simd.reduce_sum_f32s(sum)));
        (2 * STEPS * CHAINS * S::F32_LANES) as f64
    }
}

/// Multiply-adds in f32 of all threads of the pool at once, in FLOP/s: the best of a few tries.
pub fn flops() -> f64 {
    best(|| {
        let threads = rayon::current_num_threads();
        (0..threads).into_par_iter().with_max_len(1).map(|_| Arch::new().dispatch(Chains)).sum()
    })
}

/// Bytes read and written by a parallel copy between buffers far larger than the caches, per second.
pub fn bandwidth() -> f64 {
    const ENTRIES: usize = 1 << 26;
    const PIECE: usize = 1 << 16;
    let (source, mut target) = (vec![1.0f32; ENTRIES], vec![0.0f32; ENTRIES]);
    best(|| {
        let pieces = target.par_chunks_mut(PIECE).zip(source.par_chunks(PIECE));
        pieces.for_each(|(target, source)| target.copy_from_slice(source));
        (2 * size_of_val(&source[..])) as f64
    })
}

/// The best rate of five tries.
fn best(mut work: impl FnMut() -> f64) -> f64 {
    let rate = |_| {
        let start = Instant::now();
        let done = work();
        done / start.elapsed().as_secs_f64()
    };
    (0..5).map(rate).fold(0.0, f64::max)
}
