//! Aligned, huge-page-aware arenas with statistics by purpose.
//!
//! A [`HybridMemoryPool`] hands out zeroed [`Buffer`]s cut one after another from large anonymous maps
//! (regions), one open region per [`Purpose`]. Weights that are read together therefore lie together, which
//! is what lets the kernel back them with 2 MiB pages. Pages are only committed when first touched, so the
//! unused end of a region costs address space, not memory.
//!
//! A region is returned to the system when the pool has moved on and the last buffer cut from it is dropped.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut, Range},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytemuck::Pod;
use memmap2::MmapRaw;

use crate::{DeviceKind, Error};

mod purpose;

pub use purpose::Purpose;

/// Every buffer starts on a cache line, which is also one AVX-512 vector.
pub const ALIGNMENT: usize = 64;
/// The size of a huge page on x86-64 and aarch64 Linux.
const HUGE_PAGE: usize = 2 << 20;
/// Address space reserved at once for small buffers. Larger ones get a region of their own. The last huge page of a region is
/// rarely full: with regions of 32 MiB that took 21 MB beside 1.5 GB of weights (2026-11-21).
/// (Miri touches all of a region when it makes one; two huge pages are enough to open a second region.)
const REGION: usize = if cfg!(miri) { 2 * HUGE_PAGE } else { 128 << 20 };

/// What pages large regions are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pages {
    /// Huge ones where the system grants them: a stream of weights then runs at up to 1.4 times the speed.
    #[default]
    Huge,
    /// The system's smallest, as a mapped file has them: for those who want to measure the difference.
    Small,
}

/// What a pool has handed out for one purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes in buffers that have not been dropped.
    pub current: usize,
    /// The most that `current` has been.
    pub peak: usize,
    /// Buffers handed out since the pool was made.
    pub buffers: usize,
}

#[derive(Default)]
struct Counter {
    current: AtomicUsize,
    peak: AtomicUsize,
    buffers: AtomicUsize,
}

/// The open region of one purpose and how much of it is taken.
#[derive(Default)]
struct Arena {
    open: Option<Arc<MmapRaw>>,
    used: usize,
}

#[derive(Default)]
struct Inner {
    pages: Pages,
    arenas: [Mutex<Arena>; 3],
    counters: [Counter; 3],
}

/// Hands out memory by purpose and keeps the account. Cloning shares the same pool.
///
/// "Hybrid" because buffers of other devices are to be handed out and counted here too, once a backend for
/// one exists; today every buffer is in main memory.
#[derive(Clone, Default)]
pub struct HybridMemoryPool {
    inner: Arc<Inner>,
}

impl HybridMemoryPool {
    /// An empty pool; nothing is reserved before the first buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty pool whose regions are made of `pages`.
    pub fn of(pages: Pages) -> Self {
        Self { inner: Arc::new(Inner { pages, ..Inner::default() }) }
    }

    /// The device whose memory this pool hands out.
    pub fn device(&self) -> DeviceKind {
        DeviceKind::Cpu
    }

    /// A zeroed buffer of `len` elements, aligned to [`ALIGNMENT`] bytes.
    ///
    /// # Errors
    /// [`Error::SizeOverflow`] when `len` elements exceed the address space, [`Error::OutOfMemory`] when the
    /// system refuses.
    pub fn allocate<T: Pod>(&self, purpose: Purpose, len: usize) -> Result<Buffer<T>, Error> {
        const { assert!(align_of::<T>() <= ALIGNMENT) };
        let overflow = || Error::SizeOverflow { what: "buffer", count: len, size: size_of::<T>() };
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(overflow)?;
        let room = bytes.checked_next_multiple_of(ALIGNMENT).ok_or_else(overflow)?;
        let (region, offset) = self.cut(purpose, room)?;
        self.count(purpose, bytes);
        Ok(Buffer { region, offset, len, purpose, pool: self.clone(), element: PhantomData })
    }

    /// Whether the system could map `bytes` for `purpose`: address space, which most systems refuse only where it is far more
    /// than there is memory. Nothing is taken.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when the system refuses.
    pub fn could_hold(&self, purpose: Purpose, bytes: usize) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        let map = memmap2::MmapMut::map_anon(bytes);
        map.map(drop).map_err(|source| Error::OutOfMemory { bytes, purpose, source })
    }

    /// Takes `room` bytes (a multiple of [`ALIGNMENT`]) that no other buffer has had.
    fn cut(&self, purpose: Purpose, room: usize) -> Result<(Arc<MmapRaw>, usize), Error> {
        let mut arena = self.inner.arenas[purpose as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &arena.open
            && room <= open.len() - arena.used
        {
            let (region, offset) = (open.clone(), arena.used);
            arena.used += room;
            return Ok((region, offset));
        }
        let fresh = map_region(self.inner.pages, purpose, room)?;
        // A buffer that fills its own region leaves the open one to the small buffers that follow it.
        if fresh.len() - room >= HUGE_PAGE || arena.open.is_none() {
            *arena = Arena { open: Some(fresh.clone()), used: room };
        }
        Ok((fresh, 0))
    }

    fn count(&self, purpose: Purpose, bytes: usize) {
        let counter = &self.inner.counters[purpose as usize];
        let now = counter.current.fetch_add(bytes, Ordering::Relaxed) + bytes;
        counter.peak.fetch_max(now, Ordering::Relaxed);
        counter.buffers.fetch_add(1, Ordering::Relaxed);
    }

    /// What is held for `purpose` now, and was at most.
    pub fn usage(&self, purpose: Purpose) -> MemoryUse {
        let counter = &self.inner.counters[purpose as usize];
        MemoryUse {
            current: counter.current.load(Ordering::Relaxed),
            peak: counter.peak.load(Ordering::Relaxed),
            buffers: counter.buffers.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for HybridMemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Purpose::ALL.map(|p| (p, self.usage(p)))).finish()
    }
}

