//! Counter-based random numbers: every value is a pure function of a [`Key`] and four coordinates.
//!
//! Nothing here keeps state, so a value does not depend on the number of threads, on the order of
//! evaluation, on the instruction set or on the device. To keep the bits equal everywhere, the
//! arithmetic is limited to integer operations and to the correctly rounded IEEE operations
//! `+`, `-`, `*`, fused multiply-add and square root, in the order written.

use pulp::{Arch, Simd, WithSimd};

/// First Philox multiplier, for counter word 0 (Salmon et al. 2011).
const PHILOX_M0: u32 = 0xD251_1F53;
/// Second Philox multiplier, for counter word 2.
const PHILOX_M1: u32 = 0xCD9E_8D57;
/// Weyl increment of key word 0 (golden ratio).
const PHILOX_W0: u32 = 0x9E37_79B9;
/// Weyl increment of key word 1 (square root of 3, minus 1).
const PHILOX_W1: u32 = 0xBB67_AE85;
/// Number of Philox rounds.
const PHILOX_ROUNDS: u32 = 10;

/// Words that one Philox call yields.
const WORDS: usize = 4;
/// Philox calls side by side in the bulk of a row: enough for the compiler to keep the loops over
/// them, which it then turns into good vector code, the interleaved stores included.
const WIDE: usize = 64;
/// Philox calls side by side near the end of a row: one 512-bit vector of counters.
const NARROW: usize = 16;
/// Words that the row fillers make at least, unless a row has no more than [`SHORT`] of them.
pub(crate) const GROUP: usize = WORDS * NARROW;
/// Remainders no longer than this are made one Philox call at a time.
const SHORT: usize = 8;

const TWO_POW_M23: f32 = 1.0 / (1u32 << 23) as f32;
const TWO_POW_M24: f32 = 1.0 / (1u32 << 24) as f32;
const TWO_POW_M31: f32 = 1.0 / (1u32 << 31) as f32;
const TWO_POW_M32: f32 = 0.5 * TWO_POW_M31;

/// Bits of `sqrt(1/2)`: subtracting them moves the mantissa range of the exponent split to
/// `[sqrt(1/2), sqrt(2))`, which is centred on 1 where the logarithm vanishes.
const SQRT_HALF_BITS: u32 = 0x3F35_04F3;
const MANTISSA_BITS: u32 = 23;
const SIGN_BIT: u32 = 0x8000_0000;

/// `L` with `log2(1 + f) ~ f * L(f)` on `[sqrt(1/2) - 1, sqrt(2) - 1]`, lowest power first.
///
/// Minimax in `|f * L(f) - log2(1 + f)|`, error 5e-8.
const LOG2_POLY: [f32; 8] = [
    1.442_694_8,
    -0.721_357_1,
    0.480_939_4,
    -0.360_088_1,
    0.286_708_53,
    -0.250_061_18,
    0.236_882_52,
    -0.145_757_63,
];

/// Shift inside the square root of the quantile; chosen to make [`QUANTILE_POLY`] short.
const QUANTILE_SHIFT: f32 = 5.0;
/// Centre of the variable of [`QUANTILE_POLY`], near the middle of `[sqrt(5), 6]`.
const QUANTILE_CENTRE: f32 = 4.125;
/// `R` with `z ~ |x| * R(v - QUANTILE_CENTRE)`, lowest power first; see [`normal`].
///
/// Minimax in relative error on `v` in `[sqrt(5), 6]`, error 1.3e-7.
const QUANTILE_POLY: [f32; 15] = [
    3.845_037,
    1.399_992_6,
    -0.053_175_885,
    0.007_654_747,
    0.004_853_696,
    -0.005_868_944,
    0.003_517_644,
    -0.001_268_313_4,
    -0.000_193_918_59,
    0.000_565_679_86,
    -0.000_178_238_35,
    -0.000_075_566_6,
    0.000_040_052_146,
    0.000_003_718_378_6,
    -0.000_002_778_793_5,
];

/// Key of a stream of random numbers: the two key words of Philox4x32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Key word 0.
    pub lo: u32,
    /// Key word 1.
    pub hi: u32,
}

