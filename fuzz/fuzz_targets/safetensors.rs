//! A safetensors file of any bytes, as the weights of a Hugging Face model: opened, every tensor decoded.
#![no_main]

use std::collections::BTreeMap;

use bitnet_format::{Checkpoint, HfMetadata, OpenOptions, bitnet_keys};
use libfuzzer_sys::fuzz_target;

#[path = "decode.rs"]
mod decode;

fuzz_target!(|data: &[u8]| {
    let bytes = || data.to_vec().into();
    let config = BTreeMap::from([(bitnet_keys::CONFIG.to_owned(), "{}".to_owned())]);
    let metadata = HfMetadata::embedded(&config).expect("an object is a config");
    if let Ok(checkpoint) = Checkpoint::from_safetensors(vec![bytes()], metadata) {
        decode::all(&checkpoint);
    }
    let _ = Checkpoint::from_bytes(bytes(), &OpenOptions::default());
});
