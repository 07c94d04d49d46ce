//! A `.bitnet` file of any bytes, the way the program takes it: mapped from a disk, its digests compared, its configuration,
//! tokenizer and template read, its strips, scales and blocks loaded and multiplied. Two kernels must say the same.
#![no_main]

use std::{fs, path::PathBuf, sync::OnceLock};

use bitnet_evaluation::inspect;
use bitnet_format::{Checkpoint, OpenOptions, bitnet_keys};
use bitnet_inference::{InferenceEngine, Layout, LoadOptions, Sparsity};
use libfuzzer_sys::fuzz_target;

#[path = "decode.rs"]
mod decode;

/// A file of this process, in memory where the system has such a place.
fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let directory = if memory.is_dir() { memory } else { std::env::temp_dir() };
        directory.join(format!("bitnet-fuzz-{}.bitnet", std::process::id()))
    })
}

fuzz_target!(|data: &[u8]| {
    read_and_run(data);
    // A changed header seldom has its digest; the file with it mended shows what lies behind that check.
    if let Some(mended) = with_digest(data) {
        read_and_run(&mended);
    }
});

fn read_and_run(data: &[u8]) {
    fs::write(file(), data).expect("a file for the fuzzer");
    let open = || Checkpoint::open(file(), &OpenOptions::default());
    let copied = Checkpoint::from_bytes(data.to_vec().into(), &OpenOptions::default());
    let Ok(checkpoint) = open() else {
        assert!(copied.is_err() || data.is_empty(), "mapped and copied files are read alike");
        return;
    };
    if let Ok(copied) = copied {
        assert_eq!(checkpoint.damaged(), copied.damaged(), "mapped and copied files are read alike");
    }
    decode::all(&checkpoint);
    let _ = inspect(checkpoint, |_, _| {});
    let plain = run(LoadOptions { threads: Some(1), context: Some(8), ..LoadOptions::default() });
    let other = run(LoadOptions {
        threads: Some(1),
        context: Some(8),
        kernel: Some("scalar".into()),
        sparsity: Sparsity::On,
        layout: Layout::Base3,
        ..LoadOptions::default()
    });
    if let (Some(plain), Some(other)) = (plain, other) {
        // Zeros may differ by sign where rows are left out; other numbers may not.
        let same = plain.iter().zip(&other).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
        assert!(plain.len() == other.len() && same, "kernels and layouts agree: {plain:?} {other:?}");
    }
}

/// Logits of the file's model for a few tokens, when it is one.
fn run(options: LoadOptions) -> Option<Vec<f32>> {
    let engine = InferenceEngine::load(file(), &options).ok()?;
    let mut session = engine.session().ok()?;
    let vocab = u32::try_from(engine.config().vocab).ok()?;
    let ids: Vec<u32> = [0, 1, 2, vocab.saturating_sub(1)].into_iter().filter(|&id| id < vocab).collect();
    let mut logits = Vec::new();
    session.logits(&ids, |row| logits.extend_from_slice(row)).ok()?;
    Some(logits)
}

/// The file with the digest that its header has now, if it has room for one.
fn with_digest(data: &[u8]) -> Option<Vec<u8>> {
    let len = usize::try_from(u64::from_le_bytes(*data.first_chunk()?)).ok()?.checked_add(8)?;
    let header = data.get(..len)?;
    let json: serde_json::Value = serde_json::from_slice(&header[8..]).ok()?;
    let start = json.get(bitnet_keys::DIGESTS)?.get("data_offsets")?.get(0)?.as_u64()?;
    let start = usize::try_from(start).ok()?.checked_add(len)?;
    let digest = twox_hash::XxHash3_128::oneshot(header).to_le_bytes();
    let end = start.checked_add(digest.len())?;
    if data.get(start..end)? == digest {
        return None;
    }
    let mut mended = data.to_vec();
    mended[start..end].copy_from_slice(&digest);
    Some(mended)
}
