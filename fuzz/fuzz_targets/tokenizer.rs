//! Tokenizers out of arbitrary bytes: a tokenizer.json, or the vocabulary of a GGUF file. Whatever loads must encode, decode
//! and convert without panicking, and the stream must say what `decode` says.
#![no_main]

use bitnet_text::{EncodeOptions, GgufVocabulary, StreamDecoder, Tokenizer};
use libfuzzer_sys::fuzz_target;

const TEXTS: [&str; 3] = ["Hello, wörld! 123  \n\t<|eot_id|>x<s> ▁▁ 😀 a", "", "   "];

fuzz_target!(|data: &[u8]| {
    let Some((&mode, rest)) = data.split_first() else { return };
    let tokenizer = match mode % 2 {
        0 => Tokenizer::from_json(rest),
        _ => Tokenizer::from_gguf(vocabulary(rest)),
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
});

fn exercise(tokenizer: &Tokenizer, data: &[u8]) {
    let own = String::from_utf8_lossy(&data[data.len().saturating_sub(64)..]);
    for text in TEXTS.into_iter().chain([&*own]) {
        for (add_special, parse_special) in [(true, false), (false, true)] {
            let Ok(ids) = tokenizer.encode(text, EncodeOptions { add_special, parse_special }) else { continue };
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
