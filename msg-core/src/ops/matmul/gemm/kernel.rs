//! Packing and register tiles: everything that runs on one thread under one instruction set.

use pulp::{Simd, WithSimd};

use super::{BLOCK, Element, Matrix};

/// Vectors of columns in a full register tile.
const TILE_VECTORS: usize = 3;
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

/// Columns of a full register tile.
#[inline(always)]
pub(super) fn tile_width<E: Element, S: Simd>() -> usize {
    TILE_VECTORS * E::lanes::<S>()
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

/// Packs one panel of `B`.
pub(super) struct PackB<'a, 'p, E> {
    pub(super) b: Matrix<'a, E>,
    pub(super) slot: Slot,
    pub(super) panel: &'p mut [E],
}

impl<E: Element> WithSimd for PackB<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Slot { k0, k, j0, width } = self.slot;
        let stride = self.panel.len() / k;
        pack(self.b.at(k0, j0), width, stride, self.panel);
    }
}

/// Elements along K that are moved together when K is the contiguous direction of the source.
const PACK_STEPS: usize = 16;

/// Copies `src` (K down, `width` columns) to contiguous steps of `stride` elements each, and puts
/// zeros into what the columns leave of a step.
#[inline(always)]
fn pack<E: Element>(src: Matrix<E>, width: usize, stride: usize, dst: &mut [E]) {
    let Matrix { data, row_stride, col_stride } = src;
    if width < stride {
        for step in dst.chunks_exact_mut(stride) {
            step[width..].fill(E::ZERO);
        }
    }
    if col_stride == 1 {
        for (p, step) in dst.chunks_exact_mut(stride).enumerate() {
            step[..width].copy_from_slice(&data[p * row_stride..][..width]);
        }
        return;
    }
    // A few steps at a time, so that both the lines read and the lines written stay close by.
    for (group, dst) in dst.chunks_mut(PACK_STEPS * stride).enumerate() {
        let data = &data[group * PACK_STEPS * row_stride..];
        let steps = dst.len() / stride;
        for j in 0..width {
            let column = &data[j * col_stride..];
            if row_stride == 1 && steps == PACK_STEPS {
                for (p, &x) in column[..PACK_STEPS].iter().enumerate() {
                    dst[p * stride + j] = x;
                }
            } else {
                for p in 0..steps {
                    dst[p * stride + j] = column[p * row_stride];
                }
            }
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
        let mut a_panel = [[E::ZERO; MR]; BLOCK];
        let packed_width = self.chunk.packed_width::<E, S>();
        for (block, packed) in self.packed.chunks(BLOCK * packed_width).enumerate() {
            let k = packed.len() / packed_width;
            let fresh = self.fresh && block == 0;
            for i0 in (0..self.m).step_by(MR) {
                let rows = MR.min(self.m - i0);
                let a_panel = &mut a_panel[..k];
                let a = self.a.at(i0, block * BLOCK).transposed();
                pack(a, rows, MR, a_panel.as_flattened_mut());
                for (panel, b) in packed.chunks(k * tile_width::<E, S>()).enumerate() {
                    let j = panel * tile_width::<E, S>();
                    let width = tile_width::<E, S>().min(self.chunk.n - j);
                    let place = Place { i0, rows, j0: self.chunk.j0 + j, width, fresh };
                    place.any_tile::<E, S, MR>(simd, a_panel, b, self.c);
                }
            }
        }
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
    fn any_tile<E: Element, S: Simd, const MR: usize>(
        self,
        simd: S,
        a: &[[E; MR]],
        b: &[E],
        c: &mut Rows<E>,
    ) {
        match b.len() / a.len() / E::lanes::<S>() {
            3 => self.some_rows::<E, S, MR, 3>(simd, a, b, c),
            2 => self.some_rows::<E, S, MR, 2>(simd, a, b, c),
            _ => self.some_rows::<E, S, MR, 1>(simd, a, b, c),
        }
    }

    #[inline(always)]
    fn some_rows<E: Element, S: Simd, const MR: usize, const V: usize>(
        self,
        simd: S,
        a: &[[E; MR]],
        b: &[E],
        c: &mut Rows<E>,
    ) {
        match self.rows {
            1 => self.tile::<E, S, MR, 1, V>(simd, a, b, c),
            2..=4 if MR > 4 => self.tile::<E, S, MR, 4, V>(simd, a, b, c),
            _ => self.tile::<E, S, MR, MR, V>(simd, a, b, c),
        }
    }

    #[inline(always)]
    fn tile<E: Element, S: Simd, const MR: usize, const R: usize, const V: usize>(
        self,
        simd: S,
        a: &[[E; MR]],
        b: &[E],
        c: &mut Rows<E>,
    ) {
        let sums = product_tile::<E, S, MR, R, V>(simd, a, b);
        for (i, sums) in sums.into_iter().enumerate().take(self.rows) {
            let out = c.part(self.i0 + i, self.j0, self.width);
            for (out, sum) in out.chunks_mut(E::lanes::<S>()).zip(sums) {
                E::add_block(simd, out, sum, self.fresh);
            }
        }
    }
}

/// The chains of one register tile over one block of K.
#[inline(always)]
fn product_tile<E: Element, S: Simd, const MR: usize, const R: usize, const V: usize>(
    simd: S,
    a: &[[E; MR]],
    b: &[E],
) -> [[E::Vector<S>; V]; R] {
    let zero = E::splat(simd, E::ZERO);
    let mut sums = [[zero; V]; R];
    for (a, b) in a.iter().zip(b.chunks_exact(V * E::lanes::<S>())) {
        let (b, _) = E::vectors::<S>(b).as_chunks::<V>();
        let b = &b[0];
        for i in 0..R {
            let x = E::splat(simd, a[i]);
            for j in 0..V {
                sums[i][j] = E::fused_vector(simd, x, b[j], sums[i][j]);
            }
        }
    }
    sums
}
