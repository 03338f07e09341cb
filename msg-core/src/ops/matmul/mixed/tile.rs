//! The form in which kernels take operands and return sums.

/// Rows (or columns) of a tile, and pairs of steps of K in it.
pub(super) const EDGE: usize = 16;

/// 16 rows (or columns) by 32 steps of K; an entry is a pair of steps, the earlier in its low half.
pub(super) type Tile = [[u32; EDGE]; EDGE];

/// Rows, or columns, of a panel.
pub(super) const SIDE: usize = 32;
/// Steps of K in a tile.
pub(super) const TILE_STEPS: usize = 32;

/// The sums of 32 rows and 32 columns.
pub(super) type Sums = [[f32; SIDE]; SIDE];
