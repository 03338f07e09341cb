//! What the products need of an element type; closed, since the contract needs exact arithmetic.

use std::cell::Cell;
use std::thread::LocalKey;

use pulp::Simd;

use super::{Items, Matrix, Mode, Size, products};

/// Scalars, their vectors in any instruction set, and the packing buffer of a thread.
pub trait Lanes: Copy + Send + Sync + PartialEq + std::fmt::Debug + 'static {
    /// Positive zero.
    const ZERO: Self;
    /// A vector of this element.
    type Vector<S: Simd>: Copy;

    /// `self * y + z` with one rounding.
    fn fused(self, y: Self, z: Self) -> Self;
    /// `self + y`.
    fn plus(self, y: Self) -> Self;
    /// Elements of a vector.
    fn lanes<S: Simd>() -> usize;
    /// A vector of equal elements.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::Vector<S>;
    /// `x * y + z` with one rounding in each lane.
    fn fused_vector<S: Simd>(
        simd: S,
        x: Self::Vector<S>,
        y: Self::Vector<S>,
        z: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// The whole vectors at the beginning of a slice.
    fn vectors<S: Simd>(slice: &[Self]) -> &[Self::Vector<S>];
    /// The whole vectors at the beginning of a slice, to be changed.
    fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [Self::Vector<S>];
    /// The sums of a block and, unless that is `fresh`, what was there.
    fn with_block<S: Simd>(
        simd: S,
        old: Self::Vector<S>,
        sums: Self::Vector<S>,
        fresh: bool,
    ) -> Self::Vector<S>;
    /// Adds the sums of a block to at most a vector of `C`, or to zero if that is `fresh`.
    fn add_block<S: Simd>(simd: S, out: &mut [Self], sums: Self::Vector<S>, fresh: bool);
    /// The products of [`gemm_batched`](super::gemm_batched); each operand with its stride between items. A function
    /// of each type and not generic, so that it is compiled in this crate and not in each that calls it.
    fn products(
        batch: usize,
        size: Size,
        a: (Matrix<'_, Self>, usize),
        b: (Matrix<'_, Self>, usize),
        c: &mut [Self],
        mode: Mode,
    );
    /// The packing buffer of this thread.
    fn buffer() -> &'static LocalKey<Cell<Vec<Self>>>;

    /// Runs `work` with `len` elements, aligned to cache lines, with any contents.
    ///
    /// The buffer is taken out meanwhile: a thread that waits for others may be given another product to compute,
    /// which then finds no buffer and makes a new one.
    #[inline(always)]
    fn with_buffer<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
        const LINE: usize = 64;
        let mut buffer = Self::buffer().take();
        let most = len + LINE / size_of::<Self>();
        if buffer.len() < most {
            buffer.resize(most, Self::ZERO);
        }
        let skip = buffer.as_ptr().align_offset(LINE).min(most - len);
        let result = work(&mut buffer[skip..][..len]);
        Self::buffer().set(buffer);
        result
    }
}

macro_rules! lanes {
    ($type:ident, $vector:ident, $lanes:ident, $splat:ident, $add:ident, $fused:ident,
     $vectors:ident, $vectors_mut:ident, $load:ident, $store:ident) => {
        impl Lanes for $type {
            const ZERO: Self = 0.0;
            type Vector<S: Simd> = S::$vector;

            #[inline(always)]
            fn fused(self, y: Self, z: Self) -> Self {
                self.mul_add(y, z)
            }

            #[inline(always)]
            fn plus(self, y: Self) -> Self {
                self + y
            }

            #[inline(always)]
            fn lanes<S: Simd>() -> usize {
                S::$lanes
            }

            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$vector {
                simd.$splat(x)
            }

            #[inline(always)]
            fn fused_vector<S: Simd>(simd: S, x: S::$vector, y: S::$vector, z: S::$vector) -> S::$vector {
                simd.$fused(x, y, z)
            }

            #[inline(always)]
            fn vectors<S: Simd>(slice: &[Self]) -> &[S::$vector] {
                S::$vectors(slice).0
            }

            #[inline(always)]
            fn vectors_mut<S: Simd>(slice: &mut [Self]) -> &mut [S::$vector] {
                S::$vectors_mut(slice).0
            }

            #[inline(always)]
            fn with_block<S: Simd>(simd: S, old: S::$vector, sums: S::$vector, fresh: bool) -> S::$vector {
                let sums = simd.$add(sums, simd.$splat(0.0));
                if fresh { sums } else { simd.$add(old, sums) }
            }

            #[inline(always)]
            fn add_block<S: Simd>(simd: S, out: &mut [Self], sums: S::$vector, fresh: bool) {
                match S::$vectors_mut(out) {
                    ([out], _) => *out = Self::with_block(simd, *out, sums, fresh),
                    (_, out) => {
                        let old = if fresh { simd.$splat(0.0) } else { simd.$load(out) };
                        simd.$store(out, Self::with_block(simd, old, sums, fresh));
                    }
                }
            }

            fn products(
                batch: usize,
                size: Size,
                (a, a_batch_stride): (Matrix<'_, Self>, usize),
                (b, b_batch_stride): (Matrix<'_, Self>, usize),
                c: &mut [Self],
                mode: Mode,
            ) {
                products(Items { batch, size, a, a_batch_stride, b, b_batch_stride }, c, mode);
            }

            fn buffer() -> &'static LocalKey<Cell<Vec<Self>>> {
                thread_local! {
                    static BUFFER: Cell<Vec<$type>> = const { Cell::new(Vec::new()) };
                }
                &BUFFER
            }
        }
    };
}

lanes!(
    f32,
    f32s,
    F32_LANES,
    splat_f32s,
    add_f32s,
    mul_add_f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    partial_load_f32s,
    partial_store_f32s
);
lanes!(
    f64,
    f64s,
    F64_LANES,
    splat_f64s,
    add_f64s,
    mul_add_f64s,
    as_simd_f64s,
    as_mut_simd_f64s,
    partial_load_f64s,
    partial_store_f64s
);
