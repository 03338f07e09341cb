//! The order of a tensor's values in a file.

use std::{borrow::Cow, fmt};

/// How one tensor of a module lies in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLayout {
    /// The same shape.
    AsIs,
    /// The first two axes as one: a (Qkv, AttnDim) bias is [Qkv * AttnDim], a (Qkv, AttnDim, Hidden) weight
    /// [Qkv * AttnDim, Hidden]. The bytes are the same.
    Merged,
    /// All axes but the last as one, then transposed, as in GPT-2's `Conv1D`: (Ffn, Hidden) is
    /// [Hidden, Ffn], (Qkv, AttnDim, Hidden) is [Hidden, Qkv * AttnDim].
    Transposed,
    /// One file tensor for each unit of the first axis. The walk's name is a brace pattern that lists
    /// them: `self.{query,key,value}.weight` of (Qkv, AttnDim, Hidden) is three tensors [AttnDim, Hidden].
    Split,
}

impl fmt::Display for FileLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileLayout::AsIs => "as is",
            FileLayout::Merged => "merged",
            FileLayout::Transposed => "transposed",
            FileLayout::Split => "split",
        })
    }
}

impl FileLayout {
    /// Values in memory order to the order of the file (one file tensor after another).
    pub(super) fn to_file<'v>(self, shape: &[usize], values: &'v [f32]) -> Cow<'v, [f32]> {
        match (self, shape.last()) {
            (FileLayout::Transposed, Some(&columns)) => Cow::Owned(transposed(values, columns)),
            _ => Cow::Borrowed(values),
        }
    }

    /// The inverse of [`FileLayout::to_file`]. `shape` is that in memory, too.
    pub(super) fn to_memory(self, shape: &[usize], values: Vec<f32>) -> Vec<f32> {
        match (self, shape.split_last()) {
            (FileLayout::Transposed, Some((_, rows))) => transposed(&values, rows.iter().product()),
            _ => values,
        }
    }
}

/// The transpose of a row-major matrix with `columns` columns.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    // Tiles keep both sides in the cache; a plain loop misses it on every read of a large matrix.
    const TILE: usize = 32;
    let rows = values.len().checked_div(columns).unwrap_or(0);
    let mut turned = vec![0.0; values.len()];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for row in top..rows.min(top + TILE) {
                for column in left..columns.min(left + TILE) {
                    turned[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transpose_across_tile_edges_moves_every_value_and_back() {
        for (rows, columns) in [(1, 1), (3, 70), (65, 33), (32, 64), (0, 4), (4, 0)] {
            let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let turned = transposed(&values, columns);
            for row in 0..rows {
                for column in 0..columns {
                    assert_eq!(turned[column * rows + row], values[row * columns + column]);
                }
            }
            assert_eq!(transposed(&turned, rows), values);
        }
    }
}
