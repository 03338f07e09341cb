//! Dense matrix products on slices whose every output bit is fixed by its inputs alone.
//!
//! # Contract
//!
//! Each element of `C` (m × n) is one and the same function of its row of `A` (m × k) and its
//! column of `B` (k × n):
//!
//! * K is cut into blocks of [`BLOCK`] steps, starting at `k = 0`; the last block may be shorter.
//! * Inside a block the element is one chain of fused multiply-adds in k order that starts from
//!   `+0`: `acc = fma(a[k], b[k], acc)`. The block result is `acc + 0`, which only turns the `-0`
//!   that an underflow can leave into `+0`.
//! * Block results `r_0, r_1, ...` are added in block order. [`Mode::Overwrite`]: `c = r_0`, then
//!   `c += r_1`, ... [`Mode::Accumulate`]: `c = c_old`, then `c += r_0`, `c += r_1`, ...
//! * `K = 0`: overwriting gives `+0`, accumulating leaves `c` untouched.
//!
//! Nothing else reaches a bit: not M, N or K, not the position in a tile, the strides, the batch,
//! the number of threads or the instruction set. A model may therefore grow (more rows, more
//! columns, a longer K whose new products are all zero) without changing what it computed before.
//! That last case is why the block result is `acc + 0`: with it a zero tail of K is the identity
//! down to the sign of zero. The payload and sign of a NaN are the one exception, as Rust leaves
//! them open; whether an element is NaN is covered.
//!
//! # How
//!
//! A register tile of `C` (8 rows by 3 vectors where there are 32 vector registers, 6 by 2
//! elsewhere) runs through one block of K, with no rounding or reordering between registers and
//! the definition above. `B` is packed into panels as wide as a tile once and shared by all
//! threads, `A` is packed by each task for the rows that are its own. Padding only fills lanes
//! whose results are dropped.

use crate::simd::dispatch;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use kernel::{Chunk, PANELS, PackB, Rows, Sweep, tile_width};
pub use matrix::{BLOCK, Matrix, Mode, Size};

mod kernel;
mod lanes;
mod matrix;
#[cfg(test)]
mod tests;

/// An element type the products are implemented for: `f32` and `f64`.
pub trait Element: lanes::Lanes {}
impl Element for f32 {}
impl Element for f64 {}

/// Products with fewer multiply-adds than this stay on the calling thread.
const SERIAL_WORK: usize = 1 << 20;
/// Batch items with more multiply-adds than this are split inside instead of among each other.
const LARGE_ITEM: usize = 1 << 26;
/// Most rows of `C` in one parallel task.
const TASK_ROWS: usize = 64;
/// Parallel tasks aimed at when a product is split, enough to even out unequal threads.
const TASKS: usize = 8;

/// Computes `C = A · B` or `C += A · B` under the contract of this module.
///
/// `c` is row-major and contiguous, `m * n` elements. Any size may be zero.
///
/// # Panics
///
/// If a slice is too short for its extent and strides, or `c` is not exactly `m * n` long.
pub fn gemm<E: Element>(size: Size, a: Matrix<E>, b: Matrix<E>, c: &mut [E], mode: Mode) {
    gemm_batched(1, size, a, 0, b, 0, c, mode);
}

/// Computes `batch` products of one size; item `i` of `A` starts `i * a_batch_stride` elements
/// after item 0, likewise `B`. A stride of 0 shares one matrix between all items.
///
/// `c` holds the items one after another, `batch * m * n` elements. Each item has the bits that
/// [`gemm`] would give it.
///
/// # Panics
///
/// If a slice is too short for its extent and strides, or `c` is not exactly `batch * m * n` long.
#[allow(clippy::too_many_arguments)] // two operands with a stride each, and no natural grouping
pub fn gemm_batched<E: Element>(
    batch: usize,
    size: Size,
    a: Matrix<E>,
    a_batch_stride: usize,
    b: Matrix<E>,
    b_batch_stride: usize,
    c: &mut [E],
    mode: Mode,
) {
    E::products(batch, size, (a, a_batch_stride), (b, b_batch_stride), c, mode);
}

fn products<E: Element>(items: Items<'_, E>, c: &mut [E], mode: Mode) {
    items.check(c.len());
    if let Some(items) = items.prepare(c, mode) {
        dispatch(Run { items, c, mode });
    }
}

/// As [`gemm`], on the calling thread.
///
/// # Panics
///
/// As [`gemm`].
pub(crate) fn gemm_serial<E: Element>(size: Size, a: Matrix<E>, b: Matrix<E>, c: &mut [E], mode: Mode) {
    let items = Items { batch: 1, size, a, a_batch_stride: 0, b, b_batch_stride: 0 };
    items.check(c.len());
    if items.prepare(c, mode).is_some() {
        let rows = &mut Rows::Whole { data: c, stride: size.n };
        dispatch(Serial { product: Product { size, a, b }, rows, mode });
    }
}

