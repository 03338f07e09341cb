//! Kernels of x86-64 that Rust's portable vectors do not reach. A value of [`Amx`] or [`Avx512`] exists only where
//! the machine has been seen to have the instructions.

#![allow(unsafe_code, reason = "instructions for which the standard library has no safe functions")]

use crate::ops::matmul::mixed::tile::{SIDE, Sums, Tile};
use std::{
    arch::{asm, x86_64::*},
    marker::PhantomData,
    sync::OnceLock,
};

/// Whether the processor has AMX-BF16 and the system lets this process use it.
pub(super) fn has_amx() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| processor_has_amx() && permitted())
}

fn processor_has_amx() -> bool {
    /// Bits of leaf 7's edx, and of the register of saved state: tile configuration and tile data.
    const BF16: u32 = 1 << 22;
    const TILES: u32 = 1 << 24;
    const SAVED: u64 = 3 << 17;
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & (BF16 | TILES) != BF16 | TILES {
        return false;
    }
    if !is_x86_feature_detected!("xsave") {
        return false;
    }
    // SAFETY: the processor has the instruction, and the system has enabled it (as the detection asks).
    let saved = unsafe { _xgetbv(0) };
    saved & SAVED == SAVED
}

/// Asks Linux for the tiles' state, for all threads; other systems give it unasked or not at all.
fn permitted() -> bool {
    if !cfg!(target_os = "linux") {
        return false;
    }
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: a system call of Linux on x86-64 by its convention; it reads and writes no memory.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Whether the processor has AVX512-BF16.
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f")
}

/// What the eight tile registers look like: 16 rows of 64 bytes each.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = {
    let mut configuration =
        Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    let mut tile = 0;
    while tile < 8 {
        configuration.row_bytes[tile] = 64;
        configuration.rows[tile] = 16;
        tile += 1;
    }
    configuration
};

/// A thread with its tiles configured. It stays on its thread.
pub(in super::super) struct Amx(PhantomData<*const ()>);

impl Amx {
    /// # Panics
    /// Where the machine has no AMX.
    pub(super) fn begin() -> Self {
        assert!(has_amx());
        // SAFETY: the processor and the system have AMX, as asserted; 64 readable bytes of a valid configuration.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, readonly));
        }
        Amx(PhantomData)
    }

    #[inline(always)]
    pub(super) fn add(&self, left: &[Tile], right: &[Tile], sums: &mut Sums, fresh: bool) {
        let pairs = left.len().min(right.len()) / 2;
        if pairs == 0 {
            return;
        }
        // SAFETY: this thread's tiles are configured (`self`) as 16 rows of 64 bytes. The loop reads two tiles
        // of 1024 bytes of each operand for each of `pairs` pairs, all inside the slices; the four tiles of
        // sums are 16 rows of 64 bytes at a stride of 128, together the 4096 bytes of `sums`, to which no other
        // reference exists. The tile registers are used by nothing else in this program, and none is live
        // outside of this block.
        unsafe {
            asm!(
                "test {fresh:e}, {fresh:e}",
                "jnz 3f",
                "tileloadd tmm0, [{sums} + {wide}]",
                "tileloadd tmm1, [{sums} + {wide} + 64]",
                "tileloadd tmm2, [{sums} + {wide} + 2048]",
                "tileloadd tmm3, [{sums} + {wide} + 2112]",
                "jmp 2f",
                "3:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{right} + {narrow}]",
                "tileloadd tmm4, [{left} + {narrow}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm5, [{left} + {narrow} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{right} + {narrow} + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {left}, 2048",
                "add {right}, 2048",
                "dec {pairs}",
                "jnz 2b",
                "tilestored [{sums} + {wide}], tmm0",
                "tilestored [{sums} + {wide} + 64], tmm1",
                "tilestored [{sums} + {wide} + 2048], tmm2",
                "tilestored [{sums} + {wide} + 2112], tmm3",
                left = inout(reg) left.as_ptr() => _,
                right = inout(reg) right.as_ptr() => _,
                pairs = inout(reg) pairs => _,
                sums = in(reg) sums.as_mut_ptr(),
                wide = in(reg) size_of::<[f32; SIDE]>(),
                narrow = in(reg) 64usize,
                fresh = in(reg) u32::from(fresh),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

impl Drop for Amx {
    fn drop(&mut self) {
        // SAFETY: AMX is there, as `self` is; releases the tiles' state, which is no longer used.
        unsafe {
            asm!("tilerelease", options(nostack, nomem));
        }
    }
}

/// Shows that the processor has AVX512-BF16.
pub(in super::super) struct Avx512(());

impl Avx512 {
    /// # Panics
    /// Where the machine has not.
    pub(super) fn begin() -> Self {
        assert!(has_avx512());
        Avx512(())
    }

    #[inline(always)]
    pub(super) fn add(&self, left: &[Tile], right: &[Tile], sums: &mut Sums, fresh: bool) {
        // SAFETY: the processor has the features, as `self` shows.
        unsafe { add_avx512(left, right, sums, fresh) }
    }
}

/// Rows whose sums for 32 columns stay in registers: 16 of 32.
const ROWS: usize = 8;

#[target_feature(enable = "avx512f,avx512bf16")]
fn add_avx512(left: &[Tile], right: &[Tile], sums: &mut Sums, fresh: bool) {
    let load = |x: &[f32; 16]| bytemuck::cast::<[f32; 16], __m512>(*x);
    for (group, sums) in sums.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
        let mut chains = [[_mm512_setzero_ps(); 2]; ROWS];
        for (chain, sums) in chains.iter_mut().zip(&*sums).filter(|_| !fresh) {
            let halves = sums.as_chunks::<16>().0;
            *chain = [load(&halves[0]), load(&halves[1])];
        }
        for (left, right) in left.chunks_exact(2).zip(right.chunks_exact(2)) {
            let rows = &left.as_flattened()[group * ROWS..][..ROWS];
            for (pair, (first, second)) in right[0].iter().zip(&right[1]).enumerate() {
                let columns = [first, second].map(|x| bytemuck::cast::<[u32; 16], __m512i>(*x));
                for (chains, row) in chains.iter_mut().zip(rows) {
                    let x = _mm512_set1_epi32(row[pair].cast_signed());
                    for (chain, y) in chains.iter_mut().zip(columns) {
                        *chain = dot(*chain, x, y);
                    }
                }
            }
        }
        for (chain, sums) in chains.iter().zip(sums) {
            let halves = sums.as_chunks_mut::<16>().0;
            halves[0] = bytemuck::cast(chain[0]);
            halves[1] = bytemuck::cast(chain[1]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn dot(sum: __m512, x: __m512i, y: __m512i) -> __m512 {
    // SAFETY: vectors of 64 bytes whose every pattern of bits is valid.
    let x = unsafe { std::mem::transmute::<__m512i, __m512bh>(x) };
    // SAFETY: as above.
    let y = unsafe { std::mem::transmute::<__m512i, __m512bh>(y) };
    _mm512_dpbf16_ps(sum, x, y)
}
