//! Packing and register tiles: everything that runs on one thread under one instruction set.

use pulp::{Simd, WithSimd};

use super::{
    Element,
    matrix::{BLOCK, Matrix},
};

/// Steps of K per turn of the innermost loop, whose counting takes ports from the multiply-adds.
const UNROLL: usize = 4;
/// Bytes of packed `B` for one block of K: what may stay in a core's private cache.
const CHUNK_BYTES: usize = 768 << 10;
/// Bytes of packed `B` kept at a time; several blocks of K, so that threads meet rarely.
const PACK_BYTES: usize = 4 << 20;

/// Rows of `C` that one task writes.
pub(super) enum Rows<'r, 'c, E> {
    /// Rows that lie `stride` elements apart.
    Whole { data: &'c mut [E], stride: usize },
    /// A piece of each row.
    Pieces(&'r mut [&'c mut [E]]),
}

impl<E> Rows<'_, '_, E> {
    #[inline(always)]
    fn part(&mut self, row: usize, column: usize, width: usize) -> &mut [E] {
        match self {
            Rows::Whole { data, stride } => &mut data[row * *stride + column..][..width],
            Rows::Pieces(rows) => &mut rows[row][column..][..width],
        }
    }
}

/// Columns of a full register tile: three vectors beside 8 rows where there are 32 registers, two beside
/// 6 rows elsewhere, so that sums, a step of `B` and one of `A` fit.
#[inline(always)]
pub(super) fn tile_width<E: Element, S: Simd>() -> usize {
    let vectors = if S::REGISTER_COUNT >= 32 { 3 } else { 2 };
    vectors * E::lanes::<S>()
}

/// A part of `B` that is packed at one time: whole blocks of K and a range of columns.
///
/// Packed form: block after block, in each block panel after panel of a tile's width (the last
/// one rounded up to whole vectors), in each panel step after step of K.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    pub(super) k0: usize,
    pub(super) k: usize,
    pub(super) j0: usize,
    pub(super) n: usize,
}

impl Chunk {
    /// The chunks of a product, those of the same columns in K order.
    pub(super) fn all<E: Element, S: Simd>(n: usize, k: usize) -> impl Iterator<Item = Chunk> {
        let tile = tile_width::<E, S>();
        let most = CHUNK_BYTES / (BLOCK * size_of::<E>()) / tile * tile;
        let columns = n.next_multiple_of(tile).min(most);
        let steps = (PACK_BYTES / (size_of::<E>() * BLOCK * columns)).max(1) * BLOCK;
        (0..n).step_by(columns).flat_map(move |j0| {
            (0..k).step_by(steps).map(move |k0| {
                let k = steps.min(k - k0);
                Chunk { k0, k, j0, n: columns.min(n - j0) }
            })
        })
    }

    /// Columns of a packed block, with padding.
    #[inline(always)]
    fn packed_width<E: Element, S: Simd>(&self) -> usize {
        self.n.next_multiple_of(E::lanes::<S>())
    }

    pub(super) fn packed_len<E: Element, S: Simd>(&self) -> usize {
        self.k * self.packed_width::<E, S>()
    }

    /// Cuts a buffer for the packed chunk into panels, each with its place in `B`.
    pub(super) fn slots<E: Element, S: Simd>(
        self,
        buffer: &mut [E],
    ) -> impl Iterator<Item = (Slot, &mut [E])> {
        let tile = tile_width::<E, S>();
        let packed_width = self.packed_width::<E, S>();
        buffer.chunks_mut(BLOCK * packed_width).enumerate().flat_map(move |(block, buffer)| {
            let k = buffer.len() / packed_width;
            buffer.chunks_mut(k * tile).enumerate().map(move |(panel, buffer)| {
                let j = panel * tile;
                let width = tile.min(self.n - j);
                let slot = Slot { k0: self.k0 + block * BLOCK, k, j0: self.j0 + j, width };
                (slot, buffer)
            })
        })
    }
}

/// The place of one panel in `B`.
pub(super) struct Slot {
    k0: usize,
    k: usize,
    j0: usize,
    width: usize,
}

/// Panels of one block that are packed together: their part of a row of `B` fills cache lines.
pub(super) const PANELS: usize = 4;

