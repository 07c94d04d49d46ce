//! Disjoint column groups of one row-major matrix, so that threads which own output rows of a projection can
//! write their columns of a `[tokens, outputs]` result in place.

use std::marker::PhantomData;

/// How a matrix is cut into column groups.
pub(super) struct Parts<'a, T> {
    first: *mut T,
    rows: usize,
    stride: usize,
    width: usize,
    data: PhantomData<&'a mut [T]>,
}

// SAFETY: threads get different column groups (see `take`), and `T: Send`.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(super) fn new(data: &'a mut [T], stride: usize, width: usize) -> Self {
        assert!(stride > 0 && data.len().is_multiple_of(stride), "not a whole number of rows");
        Self {
            first: data.as_mut_ptr(),
            rows: data.len() / stride,
            stride,
            width: width.max(1),
            data: PhantomData,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.stride.div_ceil(self.width)
    }

    /// Column group `index`.
    ///
    /// # Safety
    /// Every index may be taken once only.
    pub(super) unsafe fn take(&self, index: usize) -> ColumnsMut<'_, T> {
        let start = index * self.width;
        assert!(start < self.stride);
        let width = self.width.min(self.stride - start);
        ColumnsMut {
            matrix: self.first,
            start,
            width,
            rows: self.rows,
            stride: self.stride,
            data: PhantomData,
        }
    }
}

/// Exclusive access to some columns of every row of a matrix.
pub struct ColumnsMut<'a, T> {
    matrix: *mut T,
    start: usize,
    width: usize,
    rows: usize,
    stride: usize,
    data: PhantomData<&'a mut [T]>,
}

impl<'a, T> ColumnsMut<'a, T> {
    /// All columns of a matrix with rows of `stride` elements.
    ///
    /// # Panics
    /// When `data` is not a whole number of rows.
    pub fn whole(data: &'a mut [T], stride: usize) -> Self {
        assert!(stride > 0 && data.len().is_multiple_of(stride), "not a whole number of rows");
        let rows = data.len() / stride;
        Self { matrix: data.as_mut_ptr(), start: 0, width: stride, rows, stride, data: PhantomData }
    }

    /// First column of this group in the matrix.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Number of columns in this group.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows of the matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// This group's part of row `row`.
    ///
    /// # Panics
    /// When `row` is outside the matrix.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: row < rows and start < stride, so the offset is inside the matrix.
        let first = unsafe { self.matrix.add(row * self.stride + self.start) };
        // SAFETY: start + width <= stride, so this is one row's part of our columns, which nobody else has;
        // `&mut self` keeps two calls from overlapping.
        unsafe { std::slice::from_raw_parts_mut(first, self.width) }
    }
}
