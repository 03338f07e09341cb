//! Matrix products of operands rounded to bf16, accumulated in f32.
//!
//! # Contract
//!
//! Each element of `C` (m × n) is one and the same function of its row of `A` (m × k) and its column of `B`
//! (k × n) on one machine: both are rounded to bf16 (to nearest, ties to even), and one chain of sums runs
//! over K two steps at a time in k order, from +0 or, accumulating, from the old element. Not M, N or K, the
//! strides, the position or the threads reach a bit. A tail of zeros along K changes nothing, so that a model
//! may grow here too; at the end +0 is added, which turns the -0 that an underflow can leave into +0.
//!
//! How the two products of one step of the chain are rounded is the instruction's: [`Kernel`] is chosen once
//! for a machine, and used for all products, small ones too. Numbers below the smallest normal f32 may count as zero.
//!
//! # How
//!
//! Both operands are packed into [`Tile`]s of 16 rows or columns by 32 steps, which is the form that AMX and
//! AVX512-BF16 read. `B` is packed once by all threads, `A` by each task for its rows. A task runs one panel
//! of 32 columns of `B` against its panels of 32 rows, [`STEPS`] of K at a time, so that the part of `B` stays in
//! the first cache; a panel's sums go to an [`Output`] when they are complete.

use super::gemm::{Matrix, Size};
use crate::{device::buffers::Buffer, float::Stored, simd::vectorized};
use rayon::prelude::*;

pub(crate) use kernel::Kernel;
use pack::{Form, pack};
use tile::{SIDE, Sums, TILE_STEPS, Tile};

mod kernel;
mod pack;
#[cfg(test)]
mod tests;
mod tile;

/// Steps of K between two visits of a panel's sums. A whole number of tiles.
const STEPS: usize = 256;
/// Steps of K for which a task packs its rows at once.
const DEPTH: usize = 2048;
/// Most rows of a task; each reads all of the packed `B`.
const TASK_ROWS: usize = 256;
/// Tasks aimed at for each thread, enough to even out unequal ones.
const TASKS: usize = 4;
/// Panels of `B` that are packed together: their part of a row fills whole cache lines.
const PANELS: usize = 4;

/// Where the elements of `C` go.
pub(crate) trait Output: Sized + Send {
    /// Whether the chains start from the elements that are there.
    const ACCUMULATES: bool = false;

    /// Splits off the first rows.
    fn split(self, rows: usize) -> (Self, Self);

    /// Reads some elements of a row from a column on.
    #[inline(always)]
    fn read(&self, row: usize, column: usize, into: &mut [f32]) {
        let _ = (row, column, into);
    }

    /// Takes complete elements of a row from a column on.
    fn put(&mut self, row: usize, column: usize, elements: &[f32]);
}

/// `C = A B`, rows of `columns` elements.
pub(crate) struct Overwrite<'c, E> {
    pub(crate) c: &'c mut [E],
    pub(crate) columns: usize,
}

impl<E: Stored> Output for Overwrite<'_, E> {
    fn split(self, rows: usize) -> (Self, Self) {
        let (first, rest) = self.c.split_at_mut(rows * self.columns);
        (Overwrite { c: first, ..self }, Overwrite { c: rest, ..self })
    }

    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, elements: &[f32]) {
        let c = &mut self.c[row * self.columns + column..][..elements.len()];
        c.iter_mut().zip(elements).for_each(|(c, x)| *c = E::of(*x));
    }
}

/// `C = C + A B`, rows of `columns` elements.
pub(crate) struct Accumulate<'c> {
    pub(crate) c: &'c mut [f32],
    pub(crate) columns: usize,
}

impl Output for Accumulate<'_> {
    const ACCUMULATES: bool = true;

    fn split(self, rows: usize) -> (Self, Self) {
        let (first, rest) = self.c.split_at_mut(rows * self.columns);
        (Accumulate { c: first, ..self }, Accumulate { c: rest, ..self })
    }

    #[inline(always)]
    fn read(&self, row: usize, column: usize, into: &mut [f32]) {
        into.copy_from_slice(&self.c[row * self.columns + column..][..into.len()]);
    }

    #[inline(always)]
    fn put(&mut self, row: usize, column: usize, elements: &[f32]) {
        self.c[row * self.columns + column..][..elements.len()].copy_from_slice(elements);
    }
}

/// Computes a product on all threads.
///
/// # Panics
/// If an operand's slice is too short for its extent and strides.
pub(crate) fn product<A: Stored, B: Stored>(
    size: Size,
    a: Matrix<'_, A>,
    b: Matrix<'_, B>,
    out: impl Output,
) {
    if size.m == 0 || size.n == 0 {
        return;
    }
    Right::packed(b, size.k, size.n).product(size.m, a, out);
}

/// The right operand of products, packed.
pub(crate) struct Right {
    tiles: Buffer<Tile>,
    k: usize,
    n: usize,
}

