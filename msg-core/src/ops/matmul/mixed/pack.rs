//! Packing: any operand, of f32 or bf16, to tiles of bf16.

use super::tile::{EDGE, SIDE, TILE_STEPS, Tile};
use crate::{float::Stored, ops::matmul::gemm::Matrix, simd::vectorized};

/// Which index of a tile comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `tile[row][pair]`, for the left operand.
    Left,
    /// `tile[pair][column]`, for the right one.
    Right,
}

/// Packs a matrix of `outers` rows and `steps` columns, K across. Tiles of the same rows lie together: panels of
/// 32 rows, in them the steps, in these the panel's halves. What is not in the matrix becomes zero.
pub(super) fn pack<E: Stored>(
    src: Matrix<'_, E>,
    (outers, steps): (usize, usize),
    form: Form,
    tiles: &mut [Tile],
) {
    let (panels, across) = (outers.div_ceil(SIDE), steps.div_ceil(TILE_STEPS));
    vectorized(
        #[inline(always)]
        || {
            // Along the rows of memory.
            for turn in 0..panels * across {
                let (panel, step) = match src.row_stride {
                    1 => (turn % panels, turn / panels),
                    _ => (turn / across, turn % across),
                };
                for half in 0..2 {
                    let tile = &mut tiles[(panel * across + step) * 2 + half];
                    let (outer, k) = (panel * SIDE + half * EDGE, step * TILE_STEPS);
                    if outer < outers {
                        let extent = (EDGE.min(outers - outer), TILE_STEPS.min(steps - k));
                        fill(tile, src, (outer, k), extent, form);
                    } else {
                        *tile = [[0; EDGE]; EDGE];
                    }
                }
            }
        },
    );
}

/// Fills a tile from the matrix's element `at` on.
#[inline(always)]
fn fill<E: Stored>(
    tile: &mut Tile,
    src: Matrix<'_, E>,
    at: (usize, usize),
    extent: (usize, usize),
    form: Form,
) {
    let data = &src.data[at.0 * src.row_stride + at.1 * src.col_stride..];
    let whole = extent == (EDGE, TILE_STEPS);
    let natural = if whole && src.col_stride == 1 {
        by_row(data, src.row_stride, tile);
        Form::Left
    } else if whole && src.row_stride == 1 {
        by_pair(data, src.col_stride, tile);
        Form::Right
    } else {
        *tile = [[0; EDGE]; EDGE];
        for outer in 0..extent.0 {
            for step in 0..extent.1 {
                let bits = data[outer * src.row_stride + step * src.col_stride].bf16_bits();
                tile[outer][step / 2] |= u32::from(bits) << (16 * (step % 2));
            }
        }
        Form::Left
    };
    if natural != form {
        transpose(tile);
    }
}

/// Rows of 32 neighbouring steps.
#[inline(always)]
fn by_row<E: Stored>(data: &[E], stride: usize, tile: &mut Tile) {
    for (outer, row) in tile.iter_mut().enumerate() {
        let data = &data[outer * stride..][..TILE_STEPS];
        for (pair, entry) in row.iter_mut().enumerate() {
            let (low, high) = (data[2 * pair].bf16_bits(), data[2 * pair + 1].bf16_bits());
            *entry = u32::from(low) | u32::from(high) << 16;
        }
    }
}

/// Steps of 16 neighbouring rows.
#[inline(always)]
fn by_pair<E: Stored>(data: &[E], stride: usize, tile: &mut Tile) {
    for (pair, entries) in tile.iter_mut().enumerate() {
        let low = &data[2 * pair * stride..][..EDGE];
        let high = &data[(2 * pair + 1) * stride..][..EDGE];
        for (outer, entry) in entries.iter_mut().enumerate() {
            *entry = u32::from(low[outer].bf16_bits()) | u32::from(high[outer].bf16_bits()) << 16;
        }
    }
}

/// Exchanges the two indices: halves, quarters, eighths and neighbours change places.
#[inline(always)]
fn transpose(tile: &mut Tile) {
    exchange::<8>(tile);
    exchange::<4>(tile);
    exchange::<2>(tile);
    exchange::<1>(tile);
}

/// Exchanges the blocks of `D` x `D` entries beside the diagonal of every block of twice that.
#[inline(always)]
fn exchange<const D: usize>(tile: &mut Tile) {
    for first in 0..EDGE {
        if first & D == 0 {
            let (a, b) = (tile[first], tile[first + D]);
            for lane in 0..EDGE {
                tile[first][lane] = if lane & D == 0 { a[lane] } else { b[lane - D] };
                tile[first + D][lane] = if lane & D == 0 { a[lane + D] } else { b[lane] };
            }
        }
    }
}
