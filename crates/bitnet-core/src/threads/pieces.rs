//! Disjoint pieces of one slice.

use std::marker::PhantomData;

/// How a slice is cut into pieces of equal size, the last of which may be shorter.
pub(super) struct Pieces<'a, T> {
    first: *mut T,
    len: usize,
    size: usize,
    data: PhantomData<&'a mut [T]>,
}

// SAFETY: threads get different pieces (see `take`), and `T: Send`.
unsafe impl<T: Send> Sync for Pieces<'_, T> {}

impl<'a, T> Pieces<'a, T> {
    pub(super) fn new(data: &'a mut [T], size: usize) -> Self {
        Self { first: data.as_mut_ptr(), len: data.len(), size: size.max(1), data: PhantomData }
    }

    pub(super) fn count(&self) -> usize {
        self.len.div_ceil(self.size)
    }

    /// Piece `index`.
    ///
    /// # Safety
    /// Every index may be taken once only.
    // The references are to different elements: that is what the contract is for.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn take(&self, index: usize) -> &mut [T] {
        assert!(index < self.count());
        let start = index * self.size;
        // SAFETY: start < len because index < ceil(len / size).
        let first = unsafe { self.first.add(start) };
        // SAFETY: the piece is inside the slice, which is borrowed for as long as `self`, and by the contract
        // nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(first, self.size.min(self.len - start)) }
    }
}