impl Key {
    /// Key of the parameter called `name` in growth number `growth` of a run started from `seed`.
    ///
    /// The hash is fixed for all time: 64-bit FNV-1a over the eight little-endian bytes of `seed`,
    /// the bytes of `name` and the eight little-endian bytes of `growth`, followed by the finaliser
    /// of splitmix64. The outer two parts have a fixed length, so no two triples spell the same
    /// bytes. `lo` and `hi` are the halves of the result.
    #[must_use]
    pub fn new(seed: u64, name: &str, growth: u64) -> Self {
        let hash = fnv1a(FNV_BASIS, &seed.to_le_bytes());
        let hash = fnv1a(hash, name.as_bytes());
        let hash = splitmix64_finish(fnv1a(hash, &growth.to_le_bytes()));
        Self { lo: hash as u32, hi: (hash >> 32) as u32 }
    }
}

/// Start value of 64-bit FNV-1a.
const FNV_BASIS: u64 = 0xCBF2_9CE4_8422_2325;
/// Multiplier of 64-bit FNV-1a.
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;

/// Continues a 64-bit FNV-1a hash over `bytes`.
fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}

/// Output function of splitmix64: spreads every input bit over all output bits.
fn splitmix64_finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
/// 2011): four random words from a counter and a key.
#[inline(always)]
#[must_use]
pub fn philox4x32(counter: [u32; 4], key: Key) -> [u32; 4] {
    let [mut x0, mut x1, mut x2, mut x3] = counter;
    let Key { lo: mut k0, hi: mut k1 } = key;
    for _ in 0..PHILOX_ROUNDS {
        let p0 = u64::from(x0).wrapping_mul(u64::from(PHILOX_M0));
        let p1 = u64::from(x2).wrapping_mul(u64::from(PHILOX_M1));
        (x0, x1) = ((p1 >> 32) as u32 ^ x1 ^ k0, p1 as u32);
        (x2, x3) = ((p0 >> 32) as u32 ^ x3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(PHILOX_W0);
        k1 = k1.wrapping_add(PHILOX_W1);
    }
    [x0, x1, x2, x3]
}

/// Random word of the entry at `coords`, which are right-aligned: the last axis is `coords[3]`,
/// missing leading axes are 0.
///
/// It is word `coords[3] % 4` of the Philox block with counter
/// `(coords[0], coords[1], coords[2], coords[3] / 4)`.
#[inline(always)]
#[must_use]
pub fn bits_at(key: Key, coords: [u32; 4]) -> u32 {
    let [c0, c1, c2, c3] = coords;
    philox4x32([c0, c1, c2, c3 / 4], key)[(c3 % 4) as usize]
}

/// Uniform number in the open interval (0, 1): `(2 k + 1) / 2^24`, `k` the upper 23 bits of `bits`.
///
/// Every value is exact, 0 and 1 cannot occur, and `uniform(!bits) == 1.0 - uniform(bits)`.
#[inline(always)]
#[must_use]
pub fn uniform(bits: u32) -> f32 {
    ((bits >> 9) as i32 as f32).mul_add(TWO_POW_M23, TWO_POW_M24)
}

/// Standard normal number from one random word, by the inverse of the distribution function.
///
/// The top bit is the sign; the other 31 bits, `m` after the exchange of 0 and 1 for negative
/// numbers, place `|z|` at the centre of one of `2^31` cells of equal probability: with
/// `x = (m + 1/2) / 2^31` the result is `|z| = sqrt(2) erfinv(x)`. Hence
/// `normal(!bits) == -normal(bits)` exactly, 0 cannot occur, and the largest `|z|` is 6.3380,
/// the quantile of the tail probability `2^-33`.
///
/// As in Giles, "Approximating the erfinv function" (2010), the quotient `|z| / x` is approximated
/// as a function of the logarithm of `q = (1 - x)(1 + x)`. Here a single polynomial in
/// `v = sqrt(5 - log2 q)` covers centre and tail alike, so there is no branch. `1 - x` comes from
/// the integer, not from `x`, which keeps the tail precise. The relative error against the exact
/// quantile is below 6e-7; neighbouring words may be out of order by such a rounding error.
#[inline(always)]
#[must_use]
pub fn normal(bits: u32) -> f32 {
    let folded = (bits ^ ((bits as i32) >> 31) as u32) as i32;
    // Signed conversions: they exist as vector instructions on every x86-64.
    let x = (folded as f32).mul_add(TWO_POW_M31, TWO_POW_M32);
    let one_minus_x = ((folded ^ i32::MAX) as f32).mul_add(TWO_POW_M31, TWO_POW_M32);
    let q = one_minus_x.mul_add(x, one_minus_x);
    let v = shifted_neg_log2(q).sqrt();
    let size = x * horner(&QUANTILE_POLY, v - QUANTILE_CENTRE);
    f32::from_bits(size.to_bits() | (bits & SIGN_BIT))
}

/// `QUANTILE_SHIFT - log2(q)` for a normal positive `q`.
#[inline(always)]
fn shifted_neg_log2(q: f32) -> f32 {
    let exponent = (q.to_bits().wrapping_sub(SQRT_HALF_BITS) as i32) >> MANTISSA_BITS;
    let mantissa = f32::from_bits(q.to_bits().wrapping_sub((exponent as u32) << MANTISSA_BITS));
    let f = mantissa - 1.0;
    (-f).mul_add(horner(&LOG2_POLY, f), QUANTILE_SHIFT - exponent as f32)
}

/// Polynomial with coefficients `c`, lowest power first, by Horner's rule in fused steps.
#[inline(always)]
fn horner<const N: usize>(c: &[f32; N], x: f32) -> f32 {
    let mut y = c[N - 1];
    for i in (0..N - 1).rev() {
        y = y.mul_add(x, c[i]);
    }
    y
}

/// Fills `out` with `bits_at(key, [outer.., j])` for `j = first, first + 1, ...`.
///
/// `outer` holds the coordinates of the three leading axes, `first` that of `out[0]` on the last.
///
/// # Panics
/// If a coordinate on the last axis does not fit in 32 bits.
pub fn fill_bits(key: Key, outer: [u32; 3], first: u32, out: &mut [u32]) {
    fill_row(key, outer, first, out, BitsDraw);
}

/// Fills `out` with `uniform(bits_at(key, [outer.., j]))` for `j = first, first + 1, ...`.
///
/// Arguments as for [`fill_bits`].
///
/// # Panics
/// If a coordinate on the last axis does not fit in 32 bits.
pub fn fill_uniform(key: Key, outer: [u32; 3], first: u32, out: &mut [f32]) {
    fill_row(key, outer, first, out, UniformDraw);
}

/// Fills `out` with `normal(bits_at(key, [outer.., j])) * std` for `j = first, first + 1, ...`.
///
/// Arguments as for [`fill_bits`]; `std` is the standard deviation.
///
/// # Panics
/// If a coordinate on the last axis does not fit in 32 bits.
pub fn fill_normal(key: Key, outer: [u32; 3], first: u32, std: f32, out: &mut [f32]) {
    fill_row(key, outer, first, out, NormalDraw { std });
}

/// Turns one random word into one value. A trait rather than a closure, so that inlining into the
/// vectorised loop can be demanded.
trait Draw: Copy {
    type Value: Copy + Default;
    fn draw(self, bits: u32) -> Self::Value;
}

#[derive(Clone, Copy)]
struct BitsDraw;

impl Draw for BitsDraw {
    type Value = u32;
    #[inline(always)]
    fn draw(self, bits: u32) -> u32 {
        bits
    }
}

#[derive(Clone, Copy)]
struct UniformDraw;

impl Draw for UniformDraw {
    type Value = f32;
    #[inline(always)]
    fn draw(self, bits: u32) -> f32 {
        uniform(bits)
    }
}

#[derive(Clone, Copy)]
struct NormalDraw {
    std: f32,
}

impl Draw for NormalDraw {
    type Value = f32;
    #[inline(always)]
    fn draw(self, bits: u32) -> f32 {
        normal(bits) * self.std
    }
}

/// Checks the range of coordinates and runs the filler with the best instruction set at hand.
fn fill_row<D: Draw>(key: Key, outer: [u32; 3], first: u32, out: &mut [D::Value], draw: D) {
    let end = u64::from(first) + out.len() as u64;
    assert!(end <= 1 << 32, "a coordinate exceeds 32 bits");
    let row = RowFill { key, outer, block: first / WORDS as u32, out, draw };
    Arch::new().dispatch(FillFrom { row, skip: first as usize % WORDS });
}

/// The rest of a row that is still to be filled.
struct RowFill<'a, D: Draw> {
    key: Key,
    outer: [u32; 3],
    /// Number of the Philox call that `out[0]` comes from.
    block: u32,
    out: &'a mut [D::Value],
    draw: D,
}

