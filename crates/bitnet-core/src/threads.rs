//! A fork-join pool for work measured in microseconds.
//!
//! A token takes hundreds of small parallel steps, so a step must start and end in well under a microsecond:
//! workers spin for a bounded time on one shared word before they park. Machines are shared, so nobody may
//! wait for a worker that the system has put aside: a step is cut into chunks which are claimed one by one,
//! it is over when the chunks are, and a worker that never woke up is simply not part of it. Which worker
//! takes which chunk is therefore random; results must not depend on it, and chunk boundaries never depend
//! on the number of threads.
//!
//! Workers are not bound to CPUs. Tried on 2026-11-21 with two threads on two CPUs, the worker on one of its own, in
//! alternating pairs: median 1.00 times the speed of decoding (21 pairs, 0.62 to 1.51) and of a prompt (3 pairs), 0.94
//! beside two busy processes (7 pairs, 0.75 to 1.04); the caller bound as well gained nothing either.

use std::{
    cell::{Cell, UnsafeCell},
    hint::spin_loop,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
};

mod columns;
mod pieces;

pub use columns::ColumnsMut;

/// Spins before a waiting thread gives up its core. About 20 to 50 us: longer than the gap between two steps
/// of a token, far shorter than a scheduler's time slice.
/// Few under Miri, which interprets every spin: there, too, some waits shall end in it and some in parking.
const SPINS: u32 = if cfg!(miri) { 30 } else { 10_000 };

/// The most chunks that threads share. Beyond the last chunk of a run every thread claims once more, and a counter must not wrap then.
const MOST_SHARED: usize = usize::MAX / 2;

/// The most matrices that one step can write: queries, keys and values.
pub const MAX_MATRICES: usize = 3;

/// The shared word: bit 0 says that a step is open, bits 1..16 count the workers inside it, the rest counts steps.
const OPEN: usize = 1;
const ONE_WORKER: usize = 2;
const WORKERS: usize = 0xfffe;
const ONE_STEP: usize = 0x1_0000;

/// A borrowed job whose lifetime has been erased; valid while a step is open or a worker is inside it.
type Job = *const (dyn Fn() + Sync);

/// A counter with a cache line (two, since they are fetched in pairs) of its own.
#[repr(align(128))]
#[derive(Default)]
struct Run(AtomicUsize);

struct Shared {
    state: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    /// The next chunk to claim in each thread's run of chunks.
    runs: Vec<Run>,
    /// Threads that have begun to claim in this step.
    seats: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
    /// Workers that have begun to wait for steps.
    started: AtomicUsize,
    parked: Vec<AtomicBool>,
}

// SAFETY: `job` is written only by the thread that holds the pool's lock while no step is open and no worker is
// inside, and read only by workers that have entered an open step (acquire on `state`).
unsafe impl Sync for Shared {}
// SAFETY: the job pointer is only followed under the rule above, from any thread (the closure is Sync).
unsafe impl Send for Shared {}

/// A fixed set of threads, the caller's among them.
pub struct ThreadPool {
    shared: Arc<Shared>,
    /// One step at a time; a second caller waits here.
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
}

