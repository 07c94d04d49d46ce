//! Hostile directories: shards, indices and configs.

use crate::{Case, Expectation, common::safetensors};

const INDEX: &str = "model.safetensors.index.json";
const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

/// A shard that holds these tensors, a byte each.
fn shard(names: &[&str]) -> Vec<u8> {
    let entry = |(i, name): (usize, &&str)| {
        format!(r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#, i + 1)
    };
    let entries: Vec<String> = names.iter().enumerate().map(entry).collect();
    safetensors(format!("{{{}}}", entries.join(",")), &vec![0; names.len()])
}

pub fn index(map: &[(&str, &str)]) -> Vec<u8> {
    let entries: Vec<String> = map.iter().map(|(tensor, shard)| format!(r#""{tensor}":"{shard}""#)).collect();
    format!(r#"{{"metadata":{{"total_size":2}},"weight_map":{{{}}}}}"#, entries.join(",")).into_bytes()
}

fn directory(name: &'static str, files: Vec<(&'static str, Vec<u8>)>, expect: Expectation) -> Case {
    // A directory of nothing cannot be committed.
    let mut all = vec![("README.md", b"Part of the hostile corpus.\n".to_vec())];
    all.extend(files);
    Case { name, files: all, open: ".", expect }
}

fn config() -> (&'static str, Vec<u8>) {
    ("config.json", b"{}".to_vec())
}

pub fn cases() -> Vec<Case> {
    [configs(), weights(), escapes(), shards()].into_iter().flatten().collect()
}

fn configs() -> Vec<Case> {
    let with = |name, text: Vec<u8>, expect| {
        directory(name, vec![("config.json", text), ("model.safetensors", shard(&["a"]))], expect)
    };
    let bomb = ["[".repeat(10_000), "]".repeat(10_000)].concat();
    vec![
        directory(
            "config-missing",
            vec![("model.safetensors", shard(&["a"]))],
            ("NoConfig", "there is no config.json"),
        ),
        with("config-cut", b"{\"hidden_size\":".to_vec(), ("Json", "config.json: EOF while parsing a value")),
        with("config-array", b"[1, 2]".to_vec(), ("Json", "config.json: not a JSON object")),
        with(
            "config-twice",
            b"{\"hidden_size\": 1, \"hidden_size\": 2}".to_vec(),
            ("Json", "config.json: the key \"hidden_size\" stands twice in one object at line 1 column 32"),
        ),
        with("config-bomb", bomb.into_bytes(), ("Json", "config.json: recursion limit exceeded")),
        with("config-not-utf8", b"{\"a\":\"\xff\"}".to_vec(), ("NotUtf8", "a JSON file is not UTF-8")),
    ]
}

fn weights() -> Vec<Case> {
    let two = vec![config(), (FIRST, shard(&["a"])), (SECOND, shard(&["b"]))];
    let lone = [two.clone(), vec![(INDEX, index(&[("a", FIRST), ("b", SECOND)]))]].concat();
    let expect = ("NoWeights", "this is one shard of the model that model.safetensors.index.json describes");
    vec![
        directory("weights-missing", vec![config()], ("NoWeights", "there is no model.safetensors")),
        directory(
            "weights-pickled",
            vec![config(), ("pytorch_model.bin", vec![])],
            ("NoWeights", "PyTorch pickles"),
        ),
        directory(
            "index-missing",
            two,
            ("NoWeights", "2 safetensors files but neither model.safetensors nor"),
        ),
        Case { open: FIRST, ..directory("shard-alone", lone, expect) },
    ]
}

fn escapes() -> Vec<Case> {
    let to =
        |name, shard: &str, expect| directory(name, vec![config(), (INDEX, index(&[("a", shard)]))], expect);
    vec![
        to(
            "index-parent",
            "../config-missing/model.safetensors",
            ("ShardOutside", "\"../config-missing/model.safetensors\""),
        ),
        to("index-dots", "..", ("ShardOutside", "names the shard \"..\"")),
        to("index-absolute", "/etc/hostname", ("ShardOutside", "names the shard \"/etc/hostname\"")),
        to("index-backslash", r"..\\..\\secret", ("ShardOutside", "must be plain file names")),
        to("index-drive", "C:secret", ("ShardOutside", "names the shard \"C:secret\"")),
        to("index-empty-name", "", ("ShardOutside", "names the shard \"\"")),
    ]
}

fn shards() -> Vec<Case> {
    let both = index(&[("a", FIRST), ("b", SECOND)]);
    let with = |name, index: Vec<u8>, first: &[&str], second: &[&str], expect| {
        let files = vec![config(), (INDEX, index), (FIRST, shard(first)), (SECOND, shard(second))];
        directory(name, files, expect)
    };
    let cut = shard(&["b"])[..20].to_vec();
    vec![
        directory(
            "index-cut",
            vec![config(), (INDEX, b"{\"weight_map\":{".to_vec())],
            ("Json", "model.safetensors.index.json: EOF"),
        ),
        directory(
            "index-no-map",
            vec![config(), (INDEX, b"{}".to_vec())],
            ("Json", "missing field `weight_map`"),
        ),
        directory(
            "shard-missing",
            vec![config(), (INDEX, both.clone()), (FIRST, shard(&["a"]))],
            (
                "TensorAbsent",
                "\"b\" lies in the shard \"model-00002-of-00002.safetensors\", which is missing",
            ),
        ),
        directory(
            "shards-missing",
            vec![config(), (INDEX, both.clone())],
            ("ShardMissing", "the shard \"model-00001-of-00002.safetensors\" is missing"),
        ),
        directory(
            "shard-cut",
            vec![config(), (INDEX, both.clone()), (FIRST, shard(&["a"])), (SECOND, cut)],
            ("Truncated", "the header needs"),
        ),
        with(
            "tensor-not-in-shard",
            both.clone(),
            &["a", "b"],
            &["c"],
            (
                "NotInShard",
                "puts tensor \"b\" in the shard \"model-00002-of-00002.safetensors\", which lacks it",
            ),
        ),
        with("tensor-in-two-shards", both, &["a", "b"], &["b"], ("TwoShards", "\"b\" stands in two shards")),
    ]
}
