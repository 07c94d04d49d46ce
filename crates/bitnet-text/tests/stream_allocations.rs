//! The stream decoder allocates nothing after it has been made.

// A test that cannot read its own data has nothing better to do than to stop.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bitnet_text::{GgufVocabulary, StreamDecoder, Tokenizer, token_type};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Const-initialised and without a destructor, so that reading it allocates nothing itself.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on unchanged to the system allocator, which keeps the contract; counting touches no memory
// that it hands out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above with the same layout, so from the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

fn byte_level() -> Tokenizer {
    let file =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle/bitnet-a-offline-packed/tokenizer.json");
    Tokenizer::from_json(std::fs::read(file).unwrap()).unwrap()
}

fn byte_fallback() -> Tokenizer {
    let mut tokens =
        vec!["<unk>".to_string(), "<s>".into(), "</s>".into(), "\u{2581}word".into(), "é".into()];
    let mut token_types = vec![token_type::UNKNOWN, token_type::CONTROL, token_type::CONTROL, 1, 1];
    for byte in 0..=255u8 {
        tokens.push(format!("<0x{byte:02X}>"));
        token_types.push(token_type::BYTE);
    }
    Tokenizer::from_gguf(GgufVocabulary {
        model: "llama".into(),
        scores: vec![0.0; tokens.len()],
        tokens: tokens.into_iter().map(String::into_bytes).collect(),
        token_types,
        ..GgufVocabulary::default()
    })
    .unwrap()
}

#[test]
fn no_token_allocates() {
    for tokenizer in [byte_level(), byte_fallback()] {
        for special in [false, true] {
            let mut stream = StreamDecoder::new(&tokenizer).with_special(special);
            let size = tokenizer.vocab_size() as u32;
            let mut length = 0;
            let counted = allocations(|| {
                // Every id after every kind of unfinished character, and ids outside the vocabulary.
                for step in 0..50_000u32 {
                    let id = step.wrapping_mul(2_654_435_761) % (size + 3);
                    length += stream.push(id).len();
                }
                length += stream.finish().len();
            });
            assert!(length > 10_000);
            assert_eq!(counted, 0);
        }
    }
    // The counter counts.
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1u8)))), 1);
}