/// As [`gemm_serial`], with rows of `C` that lie anywhere. All sizes are at least 1.
///
/// # Panics
///
/// As [`gemm`].
pub(crate) fn gemm_rows<E: Element>(size: Size, a: Matrix<E>, b: Matrix<E>, c: &mut [&mut [E]], mode: Mode) {
    let items = Items { batch: 1, size, a, a_batch_stride: 0, b, b_batch_stride: 0 };
    items.check(c.iter().map(|row| row.len()).sum());
    let rows = &mut Rows::Pieces(c);
    dispatch(Serial { product: Product { size, a, b }, rows, mode });
}

/// The slow twin of [`gemm`]: the contract written as three plain loops, for tests.
///
/// # Panics
///
/// As [`gemm`].
pub fn reference<E: Element>(size: Size, a: Matrix<E>, b: Matrix<E>, c: &mut [E], mode: Mode) {
    Items { batch: 1, size, a, a_batch_stride: 0, b, b_batch_stride: 0 }.check(c.len());
    for i in 0..size.m {
        for j in 0..size.n {
            let out = &mut c[i * size.n + j];
            if mode == Mode::Overwrite {
                *out = E::ZERO;
            }
            for start in (0..size.k).step_by(BLOCK) {
                let mut acc = E::ZERO;
                for p in start..size.k.min(start + BLOCK) {
                    let x = a.data[i * a.row_stride + p * a.col_stride];
                    let y = b.data[p * b.row_stride + j * b.col_stride];
                    acc = x.fused(y, acc);
                }
                // Overwriting starts from +0, to which the first result is added unchanged.
                *out = out.plus(acc.plus(E::ZERO));
            }
        }
    }
}

/// The operands of a batch of products of one size.
#[derive(Clone, Copy)]
struct Items<'a, E> {
    batch: usize,
    size: Size,
    a: Matrix<'a, E>,
    a_batch_stride: usize,
    b: Matrix<'a, E>,
    b_batch_stride: usize,
}

impl<E: Element> Items<'_, E> {
    /// Panics unless all elements named by sizes and strides exist.
    fn check(&self, c_len: usize) {
        let Size { m, n, k } = self.size;
        let wanted = self.batch.checked_mul(m).and_then(|rows| rows.checked_mul(n));
        assert!(
            wanted == Some(c_len),
            "gemm: c has {c_len} elements for {} products of {m} × {n}",
            self.batch
        );
        let span = |matrix: &Matrix<E>, rows, cols, stride: usize| {
            let first = matrix.span(rows, cols)?;
            let last = self.batch.saturating_sub(1).checked_mul(stride)?;
            if first == 0 || c_len == 0 { Some(0) } else { first.checked_add(last) }
        };
        let a = span(&self.a, m, k, self.a_batch_stride);
        assert!(
            a.is_some_and(|len| len <= self.a.data.len()),
            "gemm: a has {} elements, too few for its {m} × {k} extent and strides",
            self.a.data.len()
        );
        let b = span(&self.b, k, n, self.b_batch_stride);
        assert!(
            b.is_some_and(|len| len <= self.b.data.len()),
            "gemm: b has {} elements, too few for its {k} × {n} extent and strides",
            self.b.data.len()
        );
    }

    /// Settles products without elements or steps, and merges a batch that is one tall product.
    fn prepare(mut self, c: &mut [E], mode: Mode) -> Option<Self> {
        if c.is_empty() {
            return None;
        }
        if self.size.k == 0 {
            if mode == Mode::Overwrite {
                c.fill(E::ZERO);
            }
            return None;
        }
        // Rows that continue into the next item against one shared B: no reason to pack B again.
        let rows_go_on = self.size.m.checked_mul(self.a.row_stride) == Some(self.a_batch_stride);
        if self.batch > 1 && self.b_batch_stride == 0 && rows_go_on {
            self.size.m *= self.batch;
            self.batch = 1;
        }
        Some(self)
    }

    fn item(&self, index: usize) -> Product<'_, E> {
        let a = Matrix { data: &self.a.data[index * self.a_batch_stride..], ..self.a };
        let b = Matrix { data: &self.b.data[index * self.b_batch_stride..], ..self.b };
        Product { size: self.size, a, b }
    }
}

/// A whole call, to be run with some instruction set.
struct Run<'a, 'c, E> {
    items: Items<'a, E>,
    c: &'c mut [E],
    mode: Mode,
}

impl<E: Element> WithSimd for Run<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let fresh = self.mode == Mode::Overwrite;
        if S::REGISTER_COUNT >= 32 {
            Plan::<S, 8> { simd, fresh }.batch(self.items, self.c);
        } else {
            Plan::<S, 6> { simd, fresh }.batch(self.items, self.c);
        }
    }
}

/// A product on the calling thread, to be run with some instruction set.
struct Serial<'a, 's, 'r, 'c, E> {
    product: Product<'a, E>,
    rows: &'s mut Rows<'r, 'c, E>,
    mode: Mode,
}

