//! The JSON files of a model directory, of any bytes: config, generation config, tokenizer config and shard index, in one
//! input, separated by zero bytes; and what a model makes of the config.
#![no_main]

use std::{collections::BTreeMap, fs, path::PathBuf, sync::OnceLock};

use bitnet_format::{Checkpoint, HfMetadata, OpenOptions, bitnet_keys};
use bitnet_source::Source;
use libfuzzer_sys::fuzz_target;

const SHARD: &[u8] = include_bytes!("../../testdata/seeds/tiny.safetensors");

/// A directory of this process with one small shard in it.
fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("bitnet-fuzz-config-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory for the fuzzer");
        fs::write(path.join("model-00001-of-00001.safetensors"), SHARD).expect("a shard for the fuzzer");
        path
    })
}

fuzz_target!(|data: &[u8]| {
    let parts: Vec<&[u8]> = data.split(|b| *b == 0).collect();
    let keys = [bitnet_keys::CONFIG, bitnet_keys::GENERATION_CONFIG, bitnet_keys::TOKENIZER_CONFIG];
    let texts: BTreeMap<String, String> = keys
        .iter()
        .zip(&parts)
        .filter_map(|(key, part)| Some(((*key).to_owned(), String::from_utf8(part.to_vec()).ok()?)))
        .collect();
    if let Ok(metadata) = HfMetadata::embedded(&texts) {
        let checkpoint = Checkpoint::from_safetensors(vec![SHARD.to_vec().into()], metadata);
        // The shard has an embedding and a norm, so that the sizes of the config are compared with something.
        let _ = Source::new(checkpoint.expect("the shard is valid"));
    }
    // The index is read from the disk, which is slower; only inputs that have one pay.
    if let Some(index) = parts.get(3) {
        let directory = directory();
        let write = |name: &str, text: &[u8]| fs::write(directory.join(name), text).expect("a file for the fuzzer");
        write("config.json", parts[0]);
        write("tokenizer_config.json", parts[2]);
        write("model.safetensors.index.json", index);
        let _ = Checkpoint::open(directory, &OpenOptions::default());
    }
});
