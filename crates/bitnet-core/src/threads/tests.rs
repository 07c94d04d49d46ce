use std::{collections::HashMap, sync::atomic::AtomicU32, time::Duration};

use super::*;

/// Rounds of a test that does the same again and again: `rounds`, or a thousandth of them under Miri, which interprets each.
const fn repeated(rounds: usize) -> usize {
    if cfg!(miri) { rounds.div_ceil(1_000) } else { rounds }
}

#[test]
fn every_chunk_runs_exactly_once() {
    for threads in [1, 2, 3, 8] {
        let pool = ThreadPool::new(threads);
        for chunks in [0, 1, 2, 7, repeated(1_000).max(20)] {
            let counts: Vec<AtomicU32> = (0..chunks).map(|_| AtomicU32::new(0)).collect();
            pool.for_each(chunks, |i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                counts.iter().all(|c| c.load(Ordering::Relaxed) == 1),
                "{threads} threads, {chunks} chunks"
            );
        }
    }
}

#[test]
fn many_short_steps_and_parked_workers() {
    let pool = ThreadPool::new(3);
    let total = AtomicUsize::new(0);
    let steps = repeated(20_000);
    for step in 0..steps {
        pool.for_each(3, |i| {
            total.fetch_add(i, Ordering::Relaxed);
        });
        if step % (steps / 4) == 0 {
            // Long enough for the workers to park.
            thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(total.load(Ordering::Relaxed), steps * 3);
}

#[test]
fn pieces_and_columns_cover_the_data_without_overlap() {
    let pool = ThreadPool::new(4);
    let mut data = vec![0u32; 1003];
    pool.for_each_chunk_mut(&mut data, 10, |i, piece| piece.iter_mut().for_each(|x| *x += i as u32 + 1));
    assert!(data.iter().enumerate().all(|(i, &x)| x == i as u32 / 10 + 1));

    let (mut a, mut b, mut c) = (vec![0u8; 35], vec![0u16; 7], vec![0u32; 13]);
    pool.for_each_chunk_mut3((&mut a, 5), (&mut b, 1), (&mut c, 2), |i, a, b, c| {
        a.iter_mut().for_each(|x| *x += i as u8 + 1);
        b.iter_mut().for_each(|x| *x += i as u16 + 1);
        c.iter_mut().for_each(|x| *x += i as u32 + 1);
    });
    assert!((0..35).all(|i| a[i] as usize == i / 5 + 1));
    assert!((0..7).all(|i| b[i] as usize == i + 1) && (0..13).all(|i| c[i] as usize == i / 2 + 1));

    let (rows, stride, width) = (5, 37, 8);
    let mut matrix = vec![0u32; rows * stride];
    pool.for_each_columns_mut(&mut matrix, stride, width, |i, mut columns| {
        assert_eq!(columns.start(), i * width);
        for row in 0..columns.rows() {
            columns.row(row).iter_mut().for_each(|x| *x += (row * 100 + i) as u32 + 1);
        }
    });
    for (at, &x) in matrix.iter().enumerate() {
        assert_eq!(x as usize, at / stride * 100 + at % stride / width + 1);
    }
}

#[test]
fn several_matrices_are_covered_in_one_step() {
    let pool = ThreadPool::new(3);
    let (mut a, mut b) = (vec![0u32; 4 * 19], vec![0u32; 2 * 40]);
    pool.for_each_columns_of(&mut [(&mut a, 19), (&mut b, 40)], 16, |matrix, mut columns| {
        for row in 0..columns.rows() {
            columns.row(row).iter_mut().for_each(|x| *x += matrix as u32 + 1);
        }
    });
    assert!(a.iter().all(|&x| x == 1) && b.iter().all(|&x| x == 2));
}

#[test]
fn a_nested_step_runs_serially() {
    let pool = ThreadPool::new(2);
    let total = AtomicUsize::new(0);
    pool.for_each(4, |_| {
        pool.for_each(5, |i| {
            total.fetch_add(i, Ordering::Relaxed);
        });
    });
    assert_eq!(total.load(Ordering::Relaxed), 40);
}

#[test]
fn two_callers_take_turns() {
    let pool = ThreadPool::new(2);
    let total = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..repeated(2_000) {
                    pool.for_each(4, |_| {
                        total.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
        }
    });
    assert_eq!(total.load(Ordering::Relaxed), 2 * 4 * repeated(2_000));
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    let pool = ThreadPool::new(2);
    for bad in 0..8 {
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.for_each(8, |i| {
                thread::sleep(Duration::from_micros(200));
                assert!(i != bad, "chunk {i}");
            })
        }));
        assert!(result.is_err());
    }
    let total = AtomicUsize::new(0);
    pool.for_each(8, |_| {
        total.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(total.load(Ordering::Relaxed), 8);
}

/// Runs `step` until it panics and returns how often each of the indices was given to `note` meanwhile.
fn indices_until_a_panic(step: impl FnOnce(&(dyn Fn(usize) + Sync))) -> HashMap<usize, u32> {
    const ENOUGH: usize = repeated(50_000);
    let (seen, calls) = (Mutex::new(HashMap::new()), AtomicUsize::new(0));
    let note = |index| {
        *seen.lock().unwrap_or_else(PoisonError::into_inner).entry(index).or_default() += 1;
        assert!(calls.fetch_add(1, Ordering::Relaxed) < ENOUGH, "enough");
    };
    assert!(catch_unwind(AssertUnwindSafe(|| step(&note))).is_err());
    seen.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_huge_number_of_chunks_gives_no_index_twice() {
    let pool = ThreadPool::new(4);
    for chunks in [usize::MAX / 4 + 1, usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX - 1, usize::MAX] {
        let seen = indices_until_a_panic(|note| pool.for_each(chunks, note));
        assert!(seen.values().all(|&times| times == 1), "{chunks} chunks");
        assert!(seen.keys().all(|&index| index < chunks));
    }
}

#[test]
fn elements_without_a_size_are_not_lent_twice() {
    let pool = ThreadPool::new(4);
    for len in [usize::MAX / 2 + 1, usize::MAX] {
        let mut tokens = vec![(); len];
        let seen = indices_until_a_panic(|note| {
            pool.for_each_chunk_mut(&mut tokens, 1, |index, piece| {
                assert_eq!(piece.len(), 1);
                note(index);
            });
        });
        assert!(seen.values().all(|&times| times == 1), "{len} elements");
    }
    // Three of them have more groups together than can be counted.
    let (mut a, mut b, mut c) = (vec![(); usize::MAX], vec![(); usize::MAX], vec![(); 8]);
    let mut matrices = [(&mut a[..], usize::MAX), (&mut b[..], usize::MAX), (&mut c[..], 8)];
    let seen = indices_until_a_panic(|note| {
        pool.for_each_columns_of(&mut matrices, 1, |matrix, columns| {
            assert_eq!(matrix, 0);
            note(columns.start());
        });
    });
    assert!(seen.values().all(|&times| times == 1));
}

#[test]
fn a_payload_that_panics_when_it_is_dropped_ends_the_step() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !thread::panicking() {
                // The pool never drops what this panics with, so it takes no memory: Miri looks for lost memory.
                resume_unwind(Box::new(()));
            }
        }
    }
    let (tell, told) = std::sync::mpsc::channel();
    // On a thread of its own, so that a step which never ends fails the test.
    thread::spawn(move || {
        let pool = ThreadPool::new(2);
        let caller = thread::current().id();
        let done = catch_unwind(AssertUnwindSafe(|| {
            pool.for_each(64, |_| {
                thread::sleep(Duration::from_millis(1));
                if thread::current().id() != caller {
                    std::panic::panic_any(Bomb);
                }
            });
        }));
        let again = AtomicUsize::new(0);
        pool.for_each(64, |_| {
            again.fetch_add(1, Ordering::Relaxed);
        });
        tell.send((done.is_err(), again.into_inner())).unwrap();
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok((true, 64)));
}

#[test]
fn tiles_cover_a_matrix_once() {
    let pool = ThreadPool::new(3);
    for (rows, stride, height, width) in
        [(7, 10, 3, 4), (6, 8, 2, 8), (1, 5, 4, 2), (5, 1, 1, 1), (4, 6, 4, 3)]
    {
        let mut matrix = vec![0u32; rows * stride];
        let columns = stride.div_ceil(width);
        let mut extra = vec![0u8; 2 * columns * rows.div_ceil(height)];
        pool.for_each_tile_mut(
            (&mut matrix, stride),
            height,
            width,
            (&mut extra, 2),
            |index, mut tile, extra| {
                assert_eq!((extra.len(), tile.start()), (2, index % columns * width));
                extra.fill(1);
                // By parts of one row, which begin where the tile does.
                for row in 0..tile.rows() {
                    for x in tile.part(row, 1).row(0) {
                        *x += (index / columns * height + row) as u32 + 1;
                    }
                }
            },
        );
        for (i, &x) in matrix.iter().enumerate() {
            assert_eq!(x as usize, i / stride + 1, "{rows} x {stride} in {height} x {width}");
        }
        assert!(extra.iter().all(|&x| x == 1));
    }
}
