//! Perplexity of a text, against the figure that other software computed.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::fs;

use bitnet_evaluation::{PerplexityOptions, perplexity};
use bitnet_inference::{InferenceEngine, KvType, LoadOptions};

mod support;
use support::oracle;

/// By the recipe of `ppl.json`: windows of the beginning token and 127 others.
#[test]
fn perplexity_of_a_text() {
    // Rounded keys and values differ from other software's by more than the bound below.
    let options = LoadOptions { threads: Some(2), context: Some(256), kv: KvType::F32, ..Default::default() };
    let engine = InferenceEngine::load(oracle("bitnet-a-offline-packed"), &options).unwrap();
    let text = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/text/tinyshakespeare-6000.txt"
    ))
    .unwrap();
    let plain = bitnet_text::EncodeOptions::default();
    let ids = engine.tokenizer().unwrap().encode(&text, plain).unwrap();
    assert_eq!(ids.len(), 1967);
    let options = PerplexityOptions { window: 128, stride: 127, bos: engine.config().bos };
    let result = perplexity(&mut engine.session().unwrap(), &ids, &options, |_, _| {}).unwrap();
    assert_eq!(result.tokens_scored, 1905);
    assert!((result.mean_nll - 6.473283).abs() < 0.01, "{}", result.mean_nll);
}