thread_local! {
    /// True inside a chunk: a nested step runs serially instead of waiting for itself.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl ThreadPool {
    /// A pool of `threads` (at least one): the calling thread and `threads - 1` workers. When the system
    /// refuses a thread the pool is smaller; see [`ThreadPool::threads`].
    pub fn new(threads: usize) -> Self {
        let wanted = threads.clamp(1, WORKERS / ONE_WORKER) - 1;
        let shared = Arc::new(Shared {
            state: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            runs: (0..=wanted).map(|_| Run::default()).collect(),
            seats: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            started: AtomicUsize::new(0),
            parked: (0..wanted).map(|_| AtomicBool::new(false)).collect(),
        });
        let spawn = |index| {
            let shared = shared.clone();
            thread::Builder::new()
                .name(format!("bitnet-{}", index + 1))
                .spawn(move || shared.work(index))
                .ok()
        };
        let workers: Vec<_> = (0..wanted).map_while(spawn).collect();
        // A thread's own start takes memory and time: it is over before the first step is measured or counted.
        while shared.started.load(Ordering::Acquire) < workers.len() {
            thread::yield_now();
        }
        let handles = workers.iter().map(|w| w.thread().clone()).collect();
        Self { shared, turn: Mutex::new(()), workers, handles }
    }

    /// Threads that take part, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(chunk)` once for every chunk in `0..chunks`, on all threads, and returns when all are done.
    ///
    /// # Panics
    /// When a chunk panics, after the others that had begun are done. Chunks that had not begun may be left out then; none runs twice.
    pub fn for_each(&self, chunks: usize, work: impl Fn(usize) + Sync) {
        if chunks <= 1 || chunks > MOST_SHARED || self.workers.is_empty() || INSIDE.get() {
            return (0..chunks).for_each(work);
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        // Every thread has a run of neighbouring chunks, so that it reads one stream of weights whose next part is on its way
        // already; who is done helps the others. (With one counter for all, neighbours went to different threads, each of
        // which fetched ahead what the other one was to read.)
        let (each, more) = (chunks / shared.runs.len(), chunks % shared.runs.len());
        let bound = |run: usize| run * each + run.min(more);
        for (run, next) in shared.runs.iter().enumerate() {
            next.0.store(bound(run), Ordering::Relaxed);
        }
        shared.seats.store(0, Ordering::Relaxed);
        let claim = || {
            INSIDE.set(true);
            let seat = shared.seats.fetch_add(1, Ordering::Relaxed);
            for turn in 0..shared.runs.len() {
                let run = (seat + turn) % shared.runs.len();
                loop {
                    let chunk = shared.runs[run].0.fetch_add(1, Ordering::Relaxed);
                    if chunk >= bound(run + 1) {
                        break;
                    }
                    work(chunk);
                }
            }
            INSIDE.set(false);
        };
        let job: *const (dyn Fn() + Sync + '_) = &claim;
        // SAFETY: only the lifetime changes. `close` below does not return before every worker has left the
        // step, and none can enter afterwards, so the pointer is never followed once `claim` is gone.
        let job: Job = unsafe { std::mem::transmute::<*const (dyn Fn() + Sync + '_), Job>(job) };
        self.open(job);
        let mine = catch_unwind(AssertUnwindSafe(claim));
        if mine.is_err() {
            INSIDE.set(false);
            // No run ends behind `chunks`, so nobody claims another one.
            shared.runs.iter().for_each(|next| next.0.store(chunks, Ordering::Relaxed));
        }
        shared.close();
        let theirs = shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(cause) = mine {
            resume_unwind(cause);
        }
        assert!(!theirs, "a worker of the thread pool panicked");
    }

    /// Cuts `data` into pieces of `chunk` elements (the last may be shorter) and calls `work(index, piece)`
    /// for each, on all threads.
    pub fn for_each_chunk_mut<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let pieces = pieces::Pieces::new(data, chunk);
        self.for_each(pieces.count(), |index| {
            // SAFETY: `for_each` hands out no index twice.
            work(index, unsafe { pieces.take(index) });
        });
    }

    /// Cuts two slices into as many pieces each, of their own sizes, and calls `work(index, a, b)` for each pair.
    ///
    /// # Panics
    /// When they have different numbers of pieces.
    pub fn for_each_chunk_mut2<A: Send, B: Send>(
        &self,
        a: (&mut [A], usize),
        b: (&mut [B], usize),
        work: impl Fn(usize, &mut [A], &mut [B]) + Sync,
    ) {
        let (a, b) = (pieces::Pieces::new(a.0, a.1), pieces::Pieces::new(b.0, b.1));
        assert!(a.count() == b.count(), "slices of different numbers of pieces");
        self.for_each(a.count(), |index| {
            // SAFETY: `for_each` hands out no index twice.
            let a = unsafe { a.take(index) };
            // SAFETY: as above.
            let b = unsafe { b.take(index) };
            work(index, a, b);
        });
    }

    /// Cuts three slices into as many pieces each, of their own sizes, and calls `work(index, a, b, c)` for each triple.
    ///
    /// # Panics
    /// When they have different numbers of pieces.
    pub fn for_each_chunk_mut3<A: Send, B: Send, C: Send>(
        &self,
        a: (&mut [A], usize),
        b: (&mut [B], usize),
        c: (&mut [C], usize),
        work: impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync,
    ) {
        let (a, b, c) =
            (pieces::Pieces::new(a.0, a.1), pieces::Pieces::new(b.0, b.1), pieces::Pieces::new(c.0, c.1));
        assert!(a.count() == b.count() && a.count() == c.count(), "slices of different numbers of pieces");
        self.for_each(a.count(), |index| {
            // SAFETY: `for_each` hands out no index twice.
            let a = unsafe { a.take(index) };
            // SAFETY: as above.
            let b = unsafe { b.take(index) };
            // SAFETY: as above.
            let c = unsafe { c.take(index) };
            work(index, a, b, c);
        });
    }

    /// Cuts a row-major matrix of rows of `stride` elements into groups of `width` columns (the last may be
    /// narrower) and calls `work(index, columns)` for each, on all threads.
    ///
    /// # Panics
    /// When `data` is not a whole number of rows.
    pub fn for_each_columns_mut<T: Send>(
        &self,
        data: &mut [T],
        stride: usize,
        width: usize,
        work: impl Fn(usize, ColumnsMut<'_, T>) + Sync,
    ) {
        let parts = columns::Parts::new(data, stride, width);
        self.for_each(parts.count(), |index| {
            // SAFETY: `for_each` hands out no index twice.
            work(index, unsafe { parts.take(index) });
        });
    }

    /// Cuts a row-major matrix, given with its stride, into tiles of `height` rows by `width` columns, and `extra` into as many
    /// pieces of a size; calls `work(index, tile, piece)` for each, tiles counted row by row, on all threads.
    ///
    /// # Panics
    /// When the matrix is not a whole number of rows, or there are fewer pieces than tiles.
    pub fn for_each_tile_mut<A: Send, B: Send>(
        &self,
        matrix: (&mut [A], usize),
        height: usize,
        width: usize,
        extra: (&mut [B], usize),
        work: impl Fn(usize, ColumnsMut<'_, A>, &mut [B]) + Sync,
    ) {
        let tiles = columns::Parts::new(matrix.0, matrix.1, width).tiles(height);
        let pieces = pieces::Pieces::new(extra.0, extra.1);
        assert!(tiles.count() <= pieces.count(), "{} pieces for {} tiles", pieces.count(), tiles.count());
        self.for_each(tiles.count(), |index| {
            // SAFETY: `for_each` hands out no index twice.
            let tile = unsafe { tiles.take(index) };
            // SAFETY: as above.
            let piece = unsafe { pieces.take(index) };
            work(index, tile, piece);
        });
    }

    /// [`ThreadPool::for_each_columns_mut`] over several matrices in one step: `work(matrix, columns)`, where
    /// `matrices` are the data and the stride of each, at most [`MAX_MATRICES`].
    ///
    /// # Panics
    /// When a matrix is not a whole number of rows, or there are too many.
    pub fn for_each_columns_of<T: Send>(
        &self,
        matrices: &mut [(&mut [T], usize)],
        width: usize,
        work: impl Fn(usize, ColumnsMut<'_, T>) + Sync,
    ) {
        assert!(matrices.len() <= MAX_MATRICES, "{} matrices in one step", matrices.len());
        let mut all: [Option<columns::Parts<'_, T>>; MAX_MATRICES] = [const { None }; MAX_MATRICES];
        for (part, (data, stride)) in all.iter_mut().zip(matrices) {
            *part = Some(columns::Parts::new(data, *stride, width));
        }
        let counts = all.iter().flatten().map(columns::Parts::count);
        // Only matrices of elements without a size can have so many groups.
        let total = counts.fold(0, |sum: usize, count| sum.saturating_add(count));
        self.for_each(total, |mut index| {
            for (matrix, parts) in all.iter().flatten().enumerate() {
                if index < parts.count() {
                    // SAFETY: `for_each` hands out no index twice, and each stands for one group of one matrix.
                    return work(matrix, unsafe { parts.take(index) });
                }
                index -= parts.count();
            }
        });
    }

    /// Publishes a step and wakes the workers that have parked.
    fn open(&self, job: Job) {
        let shared = &*self.shared;
        // SAFETY: no step is open and none is inside (the last `close` waited), and `turn` is held.
        unsafe { *shared.job.get() = Some(job) };
        let step = (shared.state.load(Ordering::Relaxed) & !(OPEN | WORKERS)).wrapping_add(ONE_STEP);
        // SeqCst, here and in `work`: either the worker sees the new step, or we see that it parked.
        shared.state.store(step | OPEN, Ordering::SeqCst);
        for (parked, handle) in shared.parked.iter().zip(&self.handles) {
            if parked.load(Ordering::SeqCst) && parked.swap(false, Ordering::SeqCst) {
                handle.unpark();
            }
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.handles.iter().for_each(Thread::unpark);
        for worker in self.workers.drain(..) {
            // Panics of chunks are caught inside `work` and told by `for_each`; there is nothing to report here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// No more workers may enter; waits for those inside.
    fn close(&self) {
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while self.state.load(Ordering::Acquire) & WORKERS != 0 {
            spins += 1;
            if spins < SPINS {
                spin_loop();
            } else {
                // Somebody inside has lost its core: give ours, perhaps it is the one it needs.
                thread::yield_now();
            }
        }
    }

    /// A worker's life: wait for a step, enter it, work, leave.
    fn work(&self, index: usize) {
        self.started.fetch_add(1, Ordering::Release);
        let mut seen = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let state = self.wait(index, seen);
            seen = state & !(OPEN | WORKERS);
            let Some(job) = self.enter(state) else { continue };
            // SAFETY: we are inside, so the caller is still in `for_each` and its closure is alive.
            let job = unsafe { &*job };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
                INSIDE.set(false);
                self.panicked.store(true, Ordering::Relaxed);
                // Dropping it may run code that panics, and then nobody would leave the step below. What that panics with is let
                // be: there is no end to payloads that panic when they are dropped.
                if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                    std::mem::forget(another);
                }
            }
            self.state.fetch_sub(ONE_WORKER, Ordering::Release);
        }
    }

    /// Spins, then parks, until a step other than `seen` has been opened or the pool stops.
    fn wait(&self, index: usize, seen: usize) -> usize {
        let fresh = |state: usize| state & !(OPEN | WORKERS) != seen;
        for _ in 0..SPINS {
            let state = self.state.load(Ordering::Acquire);
            if fresh(state) {
                return state;
            }
            spin_loop();
        }
        loop {
            self.parked[index].store(true, Ordering::SeqCst);
            let state = self.state.load(Ordering::SeqCst);
            if fresh(state) || self.stop.load(Ordering::SeqCst) {
                self.parked[index].store(false, Ordering::SeqCst);
                return state;
            }
            thread::park();
        }
    }

    /// Joins the step of `state` unless it has closed meanwhile.
    fn enter(&self, mut state: usize) -> Option<Job> {
        let step = state & !(OPEN | WORKERS);
        while state & OPEN != 0 && state & !(OPEN | WORKERS) == step {
            match self.state.compare_exchange_weak(
                state,
                state + ONE_WORKER,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                // SAFETY: we are inside an open step: `job` was written before it opened and will not change.
                Ok(_) => return unsafe { *self.job.get() },
                Err(now) => state = now,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
