//! Hostile safetensors and `.bitnet` files.

use crate::{Case, Expectation, common::safetensors};

fn file(name: &'static str, header: impl AsRef<[u8]>, data: usize, expect: Expectation) -> Case {
    // Without a config nothing but the header would be reached; so each file is one of ours.
    Case::file(name, safetensors(header, &vec![0; data]), expect)
}

/// A header of these entries.
pub fn header(entries: &str) -> String {
    format!(r#"{{"__metadata__":{{"bitnet.format":"1","bitnet.config":"{{}}"}},{entries}}}"#)
}

pub fn entry(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
}

pub fn cases() -> Vec<Case> {
    [containers(), headers(), shapes(), ranges(), ours()].into_iter().flatten().collect()
}

fn containers() -> Vec<Case> {
    let prefixed = |len: u64, rest: &[u8]| [&len.to_le_bytes()[..], rest].concat();
    vec![
        Case::file(
            "length-cut.safetensors",
            vec![2, 0, 0],
            ("Truncated", "the header's length needs 8 bytes, but 3"),
        ),
        Case::file(
            "length-huge.safetensors",
            prefixed(u64::MAX, b"{}"),
            ("HeaderLength", "the header claims 18446744073709551615 bytes"),
        ),
        Case::file(
            "length-long.safetensors",
            prefixed(1 << 24, b"{}"),
            ("Truncated", "the header needs 16777216 bytes, but 2 are left"),
        ),
        Case::file("length-none.safetensors", prefixed(0, b""), ("Json", "EOF while parsing a value")),
        Case::file(
            "pickle.bin",
            b"PK\x03\x04 and so on".to_vec(),
            ("Unrecognized", "a PyTorch pickle, which can run code"),
        ),
        Case::file(
            "lfs-pointer.safetensors",
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            ("Unrecognized", "run `git lfs pull`"),
        ),
        Case::file("old-ggml.bin", b"tjgg\x03\0\0\0\0\0\0\0".to_vec(), ("Unrecognized", "from before GGUF")),
        Case::file(
            "text.txt",
            b"Call me Ishmael.".to_vec(),
            ("Unrecognized", "neither GGUF nor safetensors"),
        ),
    ]
}

fn headers() -> Vec<Case> {
    let bomb = format!(r#"{{"a":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let deep_extra = format!(r#"{{"a":{{"x":{}0{}}}}}"#, r#"{"x":"#.repeat(5_000), "}".repeat(5_000));
    let zero = entry("t", "U8", "[0]", 0, 0);
    vec![
        file("json-cut.safetensors", r#"{"a":{"dtype":"F32","#, 0, ("Json", "EOF while parsing a value")),
        file("json-array.safetensors", r#"{"a":[]}"#, 0, ("Json", "invalid length 0, expected struct Entry")),
        file("json-bomb.safetensors", bomb, 0, ("Json", "invalid type: sequence, expected a string")),
        file("json-deep.safetensors", deep_extra, 0, ("Json", "missing field `dtype`")),
        file("json-trailing.safetensors", r#"{}{}"#, 0, ("Json", "trailing characters")),
        file("not-utf8.safetensors", b"{\"\xff\":{}}", 0, ("NotUtf8", "the header is not UTF-8 text")),
        file(
            "name-twice.safetensors",
            header(&format!("{zero},{zero}")),
            0,
            ("DuplicateTensor", "the tensor \"t\" appears twice"),
        ),
        file(
            "metadata-twice.safetensors",
            r#"{"__metadata__":{},"__metadata__":{}}"#,
            0,
            ("Json", "duplicate field `__metadata__`"),
        ),
        file(
            "metadata-number.safetensors",
            r#"{"__metadata__":{"format":1}}"#,
            0,
            ("Json", "invalid type: integer `1`, expected a string"),
        ),
        file(
            "shape-negative.safetensors",
            header(&entry("t", "U8", "[-1]", 0, 0)),
            0,
            ("Json", "invalid value: integer `-1`"),
        ),
        file(
            "shape-float.safetensors",
            header(&entry("t", "U8", "[1.5]", 0, 0)),
            0,
            ("Json", "invalid type: floating point `1.5`"),
        ),
        file(
            "offsets-three.safetensors",
            r#"{"t":{"dtype":"U8","shape":[],"data_offsets":[0,1,2]}}"#,
            1,
            ("Json", "trailing characters"),
        ),
        file(
            "shape-missing.safetensors",
            r#"{"t":{"dtype":"U8","data_offsets":[0,1]}}"#,
            1,
            ("Json", "missing field `shape`"),
        ),
    ]
}

/// A file of one tensor "t" with this range of these many bytes.
fn one(
    name: &'static str,
    dtype: &str,
    shape: &str,
    range: [u64; 2],
    data: usize,
    expect: Expectation,
) -> Case {
    file(name, header(&entry("t", dtype, shape, range[0], range[1])), data, expect)
}

fn shapes() -> Vec<Case> {
    vec![
        one(
            "dtype-unknown.safetensors",
            "F4",
            "[8]",
            [0, 4],
            4,
            ("Dtype", "\"t\" has the unknown dtype \"F4\""),
        ),
        one(
            "dims-nine.safetensors",
            "U8",
            "[1,1,1,1,1,1,1,1,1]",
            [0, 1],
            1,
            ("Shape", "at most eight dimensions"),
        ),
        one(
            "dims-overflow.safetensors",
            "F32",
            "[4294967296,4294967296]",
            [0, 4],
            4,
            ("Overflow", "[4294967296, 4294967296] overflows"),
        ),
        one(
            "dims-hide-zero.safetensors",
            "U8",
            "[4,9223372036854775807,4,0]",
            [0, 0],
            0,
            ("Overflow", "[4, 9223372036854775807, 4, 0] overflows"),
        ),
    ]
}

fn ranges() -> Vec<Case> {
    let two =
        |from, to| header(&[entry("a", "U8", "[8]", 0, 8), entry("b", "U8", "[8]", from, to)].join(","));
    vec![
        one(
            "range-short.safetensors",
            "F32",
            "[8]",
            [0, 16],
            16,
            ("ByteLength", "of type F32 and shape [8] takes 32 bytes, but its entry spans 16"),
        ),
        one(
            "range-long.safetensors",
            "BF16",
            "[4]",
            [0, 16],
            16,
            ("ByteLength", "of type BF16 and shape [4] takes 8 bytes, but its entry spans 16"),
        ),
        one(
            "range-reversed.safetensors",
            "U8",
            "[8]",
            [8, 0],
            8,
            ("OutsideFile", "ends at byte 8, but the data ends at 8"),
        ),
        one(
            "range-past-end.safetensors",
            "U8",
            "[16]",
            [0, 16],
            8,
            ("OutsideFile", "ends at byte 16, but the data ends at 8"),
        ),
        one(
            "range-overflow.safetensors",
            "U8",
            "[16]",
            [u64::MAX - 8, u64::MAX],
            16,
            ("OutsideFile", "ends at byte 18446744073709551615"),
        ),
        one(
            "trailing-bytes.safetensors",
            "U8",
            "[8]",
            [0, 8],
            24,
            ("Hole", "16 bytes at data offset 8 belong to no tensor"),
        ),
        one(
            "leading-bytes.safetensors",
            "U8",
            "[8]",
            [4, 12],
            12,
            ("Hole", "4 bytes at data offset 0 belong to no tensor"),
        ),
        file("hole.safetensors", two(16, 24), 24, ("Hole", "8 bytes at data offset 8 belong to no tensor")),
        file(
            "overlap.safetensors",
            two(4, 12),
            12,
            ("Overlap", "\"a\" and \"b\" overlap: the first takes 8 bytes, but the second starts 4"),
        ),
    ]
}

/// Files that say they are ours.
fn ours() -> Vec<Case> {
    let metadata = |text: &str| format!(r#"{{"__metadata__":{text}}}"#);
    let deep = "[".repeat(300);
    vec![
        file(
            "version-2.bitnet",
            metadata(r#"{"bitnet.format":"2"}"#),
            0,
            ("BitnetVersion", "format version \"2\"; this program reads version \"1\""),
        ),
        file(
            "no-config.bitnet",
            metadata(r#"{"bitnet.format":"1"}"#),
            0,
            ("NoConfig", "there is no config.json"),
        ),
        file(
            "config-text.bitnet",
            metadata(r#"{"bitnet.format":"1","bitnet.config":"3"}"#),
            0,
            ("Json", "bitnet.config: not a JSON object"),
        ),
        file(
            "config-cut.bitnet",
            metadata(r#"{"bitnet.format":"1","bitnet.config":"{"}"#),
            0,
            ("Json", "bitnet.config: EOF while parsing an object"),
        ),
        file(
            "config-deep.bitnet",
            metadata(&format!(r#"{{"bitnet.format":"1","bitnet.config":"{deep}"}}"#)),
            0,
            ("Json", "bitnet.config: recursion limit exceeded"),
        ),
    ]
}
