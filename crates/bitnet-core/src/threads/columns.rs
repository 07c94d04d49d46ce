//! Disjoint column groups of one row-major matrix, so that threads which own output rows of a projection can
//! write their columns of a `[tokens, outputs]` result in place.

use std::marker::PhantomData;

/// How a matrix is cut into column groups.
pub(super) struct Parts<'a, T> {
    first: *mut T,
    rows: usize,
    stride: usize,
    width: usize,
    /// Rows of a tile; all of them for column groups.
    height: usize,
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
            height: data.len() / stride,
            data: PhantomData,
        }
    }

    /// Cut across into tiles of `height` rows as well.
    pub(super) fn tiles(self, height: usize) -> Self {
        Self { height: height.max(1), ..self }
    }

    pub(super) fn count(&self) -> usize {
        let across = if self.height == self.rows { 1 } else { self.rows.div_ceil(self.height) };
        across * self.stride.div_ceil(self.width)
    }

    /// Column group `index`, or tile `index`, counted row by row.
    ///
    /// # Safety
    /// Every index may be taken once only.
    pub(super) unsafe fn take(&self, index: usize) -> ColumnsMut<'_, T> {
        assert!(index < self.count());
        let columns = self.stride.div_ceil(self.width);
        let (start, first) = (index % columns * self.width, index / columns * self.height);
        let width = self.width.min(self.stride - start);
        // SAFETY: first is at most the number of rows, so this is inside the matrix or just behind an empty one.
        let matrix = unsafe { self.first.add(first * self.stride) };
        ColumnsMut {
            matrix,
            start,
            width,
            rows: self.height.min(self.rows - first),
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

    /// Rows of the whole matrix, of which each piece has some columns.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The same columns of `rows` of the rows from `first` on.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn part(&mut self, first: usize, rows: usize) -> ColumnsMut<'_, T> {
        assert!(first <= self.rows && rows <= self.rows - first, "{rows} rows from {first} of {}", self.rows);
        // SAFETY: the rows from `first` on are inside the matrix, which is borrowed for as long as the part.
        let matrix = unsafe { self.matrix.add(first * self.stride) };
        let Self { start, width, stride, .. } = *self;
        ColumnsMut { matrix, start, width, rows, stride, data: PhantomData }
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
