//! Models that are cut into several GGUF files, `NAME-00001-of-00003.gguf`: their parts are one model.

use std::collections::BTreeSet;

use bitnet_format::SplitName;

/// The files of the model that `name` belongs to, the first part first: `name` alone unless it is a part.
pub fn of_model(name: &str) -> Vec<String> {
    match SplitName::parse(name) {
        Some(split) => (1..=split.count).map(|number| split.part(number)).collect(),
        None => vec![name.to_owned()],
    }
}

/// The file by which the model that `name` belongs to is opened.
pub fn first(name: &str) -> String {
    SplitName::parse(name).map_or_else(|| name.to_owned(), |split| split.part(1))
}

/// One name for each model among `names`, in their order: that of the file by which it is opened.
pub fn models<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.into_iter().map(|name| first(name)).filter(|name| seen.insert(name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_one_model() {
        let parts = ["q/m-00001-of-00003.gguf", "q/m-00002-of-00003.gguf", "q/m-00003-of-00003.gguf"];
        assert_eq!(of_model(parts[1]), parts);
        let names = [parts[1], "x.gguf", parts[2], "y-00001-of-00002.gguf"].map(str::to_owned);
        assert_eq!(models(&names), [parts[0], "x.gguf", "y-00001-of-00002.gguf"]);
        for whole in [
            "m.gguf",
            "m-1-of-2.gguf",
            "m-00003-of-00002.gguf",
            "m-00000-of-00002.gguf",
            "m-00001-of-00002.bin",
        ] {
            assert_eq!(of_model(whole), [whole]);
        }
    }
}