/// Packs neighbouring panels of `B`.
pub(super) struct PackB<'a, 's, 'p, E> {
    pub(super) b: Matrix<'a, E>,
    pub(super) panels: &'s mut [(Slot, &'p mut [E])],
}

impl<E: Element> WithSimd for PackB<'_, '_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let PackB { b, panels } = self;
        if b.col_stride != 1 {
            for (slot, panel) in panels {
                let stride = panel.len() / slot.k;
                pack::<E, 8>(b.at(slot.k0, slot.j0), slot.width, stride, panel);
            }
            return;
        }
        for panels in panels.chunks_mut(PANELS) {
            let k = panels[0].0.k;
            for p in 0..k {
                for (slot, panel) in &mut *panels {
                    // A group may reach into the next block, whose steps are fewer at most.
                    if p < slot.k {
                        let stride = panel.len() / slot.k;
                        let row = &b.data[(slot.k0 + p) * b.row_stride + slot.j0..][..slot.width];
                        let step = &mut panel[p * stride..][..stride];
                        let (to, rest) = step.split_at_mut(slot.width);
                        let (groups, last) = to.as_chunks_mut::<8>();
                        let (from, from_last) = row.as_chunks::<8>();
                        groups.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                        last.iter_mut().zip(from_last).for_each(|(to, from)| *to = *from);
                        rest.fill(E::ZERO);
                    }
                }
            }
        }
    }
}

/// Copies `src` (K down, `width` columns) to contiguous steps of `stride` elements each, and puts
/// zeros into what the columns leave of a step. `G` columns are moved at a time.
#[inline(always)]
fn pack<E: Element, const G: usize>(src: Matrix<E>, width: usize, stride: usize, dst: &mut [E]) {
    let whole = width / G * G;
    if width < stride {
        for step in dst.chunks_exact_mut(stride) {
            step[width..].fill(E::ZERO);
        }
    }
    let mut done = 0;
    if src.row_stride == 1 {
        // By way of a copy, as columns a power of two apart would evict each other from the cache.
        let mut rows = [[E::ZERO; BLOCK]; G];
        let k = dst.len() / stride;
        for j in (0..whole).step_by(G) {
            for (i, row) in rows.iter_mut().enumerate() {
                row[..k].copy_from_slice(&src.data[(j + i) * src.col_stride..][..k]);
            }
            for (p, step) in dst.chunks_exact_mut(stride).take(BLOCK).enumerate() {
                for (i, x) in step[j..][..G].iter_mut().enumerate() {
                    *x = rows[i][p];
                }
            }
        }
        done = whole;
    }
    for (p, step) in dst.chunks_exact_mut(stride).enumerate() {
        for (j, x) in step[..width].iter_mut().enumerate().skip(done) {
            *x = src.data[p * src.row_stride + j * src.col_stride];
        }
    }
}

/// Computes `m` rows of `C` in the columns of a packed chunk.
pub(super) struct Sweep<'a, 's, 'r, 'c, E, const MR: usize> {
    pub(super) chunk: Chunk,
    pub(super) m: usize,
    /// `A` from the first of these rows and the first step of the chunk on.
    pub(super) a: Matrix<'a, E>,
    pub(super) packed: &'a [E],
    pub(super) c: &'s mut Rows<'r, 'c, E>,
    pub(super) fresh: bool,
}

impl<E: Element, const MR: usize> WithSimd for Sweep<'_, '_, '_, '_, E, MR> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let panels = self.m.div_ceil(MR);
        E::with_buffer(
            panels * MR * BLOCK,
            #[inline(always)]
            |buffer| {
                if self.a.col_stride == 1 {
                    let panels: &mut [[[E; BLOCK]; MR]] = buffer.as_chunks_mut().0.as_chunks_mut().0;
                    self.run::<S, ByRow>(simd, panels);
                } else {
                    let panels: &mut [[[E; MR]; BLOCK]] = buffer.as_chunks_mut().0.as_chunks_mut().0;
                    self.run::<S, ByStep>(simd, panels);
                }
            },
        );
    }
}

