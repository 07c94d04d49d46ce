//! A GGUF (or .bitnet) file of any bytes: opened, its keys read, every tensor decoded in every way.
#![no_main]

use bitnet_format::{Checkpoint, GgufMetadata, Metadata, OpenOptions, TensorType};
use libfuzzer_sys::fuzz_target;

#[path = "decode.rs"]
mod decode;

fuzz_target!(|data: &[u8]| {
    let Some(checkpoint) = open(data, OpenOptions::default()) else { return };
    // Only I2_S is read differently by option.
    if checkpoint.tensors().any(|t| t.ty() == TensorType::I2S)
        && let Some(checkpoint) = open(data, OpenOptions::default().i2s_64(true))
    {
        decode::all(&checkpoint);
    }
    if let Metadata::Gguf(metadata) = checkpoint.metadata() {
        read_keys(metadata);
    }
    decode::all(&checkpoint);
});

fn open(data: &[u8], options: OpenOptions) -> Option<Checkpoint> {
    Checkpoint::from_bytes(data.to_vec().into(), &options).ok()
}

fn read_keys(metadata: &GgufMetadata) {
    let _ = metadata.architecture();
    for (key, value) in metadata.iter() {
        let _ = (metadata.opt_str(key), metadata.opt_u64(key), metadata.opt_f32(key), metadata.opt_bool(key));
        let _ = (metadata.opt_strings(key), metadata.opt_f32s(key), metadata.opt_i64s(key));
        let items = value.as_array().map_or(0, |array| array.len());
        assert_eq!(items, value.as_array().map_or(0, |array| array.iter().count()), "{key}");
    }
}
