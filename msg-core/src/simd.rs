//! Loops compiled for the best vector instructions of this machine.
//!
//! A kernel is plain Rust over fixed-size groups of floats; run inside [`vectorized`] the compiler may use
//! every instruction that the machine has. Results do not depend on which: fused multiply-adds are written
//! as such, and sums keep [`LANES`] partial sums whatever the width of a register.

use crate::float::Stored;
use pulp::{Arch, Scalar, Simd, WithSimd};

/// Partial sums of a reduction: element i goes to lane i mod `LANES`. Part of the summation contract.
pub(crate) const LANES: usize = 16;

/// Runs with the best instruction set of this machine whose vector multiply-add is fused for sure.
pub(crate) fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    let fused = cfg!(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64"));
    if fused && !cfg!(feature = "portable") {
        Arch::new().dispatch(op)
    } else {
        // Elsewhere (relaxed WebAssembly) it may round twice.
        Scalar::new().vectorize(op)
    }
}

/// Runs a loop with that instruction set. `work` and all that it calls must be `#[inline(always)]`: a function
/// that stays one of its own is compiled for the oldest machine, where each fused multiply-add is a call.
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    struct Loop<F>(F);
    impl<R, F: FnOnce() -> R> WithSimd for Loop<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> R {
            (self.0)()
        }
    }
    dispatch(Loop(work))
}

/// The lanes' sum, always in the same order.
#[inline(always)]
pub(crate) fn join(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The sum of `term` over pairs of entries, in lanes; both slices have the same length.
#[inline(always)]
pub(crate) fn sum2<E: Stored>(x: &[E], y: &[E], term: impl Fn(f32, f32) -> f32) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (x, y) in x.iter().zip(y) {
        for i in 0..LANES {
            lanes[i] += term(x[i].get(), y[i].get());
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane += term(x.get(), y.get());
    }
    join(lanes)
}

/// The sum of `term` over entries, in lanes.
#[inline(always)]
pub(crate) fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    sum2(x, x, |x, _| term(x))
}

/// The largest entry; minus infinity of none. A NaN may be passed over.
#[inline(always)]
pub(crate) fn largest(x: &[f32]) -> f32 {
    let (groups, rest) = x.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for group in groups {
        for i in 0..LANES {
            lanes[i] = if group[i] > lanes[i] { group[i] } else { lanes[i] };
        }
    }
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |most, &x| larger(most, x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_of_zeros_changes_no_bit_of_a_sum() {
        let x: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1009) as f32 / 313.0 - 1.5).collect();
        for length in [1, 15, 16, 17, 100, 999] {
            for longer in [length, length + 1, length + 16, length + 300] {
                let mut padded = x[..length].to_vec();
                padded.resize(longer, 0.0);
                let (expected, got) = (
                    sum(&x[..length], |x| x),
                    vectorized(
                        #[inline(always)]
                        || sum(&padded, |x| x),
                    ),
                );
                assert_eq!(expected.to_bits(), got.to_bits(), "{length} in {longer}");
            }
        }
    }

    #[test]
    fn the_largest_is_found_wherever_it_is() {
        for length in [1, 15, 16, 17, 40] {
            for at in 0..length {
                let mut x = vec![-3.0; length];
                x[at] = -2.0;
                assert_eq!(largest(&x), -2.0, "{at} of {length}");
            }
        }
        assert_eq!(largest(&[]), f32::NEG_INFINITY);
    }
}