impl<E: Element> WithSimd for Serial<'_, '_, '_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let fresh = self.mode == Mode::Overwrite;
        if S::REGISTER_COUNT >= 32 {
            Plan::<S, 8> { simd, fresh }.serial(self.product, self.rows);
        } else {
            Plan::<S, 6> { simd, fresh }.serial(self.product, self.rows);
        }
    }
}

/// One product with non-zero sizes.
#[derive(Clone, Copy)]
struct Product<'a, E> {
    size: Size,
    a: Matrix<'a, E>,
    b: Matrix<'a, E>,
}

/// How products are cut into tasks, for tiles of `MR` rows.
///
/// The cuts are free to follow sizes and threads since no bit of the result depends on them.
#[derive(Clone, Copy)]
struct Plan<S, const MR: usize> {
    simd: S,
    /// Whether the old contents of `C` are ignored.
    fresh: bool,
}

impl<S: Simd, const MR: usize> Plan<S, MR> {
    fn batch<E: Element>(self, items: Items<E>, c: &mut [E]) {
        let Size { m, n, .. } = items.size;
        let work = items.size.work();
        let parallel = work.saturating_mul(items.batch) >= SERIAL_WORK && rayon::current_num_threads() > 1;
        if !parallel {
            for (i, c) in c.chunks_exact_mut(m * n).enumerate() {
                self.serial(items.item(i), &mut Rows::Whole { data: c, stride: n });
            }
        } else if items.batch == 1 || work >= LARGE_ITEM {
            for (i, c) in c.chunks_exact_mut(m * n).enumerate() {
                self.parallel(items.item(i), c);
            }
        } else {
            let per_task = (SERIAL_WORK / 2 / work).clamp(1, items.batch.div_ceil(TASKS));
            c.par_chunks_mut(per_task * m * n).enumerate().for_each(|(task, c)| {
                for (i, c) in c.chunks_exact_mut(m * n).enumerate() {
                    let item = items.item(task * per_task + i);
                    self.serial(item, &mut Rows::Whole { data: c, stride: n });
                }
            });
        }
    }

    fn parallel<E: Element>(self, product: Product<E>, c: &mut [E]) {
        if product.size.m >= TASKS * MR {
            self.split_rows(product, c);
        } else {
            self.split_columns(product, c);
        }
    }

    /// Tasks own rows of `C` and share a packed `B`.
    fn split_rows<E: Element>(self, product: Product<E>, c: &mut [E]) {
        let Size { m, n, k } = product.size;
        let rows = m.div_ceil(TASKS).next_multiple_of(MR).min(TASK_ROWS);
        for chunk in Chunk::all::<E, S>(n, k) {
            E::with_buffer(chunk.packed_len::<E, S>(), |buffer| {
                let mut panels: Vec<_> = chunk.slots::<E, S>(buffer).collect();
                panels.par_chunks_mut(4 * PANELS).for_each(|panels| {
                    self.simd.vectorize(PackB { b: product.b, panels });
                });
                let packed: &[E] = buffer;
                c.par_chunks_mut(rows * n).with_max_len(1).enumerate().for_each(|(task, c)| {
                    let a = product.a.at(task * rows, chunk.k0);
                    let height = c.len() / n;
                    let mut c = Rows::Whole { data: c, stride: n };
                    self.sweep(chunk, height, a, packed, &mut c);
                });
            });
        }
    }

    /// Tasks own columns of `C` and pack their part of `B` themselves: for few rows.
    fn split_columns<E: Element>(self, product: Product<E>, c: &mut [E]) {
        let Size { n, .. } = product.size;
        let columns = n.div_ceil(TASKS).next_multiple_of(tile_width::<E, S>());
        let mut tasks: Vec<Vec<&mut [E]>> = Vec::new();
        tasks.resize_with(n.div_ceil(columns), Vec::new);
        for row in c.chunks_exact_mut(n) {
            for (task, piece) in tasks.iter_mut().zip(row.chunks_mut(columns)) {
                task.push(piece);
            }
        }
        tasks.into_par_iter().enumerate().for_each(|(task, mut rows)| {
            let j0 = task * columns;
            let size = Size { n: columns.min(n - j0), ..product.size };
            let b = product.b.at(0, j0);
            self.serial(Product { size, b, ..product }, &mut Rows::Pieces(&mut rows));
        });
    }

    fn serial<E: Element>(self, product: Product<E>, c: &mut Rows<E>) {
        let Size { m, n, k } = product.size;
        for chunk in Chunk::all::<E, S>(n, k) {
            E::with_buffer(chunk.packed_len::<E, S>(), |buffer| {
                let mut panels: Vec<_> = chunk.slots::<E, S>(buffer).collect();
                self.simd.vectorize(PackB { b: product.b, panels: &mut panels });
                let a = product.a.at(0, chunk.k0);
                self.sweep(chunk, m, a, buffer, c);
            });
        }
    }

    fn sweep<E: Element>(self, chunk: Chunk, m: usize, a: Matrix<E>, packed: &[E], c: &mut Rows<E>) {
        let fresh = self.fresh && chunk.k0 == 0;
        self.simd.vectorize(Sweep::<E, MR> { chunk, m, a, packed, c, fresh });
    }
}
