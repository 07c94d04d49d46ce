//! Tokenizers out of arbitrary bytes: a tokenizer.json, the vocabulary of a GGUF file, a tokenizer.model, or vocab.json and
//! merges.txt. Whatever loads must encode, decode and convert without panicking, the stream must say what `decode` says, and
//! memory stays in proportion to file and text.
#![no_main]

use bitnet_text::{AroundText, EncodeOptions, GgufVocabulary, StreamDecoder, Tokenizer};
use libfuzzer_sys::fuzz_target;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the bytes that are held, and the most that were.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Expressions compile to automata of some megabytes; a file's own bytes become tables of some hundred times their size.
const ROOM: usize = 96 << 20;
const SHARE: usize = 4096;

const TEXTS: [&str; 3] = ["Hello, wörld! 123  \n\t<|eot_id|>x<s> ▁▁ 😀 a", "", "   "];

fuzz_target!(|data: &[u8]| {
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    read_and_use(data);
    let most = MOST.load(Ordering::Relaxed).saturating_sub(before);
    assert!(most <= ROOM + SHARE * data.len(), "{most} bytes for {} of input", data.len());
});

fn read_and_use(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else { return };
    let tokenizer = match mode % 4 {
        0 => Tokenizer::from_json(rest),
        1 => Tokenizer::from_gguf(vocabulary(rest)),
        2 => Tokenizer::from_sentencepiece(rest, AroundText { bos: true, eos: true }),
        _ => {
            let text = String::from_utf8_lossy(rest);
            let (vocab, merges) = text.split_once('\0').unwrap_or((&*text, ""));
            let added = [("<|im_end|>".to_owned(), 3, true)];
            Tokenizer::from_vocab_and_merges(vocab, merges, &added, "Qwen2Tokenizer")
        }
    };
    let Ok(tokenizer) = tokenizer else { return };
    exercise(&tokenizer, rest);
    if let Ok(json) = tokenizer.to_json() {
        let again = Tokenizer::from_json(&json).expect("what was written is read");
        exercise(&again, rest);
    }
    if let Ok(vocabulary) = tokenizer.to_gguf_vocabulary() {
        let _ = Tokenizer::from_gguf(vocabulary);
    }
}

fn exercise(tokenizer: &Tokenizer, data: &[u8]) {
    let own = String::from_utf8_lossy(&data[data.len().saturating_sub(64)..]);
    for text in TEXTS.into_iter().chain([&*own]) {
        for (add_special, parse_special) in [(true, false), (false, true)] {
            let Ok(ids) = tokenizer.encode(text, EncodeOptions { add_special, parse_special }) else {
                continue;
            };
            for skip_special in [false, true] {
                let whole = tokenizer.decode(&ids, skip_special);
                let mut stream = StreamDecoder::new(tokenizer).with_special(!skip_special);
                let mut parts: String = ids.iter().map(|&id| stream.push(id).to_string()).collect();
                parts.push_str(stream.finish());
                assert_eq!(whole, parts);
            }
        }
    }
}

/// Reads fields from bytes: a header byte of choices, then length-prefixed tokens with a type and a score each.
fn vocabulary(data: &[u8]) -> GgufVocabulary {
    let mut bytes = data.iter().copied();
    let mut next = || bytes.next().unwrap_or(0);
    let header = next();
    let pre = ["llama-bpe", "gpt-2", "default", "falcon"][usize::from(header >> 1 & 3)];
    let flag = |bit: u8| Some(header & bit != 0);
    let mut vocabulary = GgufVocabulary {
        model: if header & 1 == 0 { "llama" } else { "gpt2" }.into(),
        pre: Some(pre.into()),
        add_bos: flag(8),
        add_eos: flag(16),
        add_space_prefix: flag(32),
        bos: Some(next().into()),
        eos: Some(next().into()),
        unk: Some(next().into()),
        ..GgufVocabulary::default()
    };
    let count = next();
    for _ in 0..count {
        let length = next() & 7;
        vocabulary.tokens.push((0..length).map(|_| next()).collect());
        vocabulary.token_types.push(i32::from(next() % 8));
        vocabulary.scores.push(f32::from_bits(u32::from(next()) << 24 | u32::from(next())));
    }
    for _ in 0..next() & 31 {
        let length = next() & 7;
        let merge: Vec<u8> = (0..length).map(|_| next()).collect();
        vocabulary.merges.push(String::from_utf8_lossy(&merge).into_owned());
    }
    vocabulary
}
