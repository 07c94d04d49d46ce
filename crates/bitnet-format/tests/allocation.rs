//! Opening a file allocates no more than a constant and a multiple of the file, whatever the file claims.

#![allow(missing_docs, reason = "a test documents itself")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    path::{Path, PathBuf},
};

use bitnet_format::{Checkpoint, OpenOptions};
use common::{RawGguf, array, key, safetensors, string, tensor};

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

fn count(size: usize) {
    // A thread that is ending has no counter any more.
    let _ = ALLOCATED.try_with(|all| all.set(all.get() + size));
}

// SAFETY: every call is passed on to the system's allocator unchanged; only sizes are added up beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those that are needed here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes of all allocations together, also those given back at once.
const CONSTANT: usize = 64 << 10;
const PER_BYTE: usize = 64;

/// Bytes of a file, or of all files of a directory.
fn size(path: &Path) -> usize {
    if path.is_file() {
        return fs::metadata(path).unwrap().len() as usize;
    }
    fs::read_dir(path).unwrap().map(|e| size(&e.unwrap().path())).sum()
}

fn check(path: &Path) {
    let before = ALLOCATED.get();
    let result = Checkpoint::open(path, &OpenOptions::default());
    let allocated = ALLOCATED.get() - before;
    let limit = CONSTANT + PER_BYTE * size(path);
    assert!(allocated <= limit, "{}: {allocated} bytes, at most {limit}: {result:?}", path.display());
}

#[test]
fn hostile_files_get_no_memory() {
    let mut files = 0;
    for entry in fs::read_dir(common::testdata("hostile")).unwrap() {
        check(&entry.unwrap().path());
        files += 1;
    }
    assert!(files > 100, "{files}");
}

#[test]
fn files_that_are_all_header_get_little() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut keys = RawGguf::new(vec![], vec![]);
    keys.keys = (0..20_000u32).map(|i| key(i.to_le_bytes().map(|b| b & 0x7f), 7, [1])).collect();
    keys.keys.sort();
    keys.keys.dedup();
    check(&write("keys.gguf", keys.bytes()));
    let strings: Vec<u8> = (0..50_000).flat_map(|_| string("")).collect();
    let mut empty_strings = RawGguf::new(vec![], vec![]);
    empty_strings.keys.push(key("s", 9, array(8, 50_000, strings)));
    check(&write("strings.gguf", empty_strings.bytes()));
    let entries = (0..5_000u64).map(|i| tensor(format!("{i}"), &[1], 0, 32 * i)).collect();
    check(&write("tensors.gguf", RawGguf::new(entries, vec![0; 32 * 5_000]).bytes()));
    let entry = |i| format!(r#""{i}":{{"dtype":"U8","shape":[],"data_offsets":[{i},{}]}}"#, i + 1);
    let entries: Vec<String> = (0..5_000).map(entry).collect();
    fs::write(directory.path().join("config.json"), "{}").unwrap();
    check(&write("tensors.safetensors", safetensors(format!("{{{}}}", entries.join(",")), &[0; 5_000])));
    let dims =
        format!(r#"{{"t":{{"dtype":"U8","shape":[{}1],"data_offsets":[0,1]}}}}"#, "1,".repeat(100_000));
    check(&write("dims.safetensors", safetensors(dims, &[0])));
}

#[test]
fn large_configs_get_a_multiple_of_their_text() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("model.safetensors"), safetensors("{}", &[])).unwrap();
    for text in [
        format!("{{\"a\":[{}0]}}", "0,".repeat(200_000)),
        format!("{{\"a\":[{}0]}}", "{},".repeat(200_000)),
        format!("{{\"a\":[{}0]}}", "\"\",".repeat(200_000)),
    ] {
        fs::write(directory.path().join("config.json"), text).unwrap();
        check(directory.path());
    }
}
