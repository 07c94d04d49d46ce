//! Names of public types that mean two things: the same word `pub` in two modules, of one crate or of several.

use std::collections::BTreeMap;

use super::{ORDER, root, source::modules};

/// The one name that may be repeated: a module's alias of `std::result::Result` with its own error, as Rust has it everywhere.
const IDIOM: &str = "Result";

/// Every name of a type that is defined `pub` in more than one module, with these modules. An alias counts, and so does a name inside
/// the command, where `pub` reaches no further: its modules import each other's types like those of libraries. Types without `pub`
/// are a module's own matter.
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
    places.retain(|name, places| places.len() > 1 && name != IDIOM);
    places
}

#[test]
fn a_public_type_name_means_one_thing() {
    let found = repeated();
    println!("{} names of public types stand for several", found.len());
    let lines: Vec<String> =
        found.iter().map(|(name, places)| format!("(\"{name}\", &{places:?}),")).collect();
    assert!(lines.is_empty(), "two meanings:\n{}", lines.join("\n"));
}
