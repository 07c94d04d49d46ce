use proptest::prelude::*;

use super::*;

#[test]
fn buffers_are_zeroed_aligned_and_disjoint() {
    let pool = HybridMemoryPool::new();
    // Miri interprets every element: the long buffer is one among others there, too.
    let long = if cfg!(miri) { 1_000 } else { 100_000 };
    let mut buffers: Vec<Buffer<u32>> =
        [1, 15, 16, 17, 0, long].map(|n| pool.allocate(Purpose::State, n).unwrap()).into();
    for (i, buffer) in buffers.iter_mut().enumerate() {
        assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
        assert!(buffer.iter().all(|&x| x == 0));
        buffer.fill(i as u32 + 1);
    }
    for (i, buffer) in buffers.iter().enumerate() {
        assert!(buffer.iter().all(|&x| x == i as u32 + 1), "buffer {i} was overwritten");
    }
}

#[test]
fn statistics_follow_each_purpose() {
    let pool = HybridMemoryPool::new();
    let weights = pool.allocate::<u8>(Purpose::Weights, 1000).unwrap();
    let kv = pool.allocate::<f32>(Purpose::KvCache, 10).unwrap();
    assert_eq!(pool.usage(Purpose::Weights), MemoryUse { current: 1000, peak: 1000, buffers: 1 });
    drop(weights);
    drop(pool.allocate::<u8>(Purpose::Weights, 10).unwrap());
    assert_eq!(pool.usage(Purpose::Weights), MemoryUse { current: 0, peak: 1000, buffers: 2 });
    assert_eq!(pool.usage(Purpose::KvCache).current, 40);
    drop(kv);
    assert_eq!(pool.usage(Purpose::State), MemoryUse::default());
}

#[test]
fn impossible_sizes_are_refused() {
    let pool = HybridMemoryPool::new();
    assert!(matches!(pool.allocate::<u64>(Purpose::State, usize::MAX), Err(Error::SizeOverflow { .. })));
    assert!(matches!(pool.allocate::<u8>(Purpose::State, usize::MAX - 10), Err(Error::SizeOverflow { .. })));
    // Miri's `mmap` ends the program where a system's refuses.
    if !cfg!(miri) {
        assert!(matches!(pool.allocate::<u8>(Purpose::State, 1 << 60), Err(Error::OutOfMemory { .. })));
    }
}

#[test]
fn shared_bytes_stay_inside_their_owner() {
    let bytes = SharedBytes::from(vec![0, 1, 2, 3, 4]);
    let cut = bytes.slice(1..4).unwrap();
    assert_eq!(&*cut, &[1, 2, 3]);
    assert_eq!(&*cut.slice(2..3).unwrap(), &[3]);
    assert!(cut.slice(0..4).is_none(), "reaches past the cut");
    let reversed = Range { start: 2, end: 1 };
    assert!(cut.slice(reversed).is_none(), "reversed");
    assert!(cut.slice(usize::MAX..usize::MAX).is_none(), "overflows");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Buffers of any sizes, dropped in any order, never see each other's writes.
    #[test]
    fn no_two_live_buffers_share_a_byte(ops in prop::collection::vec((0usize..5_000_000, any::<bool>()), 1..24)) {
        let pool = HybridMemoryPool::new();
        let mut live: Vec<(u8, Buffer<u8>)> = Vec::new();
        for (i, (len, keep)) in ops.into_iter().enumerate() {
            let mut buffer = pool.allocate::<u8>(Purpose::State, len).unwrap();
            prop_assert!(buffer.first().is_none_or(|&x| x == 0) && buffer.last().is_none_or(|&x| x == 0));
            let mark = i as u8 + 1;
            if let Some(first) = buffer.first_mut() { *first = mark; }
            if let Some(last) = buffer.last_mut() { *last = mark; }
            if keep { live.push((mark, buffer)); } else { live.truncate(live.len() / 2); }
        }
        for (mark, buffer) in &live {
            prop_assert!(buffer.first().is_none_or(|x| x == mark) && buffer.last().is_none_or(|x| x == mark));
        }
    }
}