impl<E: Element, const MR: usize> Sweep<'_, '_, '_, '_, E, MR> {
    #[inline(always)]
    fn run<S: Simd, A: Layout<E, MR>>(self, simd: S, a: &mut [A::Panel]) {
        let packed_width = self.chunk.packed_width::<E, S>();
        let tile = tile_width::<E, S>();
        for (block, packed) in self.packed.chunks(BLOCK * packed_width).enumerate() {
            let k = packed.len() / packed_width;
            let fresh = self.fresh && block == 0;
            A::fill_all(a, self.a.at(0, block * BLOCK), self.m, k);
            for (a, i0) in a.iter().zip((0..self.m).step_by(MR)) {
                let rows = MR.min(self.m - i0);
                for (panel, b) in packed.chunks(k * tile).enumerate() {
                    let j = panel * tile;
                    let width = tile.min(self.chunk.n - j);
                    let place = Place { i0, rows, j0: self.chunk.j0 + j, width, fresh };
                    place.any_tile::<E, S, A, MR>(simd, a, b.len() / k, b, self.c);
                }
            }
        }
    }
}

/// How a tile's rows of `A` in one block of K lie close together, in the order that is quick to fill.
trait Layout<E, const MR: usize> {
    /// The elements of one tile's rows.
    type Panel;
    /// Takes over `rows` rows and `k` steps; other rows keep anything.
    fn fill_all(panels: &mut [Self::Panel], src: Matrix<E>, rows: usize, k: usize);
    /// The element of a row at a step.
    fn at(panel: &Self::Panel, row: usize, step: usize) -> E;
}

/// Rows one after another.
struct ByRow;

impl<E: Element, const MR: usize> Layout<E, MR> for ByRow {
    type Panel = [[E; BLOCK]; MR];

    #[inline(always)]
    fn fill_all(panels: &mut [Self::Panel], src: Matrix<E>, rows: usize, k: usize) {
        for (i, row) in panels.iter_mut().flatten().enumerate().take(rows) {
            row[..k].copy_from_slice(&src.data[i * src.row_stride..][..k]);
        }
    }

    #[inline(always)]
    fn at(panel: &Self::Panel, row: usize, step: usize) -> E {
        panel[row][step]
    }
}

/// Steps one after another.
struct ByStep;

impl<E: Element, const MR: usize> Layout<E, MR> for ByStep {
    type Panel = [[E; MR]; BLOCK];

    #[inline(always)]
    fn fill_all(panels: &mut [Self::Panel], src: Matrix<E>, rows: usize, k: usize) {
        if src.row_stride != 1 {
            for (panel, i0) in panels.iter_mut().zip((0..rows).step_by(MR)) {
                let rows = MR.min(rows - i0);
                pack::<E, MR>(src.at(i0, 0).transposed(), rows, MR, panel[..k].as_flattened_mut());
            }
            return;
        }
        // Along the rows of the source, so that each of its cache lines is read once.
        for p in 0..k {
            let (whole, rest) = src.data[p * src.col_stride..][..rows].as_chunks::<MR>();
            for (panel, rows) in panels.iter_mut().zip(whole) {
                panel[p] = *rows;
            }
            if !rest.is_empty() {
                panels[whole.len()][p][..rest.len()].copy_from_slice(rest);
            }
        }
    }

    #[inline(always)]
    fn at(panel: &Self::Panel, row: usize, step: usize) -> E {
        panel[step][row]
    }
}

/// The place of a register tile in `C`.
#[derive(Clone, Copy)]
struct Place {
    i0: usize,
    rows: usize,
    j0: usize,
    width: usize,
    fresh: bool,
}

impl Place {
    /// Picks the smallest tile that covers the place.
    #[inline(always)]
    fn any_tile<E: Element, S: Simd, A: Layout<E, MR>, const MR: usize>(
        self,
        simd: S,
        a: &A::Panel,
        stride: usize,
        b: &[E],
        c: &mut Rows<E>,
    ) {
        match stride / E::lanes::<S>() {
            3 if S::REGISTER_COUNT >= 32 => self.some_rows::<E, S, A, MR, 3>(simd, a, b, c),
            2.. => self.some_rows::<E, S, A, MR, 2>(simd, a, b, c),
            _ => self.some_rows::<E, S, A, MR, 1>(simd, a, b, c),
        }
    }

