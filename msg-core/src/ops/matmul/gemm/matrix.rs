//! Operands of a product, and its extents.

/// Steps of K in one fused chain. Part of the contract: changing it changes results.
pub const BLOCK: usize = 256;

/// A matrix inside a slice: element `(i, j)` is `data[i * row_stride + j * col_stride]`.
///
/// Its extent comes from the [`Size`] of the product it takes part in. Strides are in elements;
/// zero strides repeat a row or column.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, E> {
    /// The elements, from `(0, 0)` on.
    pub data: &'a [E],
    /// Distance in elements between vertically adjacent elements.
    pub row_stride: usize,
    /// Distance in elements between horizontally adjacent elements.
    pub col_stride: usize,
}

impl<'a, E> Matrix<'a, E> {
    /// A contiguous row-major matrix of `cols` columns.
    pub fn row_major(data: &'a [E], cols: usize) -> Self {
        Self { data, row_stride: cols, col_stride: 1 }
    }

    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { data: self.data, row_stride: self.col_stride, col_stride: self.row_stride }
    }

    /// The matrix whose `(0, 0)` is this one's `(row, col)`, an element inside it.
    pub(crate) fn at(self, row: usize, col: usize) -> Self {
        Self { data: &self.data[row * self.row_stride + col * self.col_stride..], ..self }
    }

    /// Elements from the first to the last of a `rows` × `cols` extent; `None` if not countable.
    pub(super) fn span(&self, rows: usize, cols: usize) -> Option<usize> {
        if rows == 0 || cols == 0 {
            return Some(0);
        }
        let down = (rows - 1).checked_mul(self.row_stride)?;
        let right = (cols - 1).checked_mul(self.col_stride)?;
        down.checked_add(right)?.checked_add(1)
    }
}

/// What becomes of the old contents of `C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `C = A · B`; the old contents are not read.
    Overwrite,
    /// `C = C + A · B`.
    Accumulate,
}

/// The extents of a product: `A` is m × k, `B` is k × n, `C` is m × n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows of `A` and `C`.
    pub m: usize,
    /// Columns of `B` and `C`.
    pub n: usize,
    /// Columns of `A`, rows of `B`.
    pub k: usize,
}

impl Size {
    /// Multiply-adds of one product, saturating.
    pub(super) fn work(&self) -> usize {
        self.m.saturating_mul(self.n).saturating_mul(self.k)
    }
}
