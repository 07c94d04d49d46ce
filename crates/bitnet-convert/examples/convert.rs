//! Converts a model and prints the proof: `cargo run --release -p bitnet-convert --example convert -- IN OUT TARGET`.

use std::{error::Error, path::Path};

use bitnet_convert::{ConvertOptions, Target, convert};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, target] = &arguments[..] else { return Err("usage: convert IN OUT TARGET".into()) };
    let target: Target = target.parse()?;
    let report = convert(Path::new(input), Path::new(output), target, &ConvertOptions::default())?;
    println!("{report}; {} bytes written", report.bytes_written);
    report.notes.iter().for_each(|note| println!("note: {note}"));
    Ok(())
}