impl<'a, D: Draw> RowFill<'a, D> {
    /// Cuts the next `len` values off, the results of `blocks` Philox calls.
    #[inline(always)]
    fn advance(&mut self, len: usize, blocks: usize) -> &'a mut [D::Value] {
        self.block = self.block.wrapping_add(blocks as u32);
        self.out.split_off_mut(..len).expect("a part of the rest of the row")
    }

    /// Fills as many whole groups of `N` Philox calls as there is room for.
    #[inline(always)]
    fn fill_groups<const N: usize>(&mut self) {
        while self.out.len() >= N * WORDS {
            let block = self.block;
            let (calls, _) = self.advance(N * WORDS, N).as_chunks_mut::<WORDS>();
            if let Some(group) = calls.first_chunk_mut::<N>() {
                self.fill_group(block, group);
            }
        }
    }

    /// Fills `out` with the results of the Philox calls from number `first` on.
    #[inline(always)]
    fn fill_group<const N: usize>(&self, first: u32, out: &mut [[D::Value; WORDS]; N]) {
        let [c0, c1, c2] = self.outer;
        let mut columns = [[0; N]; WORDS];
        for lane in 0..N {
            let words = philox4x32([c0, c1, c2, first.wrapping_add(lane as u32)], self.key);
            for (column, word) in columns.iter_mut().zip(words) {
                column[lane] = word;
            }
        }
        let mut values = [[D::Value::default(); N]; WORDS];
        for (values, column) in values.iter_mut().zip(&columns) {
            for (value, &bits) in values.iter_mut().zip(column) {
                *value = self.draw.draw(bits);
            }
        }
        for (lane, out) in out.iter_mut().enumerate() {
            for (out, values) in out.iter_mut().zip(&values) {
                *out = values[lane];
            }
        }
    }

    /// Fills what is left, less than a narrow group.
    #[inline(always)]
    fn fill_remainder(&mut self) {
        if self.out.len() > SHORT {
            let mut group = [[D::Value::default(); WORDS]; NARROW];
            self.fill_group(self.block, &mut group);
            let len = self.out.len();
            self.out.copy_from_slice(&group.as_flattened()[..len]);
            return;
        }
        while !self.out.is_empty() {
            self.fill_call(0);
        }
    }

    /// Fills up to one Philox call's worth, from its word `skip` on.
    #[inline(always)]
    fn fill_call(&mut self, skip: usize) {
        let [c0, c1, c2] = self.outer;
        let words = philox4x32([c0, c1, c2, self.block], self.key);
        let mut values = [D::Value::default(); WORDS];
        for (value, bits) in values.iter_mut().zip(words) {
            *value = self.draw.draw(bits);
        }
        let len = self.out.len().min(WORDS - skip);
        self.advance(len, 1).copy_from_slice(&values[skip..][..len]);
    }
}

/// A row to fill whose first value is word `skip` of its Philox call.
struct FillFrom<'a, D: Draw> {
    row: RowFill<'a, D>,
    skip: usize,
}

impl<D: Draw> WithSimd for FillFrom<'_, D> {
    type Output = ();

    // The token is unused: the dispatch compiles this body for its instruction set, where plain
    // loops become vector code and `mul_add` one instruction. The bits cannot differ.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { mut row, skip } = self;
        if skip > 0 {
            row.fill_call(skip);
        }
        row.fill_groups::<WIDE>();
        row.fill_groups::<NARROW>();
        row.fill_remainder();
    }
}

#[cfg(test)]
mod tests;
