//! The cache of models: what stays, what leaves, and that nothing is loaded twice.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use bitnet_inference::{LoadOptions, ModelCache};
use support::oracle;

const MODELS: [&str; 3] = ["bitnet-a-offline-packed", "bitnet-a-online-bf16", "bitnet-c-silu-online-bf16"];

fn cache(budget: u64) -> ModelCache {
    ModelCache::new(budget, LoadOptions { threads: Some(1), ..LoadOptions::default() })
}

/// Bytes that each model of [`MODELS`] is charged with.
fn sizes() -> [u64; 3] {
    MODELS.map(|model| {
        let cache = cache(u64::MAX);
        cache.get(oracle(model)).unwrap();
        cache.usage().bytes
    })
}

#[test]
fn a_second_request_loads_nothing() {
    let cache = cache(u64::MAX);
    let first = cache.get(oracle(MODELS[0])).unwrap();
    // Another way to write the same path.
    let second = cache.get(oracle("elementwise").join("..").join(MODELS[0])).unwrap();
    let usage = cache.usage();
    assert_eq!((usage.models, usage.loads, usage.hits), (1, 1, 1));
    assert!(std::ptr::eq(first.config(), second.config()));
}

#[test]
fn the_longest_unused_model_leaves_first() {
    let sizes = sizes();
    let cache = cache(sizes.iter().sum::<u64>() - 1);
    for model in [MODELS[0], MODELS[1], MODELS[0], MODELS[2]] {
        cache.get(oracle(model)).unwrap();
    }
    let usage = cache.usage();
    assert_eq!((usage.models, usage.bytes, usage.evictions), (2, sizes[0] + sizes[2], 1));
    cache.get(oracle(MODELS[0])).unwrap();
    assert_eq!(cache.usage().loads, 3, "the model used last but one must still be there");
}

#[test]
fn a_model_in_use_stays() {
    let cache = cache(1);
    let engine = cache.get(oracle(MODELS[0])).unwrap();
    let mut session = engine.session().unwrap();
    drop(engine);
    cache.get(oracle(MODELS[1])).unwrap();
    // The session holds the first; the second is held by nobody, but only a later request can see that.
    assert!(session.feed(&[1]).is_ok());
    cache.clear();
    assert_eq!((cache.usage().models, cache.usage().evictions), (1, 1));
    drop(session);
    cache.clear();
    assert_eq!(cache.usage().models, 0);
}

#[test]
fn a_changed_file_is_loaded_again() {
    let directory = std::env::temp_dir().join(format!("bitnet-cache-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    for file in fs::read_dir(oracle(MODELS[0])).unwrap().map(Result::unwrap).filter(|f| f.path().is_file()) {
        fs::copy(file.path(), directory.join(file.file_name())).unwrap();
    }
    let cache = cache(u64::MAX);
    cache.get(&directory).unwrap();
    fs::write(directory.join("note.txt"), "changed").unwrap();
    cache.get(&directory).unwrap();
    let usage = cache.usage();
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!((usage.models, usage.loads, usage.hits, usage.evictions), (1, 2, 0, 1));
}

#[test]
fn a_model_that_cannot_be_loaded_leaves_nothing_behind() {
    let cache = cache(u64::MAX);
    for path in ["nowhere", "elementwise"] {
        assert!(cache.get(oracle(path)).is_err());
    }
    assert_eq!(cache.usage().models, 0);
    assert!(cache.get(oracle(MODELS[0])).is_ok());
}

#[test]
fn callers_at_once_load_once() {
    static LOADS: AtomicU64 = AtomicU64::new(0);
    let cache = cache(u64::MAX);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                cache.get(oracle(MODELS[0])).unwrap();
                LOADS.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!((LOADS.load(Ordering::Relaxed), cache.usage().loads, cache.usage().hits), (4, 1, 3));
}

/// A model is charged with its files and with what it holds in memory beside them.
#[test]
fn a_model_is_charged_with_its_files_and_its_weights() {
    let cache = cache(u64::MAX);
    let engine = cache.get(oracle(MODELS[0])).unwrap();
    let file: u64 = fs::metadata(oracle(MODELS[0]).join("model.safetensors")).unwrap().len();
    let weights = engine.memory().usage(bitnet_core::Purpose::Weights).current as u64;
    assert!(weights > 0, "packed trits are laid out anew");
    assert_eq!(cache.usage().bytes, file + weights);
}
