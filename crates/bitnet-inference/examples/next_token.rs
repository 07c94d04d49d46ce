//! The most probable next tokens of a prompt, with their probabilities:
//! `cargo run --release -p bitnet-inference --example next_token [MODEL] [PROMPT]`.

use std::{env, error::Error};

use bitnet_inference::{InferenceEngine, LoadOptions, TokenLogprobs, argmax};

const SMALL_MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle/bitnet-a-offline-packed");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| SMALL_MODEL.to_owned());
    let prompt = arguments.next().unwrap_or_else(|| "First Citizen:\nBefore we".to_owned());

    let engine = InferenceEngine::load(model, &LoadOptions::default())?;
    let ids = engine.encode(&prompt)?;
    let mut session = engine.session()?;
    let logits = session.feed(&ids)?.to_vec();
    let best = TokenLogprobs::of(engine.kernel(), &logits, argmax(&logits), 5);
    for (id, logprob) in best.top {
        let text = engine.tokenizer().map(|t| t.decode(&[id], false)).unwrap_or_default();
        println!("{:6.2} %  {text:?}", 100.0 * logprob.exp());
    }
    Ok(())
}
