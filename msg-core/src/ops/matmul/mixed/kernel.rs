//! The sums over K of one pair of panels, by the best instructions of this machine.

use super::tile::{Sums, Tile};
use crate::simd::vectorized;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
mod x86;

/// Which instructions sum the products up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Intel's AMX-BF16: whole tiles at a time.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// AVX512-BF16: pairs of steps for 16 columns at a time.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Fused multiply-adds of f32 in any vectors there are.
    Portable,
}

impl Kernel {
    /// The best one of this machine, found out once.
    pub(crate) fn of_this_machine() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Self::all()[0])
    }

    /// Those that this machine can run, the best first.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if !cfg!(feature = "portable") {
            if x86::has_amx() {
                all.push(Kernel::Amx);
            }
            if x86::has_avx512() {
                all.push(Kernel::Avx512);
            }
        }
        all.push(Kernel::Portable);
        all
    }

    /// Readies the calling thread for [`Running::add`].
    #[inline(always)]
    pub(super) fn begin(self) -> Running {
        #[cfg(target_arch = "x86_64")]
        if self == Kernel::Amx {
            return Running::Amx(x86::Amx::begin());
        }
        #[cfg(target_arch = "x86_64")]
        if self == Kernel::Avx512 {
            return Running::Avx512(x86::Avx512::begin());
        }
        Running::Portable
    }
}

/// A kernel on a thread that is ready for it.
pub(super) enum Running {
    #[cfg(target_arch = "x86_64")]
    Amx(x86::Amx),
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
    Portable,
}

impl Running {
    /// Continues the chains of 32 rows by 32 columns from their present sums or, if `fresh`, from +0. Tiles come in
    /// pairs, one pair for 32 steps of K.
    ///
    /// # Panics
    /// If there are not as many tiles of the one as of the other, or an odd number.
    #[inline(always)]
    pub(super) fn add(&self, left: &[Tile], right: &[Tile], sums: &mut Sums, fresh: bool) {
        assert!(left.len() == right.len() && left.len().is_multiple_of(2));
        match self {
            #[cfg(target_arch = "x86_64")]
            Running::Amx(amx) => amx.add(left, right, sums, fresh),
            #[cfg(target_arch = "x86_64")]
            Running::Avx512(avx512) => avx512.add(left, right, sums, fresh),
            Running::Portable => portable(left, right, sums, fresh),
        }
    }
}

/// Rows of a group whose sums stay in registers.
const ROWS: usize = 4;

fn portable(left: &[Tile], right: &[Tile], sums: &mut Sums, fresh: bool) {
    vectorized(
        #[inline(always)]
        || {
            for half in 0..2 {
                for (group, sums) in sums.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                    let mut chains = [[0.0f32; 16]; ROWS];
                    // What is there is not read where the chains begin at zero.
                    for (chain, sums) in chains.iter_mut().zip(&*sums).filter(|_| !fresh) {
                        chain.copy_from_slice(&sums[16 * half..][..16]);
                    }
                    for (left, right) in left.chunks_exact(2).zip(right.chunks_exact(2)) {
                        let left = &left.as_flattened()[group * ROWS..][..ROWS];
                        pairs(left.as_chunks::<ROWS>().0, &right[half], &mut chains);
                    }
                    for (chain, sums) in chains.iter().zip(sums) {
                        sums[16 * half..][..16].copy_from_slice(chain);
                    }
                }
            }
        },
    );
}

/// Continues some rows' chains for 16 columns over 32 steps.
#[inline(always)]
fn pairs(left: &[[[u32; 16]; ROWS]], right: &Tile, chains: &mut [[f32; 16]; ROWS]) {
    let left = &left[0];
    let mut sums = *chains;
    for (pair, columns) in right.iter().enumerate() {
        for row in 0..ROWS {
            let (low, high) =
                (f32::from_bits(left[row][pair] << 16), f32::from_bits(left[row][pair] & !0xffff));
            for column in 0..16 {
                let sum = low.mul_add(f32::from_bits(columns[column] << 16), sums[row][column]);
                sums[row][column] = high.mul_add(f32::from_bits(columns[column] & !0xffff), sum);
            }
        }
    }
    *chains = sums;
}