impl Right {
    /// Packs on all threads.
    pub(crate) fn packed<B: Stored>(b: Matrix<'_, B>, k: usize, n: usize) -> Self {
        let panel = panel_tiles(k);
        let mut tiles = Buffer::of(n.div_ceil(SIDE) * panel);
        // Zero steps leave no panels to pack.
        let groups = tiles.par_chunks_mut((PANELS * panel).max(1)).enumerate();
        groups.for_each(|(group, tiles)| {
            let first = group * PANELS * SIDE;
            let columns = (n - first).min(PANELS * SIDE);
            pack(b.transposed().at(first, 0), (columns, k), Form::Right, tiles);
        });
        Right { tiles, k, n }
    }

    /// Packs on the calling thread.
    pub(crate) fn packed_here<B: Stored>(b: Matrix<'_, B>, k: usize, n: usize) -> Self {
        let mut tiles = Buffer::of(n.div_ceil(SIDE) * panel_tiles(k));
        pack(b.transposed(), (n, k), Form::Right, &mut tiles);
        Right { tiles, k, n }
    }

    /// The product with `m` rows of a left operand, on all threads.
    pub(crate) fn product<A: Stored>(&self, m: usize, a: Matrix<'_, A>, out: impl Output) {
        let rows = m.div_ceil(TASKS * rayon::current_num_threads()).next_multiple_of(SIDE).min(TASK_ROWS);
        self.tasks(rows, m, a, out);
    }

    /// The product in tasks of some rows.
    fn tasks<A: Stored>(&self, task: usize, m: usize, a: Matrix<'_, A>, out: impl Output) {
        if m <= task {
            return self.times(Size { m, n: self.n, k: self.k }, a, out);
        }
        let first = m.div_ceil(task).div_ceil(2) * task;
        let (upper, lower) = out.split(first);
        rayon::join(
            || self.tasks(task, first, a, upper),
            || self.tasks(task, m - first, a.at(first, 0), lower),
        );
    }

    /// The product with rows of a left operand, on the calling thread. Columns and steps may be fewer than were
    /// packed, steps by whole tiles only; none of the sizes is 0 but K.
    pub(crate) fn times<A: Stored, O: Output>(&self, size: Size, a: Matrix<'_, A>, mut out: O) {
        let Size { m, n, k } = size;
        assert!(n <= self.n && (k == self.k || k < self.k && k.is_multiple_of(TILE_STEPS)));
        let kernel = Kernel::of_this_machine().begin();
        let (row_panels, column_panels) = (m.div_ceil(SIDE), n.div_ceil(SIDE));
        let mut left = Buffer::of(row_panels * panel_tiles(k.min(DEPTH)));
        // Sums of all columns where K is visited more than once, else of one panel.
        let whole = k <= DEPTH;
        let mut sums = Buffer::of(if whole { 1 } else { column_panels } * row_panels);
        for k0 in (0..k.max(1)).step_by(DEPTH) {
            let depth = DEPTH.min(k - k0);
            let tiles = panel_tiles(depth);
            let left = &mut left[..row_panels * tiles];
            if depth > 0 {
                pack(a.at(0, k0), (m, depth), Form::Left, left);
            }
            for panel in 0..column_panels {
                let place = Place { rows: m, column: panel * SIDE, width: SIDE.min(n - panel * SIDE) };
                let right = &self.tiles[panel * panel_tiles(self.k) + panel_tiles(k0)..][..tiles];
                let sums = if whole { &mut sums[..] } else { &mut sums[panel * row_panels..][..row_panels] };
                if k0 == 0 && (O::ACCUMULATES || k == 0) {
                    place.start(&out, sums);
                }
                for (part, right) in right.chunks(panel_tiles(STEPS)).enumerate() {
                    let from = part * panel_tiles(STEPS);
                    let fresh = !O::ACCUMULATES && k0 == 0 && part == 0;
                    for (sums, left) in sums.iter_mut().zip(left.chunks_exact(tiles)) {
                        kernel.add(&left[from..][..right.len()], right, sums, fresh);
                    }
                }
                if k0 + depth == k {
                    place.finish(&mut out, sums);
                }
            }
        }
    }
}

/// Tiles of a panel of so many steps.
fn panel_tiles(steps: usize) -> usize {
    2 * steps.div_ceil(TILE_STEPS)
}

/// Some columns of a task's rows.
#[derive(Clone, Copy)]
struct Place {
    rows: usize,
    column: usize,
    width: usize,
}

impl Place {
    /// Initialises the chains.
    fn start<O: Output>(self, out: &O, sums: &mut [Sums]) {
        vectorized(
            #[inline(always)]
            || {
                let sums = sums.as_flattened_mut();
                sums.as_flattened_mut().fill(0.0);
                if O::ACCUMULATES {
                    for (row, sums) in sums.iter_mut().enumerate().take(self.rows) {
                        out.read(row, self.column, &mut sums[..self.width]);
                    }
                }
            },
        );
    }

    /// Passes complete sums on.
    fn finish<O: Output>(self, out: &mut O, sums: &mut [Sums]) {
        vectorized(
            #[inline(always)]
            || {
                for (row, sums) in sums.as_flattened_mut().iter_mut().enumerate().take(self.rows) {
                    sums.iter_mut().for_each(|sum| *sum += 0.0);
                    match self.width {
                        // A length that the compiler knows, for nearly all.
                        SIDE => out.put(row, self.column, sums),
                        width => out.put(row, self.column, &sums[..width]),
                    }
                }
            },
        );
    }
}