    #[inline(always)]
    fn some_rows<E: Element, S: Simd, A: Layout<E, MR>, const MR: usize, const V: usize>(
        self,
        simd: S,
        a: &A::Panel,
        b: &[E],
        c: &mut Rows<E>,
    ) {
        match self.rows {
            1 => self.tile::<E, S, A, MR, 1, V>(simd, a, b, c),
            2..=4 => self.tile::<E, S, A, MR, 4, V>(simd, a, b, c),
            _ => self.tile::<E, S, A, MR, MR, V>(simd, a, b, c),
        }
    }

    #[inline(always)]
    fn tile<E: Element, S: Simd, A: Layout<E, MR>, const MR: usize, const R: usize, const V: usize>(
        self,
        simd: S,
        a: &A::Panel,
        b: &[E],
        c: &mut Rows<E>,
    ) {
        if let (Rows::Whole { data, stride }, true) =
            (&mut *c, self.rows == R && self.width == V * E::lanes::<S>())
        {
            let (out, stride) = (&mut data[self.i0 * *stride + self.j0..], *stride);
            let sums = product_tile::<E, S, A, MR, R, V>(simd, a, b);
            match self.fresh {
                true => store::<E, S, R, V, true>(simd, out, stride, &sums),
                false => store::<E, S, R, V, false>(simd, out, stride, &sums),
            }
            return;
        }
        let sums = product_tile::<E, S, A, MR, R, V>(simd, a, b);
        for (i, sums) in sums.into_iter().enumerate().take(self.rows) {
            let out = c.part(self.i0 + i, self.j0, self.width);
            for (out, sum) in out.chunks_mut(E::lanes::<S>()).zip(sums) {
                E::add_block(simd, out, sum, self.fresh);
            }
        }
    }
}

/// Passes on a whole tile's sums straight from their registers: no loop, no test of a width.
#[inline(always)]
fn store<E: Element, S: Simd, const R: usize, const V: usize, const FRESH: bool>(
    simd: S,
    out: &mut [E],
    stride: usize,
    sums: &[[E::Vector<S>; V]; R],
) {
    for (i, sums) in sums.iter().enumerate() {
        let row = E::vectors_mut::<S>(&mut out[i * stride..][..V * E::lanes::<S>()]);
        for (out, &sum) in row.iter_mut().zip(sums) {
            *out = E::with_block(simd, *out, sum, FRESH);
        }
    }
}

/// One step of K for all chains of a register tile.
#[inline(always)]
fn advance<E: Element, S: Simd, A: Layout<E, MR>, const MR: usize, const R: usize, const V: usize>(
    simd: S,
    sums: &mut [[E::Vector<S>; V]; R],
    a: &A::Panel,
    step: usize,
    b: &[E::Vector<S>; V],
) {
    for (i, sums) in sums.iter_mut().enumerate() {
        let x = E::splat(simd, A::at(a, i, step));
        for (sum, &y) in sums.iter_mut().zip(b) {
            *sum = E::fused_vector(simd, x, y, *sum);
        }
    }
}

/// The chains of one register tile over one block of K.
#[inline(always)]
fn product_tile<E: Element, S: Simd, A: Layout<E, MR>, const MR: usize, const R: usize, const V: usize>(
    simd: S,
    a: &A::Panel,
    b: &[E],
) -> [[E::Vector<S>; V]; R] {
    let zero = E::splat(simd, E::ZERO);
    let mut sums = [[zero; V]; R];
    let (steps, _) = E::vectors::<S>(b).as_chunks::<V>();
    let (groups, rest) = steps.as_chunks::<UNROLL>();
    // No block has more steps; saying so spares the checks of each access to A.
    for (group, b) in groups.iter().take(BLOCK / UNROLL).enumerate() {
        for (step, b) in b.iter().enumerate() {
            advance::<E, S, A, MR, R, V>(simd, &mut sums, a, group * UNROLL + step, b);
        }
    }
    for (step, b) in rest.iter().enumerate() {
        advance::<E, S, A, MR, R, V>(simd, &mut sums, a, groups.len() * UNROLL + step, b);
    }
    sums
}
