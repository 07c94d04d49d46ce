//! Loads a tokenizer.json and shows what a text becomes, with the time each step takes.
//!
//! `cargo run --release -p bitnet-text --example tokenize -- tokenizer.json "some text"`

use bitnet_text::{EncodeOptions, TextError, Tokenizer};
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(text)) = (args.next(), args.next()) else {
        return Err("usage: tokenize tokenizer.json TEXT".into());
    };
    let json = std::fs::read(path)?;
    let start = Instant::now();
    let tokenizer = Tokenizer::from_json(json)?;
    println!("{} tokens, loaded in {:?}", tokenizer.vocab_size(), start.elapsed());
    let start = Instant::now();
    let ids = tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: false })?;
    println!("{} bytes became {} ids in {:?}", text.len(), ids.len(), start.elapsed());
    show(&tokenizer, &ids)?;
    Ok(())
}

fn show(tokenizer: &Tokenizer, ids: &[u32]) -> Result<(), TextError> {
    for &id in ids.iter().take(40) {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        println!("{id:>7}  {:?}", String::from_utf8_lossy(bytes));
    }
    Ok(())
}