/// Reserves a region and asks for its pages.
fn map_region(pages: Pages, purpose: Purpose, room: usize) -> Result<Arc<MmapRaw>, Error> {
    let refused = |source| Error::OutOfMemory { bytes: room, purpose, source };
    let size = room.max(REGION).checked_next_multiple_of(HUGE_PAGE);
    let size = size.ok_or(Error::SizeOverflow { what: "region", count: room, size: 1 })?;
    let map = memmap2::MmapMut::map_anon(size).map_err(refused)?;
    // Miri has no pages to advise.
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        // Only advice: without huge pages everything still works, at up to a third less bandwidth.
        let _ = map.advise(match pages {
            Pages::Huge => memmap2::Advice::HugePage,
            Pages::Small => memmap2::Advice::NoHugePage,
        });
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = pages;
    Ok(Arc::new(MmapRaw::from(map)))
}

/// An owned, zero-initialised, 64-byte-aligned slice from a [`HybridMemoryPool`].
pub struct Buffer<T: Pod> {
    region: Arc<MmapRaw>,
    /// Byte offset of the first element in the region.
    offset: usize,
    /// Elements, not bytes.
    len: usize,
    purpose: Purpose,
    pool: HybridMemoryPool,
    element: PhantomData<T>,
}

// SAFETY: a buffer is the only handle to its bytes (the arena never hands a byte out twice), so moving it to
// another thread moves the access; `T: Pod` is plain data.
unsafe impl<T: Pod + Send> Send for Buffer<T> {}
// SAFETY: `&Buffer` gives only `&[T]`.
unsafe impl<T: Pod + Sync> Sync for Buffer<T> {}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `cut` checked that the region has `offset + len * size_of::<T>()` bytes.
        let first = unsafe { self.region.as_ptr().add(self.offset) };
        // SAFETY: the bytes are mapped while `region` lives, initialised (anonymous maps are zeroed), aligned
        // (maps start on a page, offsets are multiples of 64), valid for any Pod, and no other buffer has them.
        unsafe { std::slice::from_raw_parts(first.cast::<T>(), self.len) }
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`.
        let first = unsafe { self.region.as_mut_ptr().add(self.offset) };
        // SAFETY: as in `deref`; `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(first.cast::<T>(), self.len) }
    }
}

impl<T: Pod> AsRef<[T]> for Buffer<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Pod> Drop for Buffer<T> {
    fn drop(&mut self) {
        let counter = &self.pool.inner.counters[self.purpose as usize];
        counter.current.fetch_sub(self.len * size_of::<T>(), Ordering::Relaxed);
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} x {} bytes, {})", self.len, size_of::<T>(), self.purpose)
    }
}

/// Read-only bytes that many may hold: a cut of a mapped file, of a [`Buffer`], or of a plain vector.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// All bytes of `owner`, which lives as long as any part of them.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        let range = 0..(*owner).as_ref().len();
        Self { owner, range }
    }

    /// A copy of `parts`, one behind another, that starts on a multiple of eight.
    pub fn aligned(parts: &[&[u8]]) -> Self {
        // A vector of bytes may start anywhere; one of words may not.
        struct Words(Vec<u64>, usize);
        impl AsRef<[u8]> for Words {
            fn as_ref(&self) -> &[u8] {
                &bytemuck::must_cast_slice(&self.0)[..self.1]
            }
        }
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut words = vec![0u64; len.div_ceil(8)];
        let mut rest: &mut [u8] = bytemuck::must_cast_slice_mut(&mut words);
        for part in parts {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
        Self::new(Arc::new(Words(words, len)))
    }

    /// The part `range` of these bytes, or `None` when it reaches past their end.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        (start <= end && end <= self.range.end).then(|| Self { owner: self.owner.clone(), range: start..end })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(Arc::new(bytes))
    }
}

impl From<Buffer<u8>> for SharedBytes {
    fn from(buffer: Buffer<u8>) -> Self {
        Self::new(Arc::new(buffer))
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({})", self.range.len())
    }
}

#[cfg(test)]
mod tests;
