//! Continues a text: `cargo run --release --example generate [MODEL] [PROMPT]`.

use std::{env, error::Error, io::Write};

use bitnet_inference::{GenerateOptions, InferenceEngine, LoadOptions};

const SMALL_MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle/bitnet-a-offline-packed");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| SMALL_MODEL.to_owned());
    let prompt = arguments.next().unwrap_or_else(|| "First Citizen:\n".to_owned());

    let engine = InferenceEngine::load(model, &LoadOptions::default())?;
    let mut session = engine.session()?;
    print!("{prompt}");
    for piece in session.generate(&prompt, &GenerateOptions { max_new_tokens: 60, ..Default::default() })? {
        print!("{}", piece?.text);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
