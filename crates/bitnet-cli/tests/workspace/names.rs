//! Names of public types that mean two things: the same word `pub` in two modules, of one crate or of several.

use std::collections::BTreeMap;

use super::{ORDER, root, source::modules};

/// Names with several meanings yet, and where. May only shrink.
const TO_RENAME: &[(&str, &[&str])] = &[
    ("Activations", &["quant::activations", "cli::args::engine"]),
    ("Batch", &["model::device::batch", "training::model"]),
    ("Change", &["evaluation::matrices", "benchmarks::compare"]),
    ("Command", &["cli::args", "cli::commands::train::job"]),
    ("Cpu", &["model::cpu", "cli::machine::cpu"]),
    ("Device", &["core::device", "model::device"]),
    ("Found", &["training::found", "cli::hub::cache"]),
    ("Job", &["model::device", "training::job"]),
    ("Matrix", &["model::cpu::matrix", "cli::commands::inspect::rows"]),
    ("MatrixReport", &["evaluation::inspect", "calibration::report"]),
    ("Memory", &["training::memory", "benchmarks::row", "cli::machine::memory"]),
    ("Model", &["model::decoder", "training::job::sections"]),
    ("OnProgress", &["inference::engine", "convert::convert"]),
    ("Part", &["model::parts", "training::ops::recompute"]),
    ("Plan", &["calibration::plan", "benchmarks::plan"]),
    ("Progress", &["model::load", "calibration::quantize", "cli::progress"]),
    ("Quantization", &["source::family::huggingface", "training::ops::sizes"]),
    ("Relations", &["training::job::sections", "training::ops::sizes"]),
    ("Report", &["conformance", "convert::report", "calibration::report", "cli::commands::evaluate::report"]),
    ("Result", &["core::error", "cli::failure"]),
    ("Rows", &["model::cpu", "cli::commands::inspect::rows"]),
    ("Shape", &["conformance::model", "training::job::sections", "benchmarks::shapes"]),
    ("Share", &["evaluation::multiple_choice", "benchmarks::breakdown"]),
    ("SidePath", &["model::linear", "training::parameters"]),
    ("Step", &["inference::turn", "calibration::quantize"]),
    ("Table", &["model::table", "cli::human"]),
    ("Trial", &["inference::tuner", "cli::tuning"]),
    ("Watch", &["model::watched", "cli::commands::train::watch"]),
];

/// Every name of a type that is defined `pub` in more than one module, with these modules. An alias counts.
fn repeated() -> BTreeMap<String, Vec<String>> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in ORDER {
        for (path, module) in modules(&root().join("crates").join(name).join("src")) {
            let place = [&[name.trim_start_matches("bitnet-").to_owned()], &path[..]].concat().join("::");
            for item in module.items.iter().filter(|item| item.public) {
                if ["struct", "enum", "union", "trait", "type"].contains(&item.kind.as_str()) {
                    let known = places.entry(item.name.clone()).or_default();
                    // Variants of one type for several systems stand side by side.
                    if known.last() != Some(&place) {
                        known.push(place.clone());
                    }
                }
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    places
}

#[test]
fn a_public_type_name_means_one_thing() {
    let found = repeated();
    println!("{} names of public types stand for several", found.len());
    let lines: Vec<String> =
        found.iter().map(|(name, places)| format!("(\"{name}\", &{places:?}),")).collect();
    let held: BTreeMap<String, Vec<String>> = TO_RENAME
        .iter()
        .map(|(name, places)| ((*name).to_owned(), places.iter().map(|&place| place.to_owned()).collect()))
        .collect();
    assert!(found == held, "found:\n{}", lines.join("\n"));
}
