//! Hostile GGUF files.

use crate::{
    Case, Expectation,
    common::{RawGguf, array, key, string, tensor},
};

/// A case of a GGUF file.
fn gguf(name: &'static str, raw: RawGguf, expect: Expectation) -> Case {
    Case::file(name, raw.bytes(), expect)
}

/// A case of a valid file, shortened to `len` bytes.
fn cut(name: &'static str, len: usize, expect: Expectation) -> Case {
    let mut bytes = RawGguf::new(vec![tensor("a", &[8], 0, 0)], vec![1; 32]).bytes();
    bytes.truncate(len);
    Case::file(name, bytes, expect)
}

/// A file with these keys besides its architecture.
fn keys(extra: Vec<Vec<u8>>) -> RawGguf {
    let mut raw = RawGguf::new(vec![], vec![]);
    raw.keys.extend(extra);
    raw
}

/// A file of one tensor.
pub fn one(dims: &[u64], ty: u32, data: usize) -> RawGguf {
    RawGguf::new(vec![tensor("blk.0.ffn_up.weight", dims, ty, 0)], vec![0x15; data])
}

/// A file of a tensor and, `gap` bytes after it, eight floats.
pub fn two(dims: &[u64], ty: u32, gap: u64) -> RawGguf {
    let tensors =
        vec![tensor("blk.0.ffn_up.weight", dims, ty, 0), tensor("output_norm.weight", &[8], 0, gap)];
    RawGguf::new(tensors, vec![0x15; gap as usize + 32])
}

pub fn cases() -> Vec<Case> {
    [headers(), values(), tensors(), offsets(), geometry(), types(), contents(), splits()]
        .into_iter()
        .flatten()
        .collect()
}

fn headers() -> Vec<Case> {
    let mut array_cut = keys(vec![key("u", 9, array(8, 1, string("eight")))]).bytes();
    array_cut.truncate(array_cut.iter().rposition(|b| *b == b'g').unwrap() + 1);
    let version = |version| RawGguf { version, ..RawGguf::new(vec![], vec![]) };
    let count =
        |keys, tensors| RawGguf { key_count: keys, tensor_count: tensors, ..RawGguf::new(vec![], vec![]) };
    vec![
        Case::file("empty.gguf", vec![], ("Unrecognized", "it is empty")),
        cut("magic-cut.gguf", 3, ("Truncated", "header's length needs 8 bytes, but 3 are left")),
        cut("version-missing.gguf", 4, ("Truncated", "the version needs 4 bytes, but 0 are left")),
        cut(
            "counts-cut.gguf",
            18,
            ("Truncated", "the number of metadata keys needs 8 bytes, but 2 are left"),
        ),
        cut("key-cut.gguf", 40, ("Truncated", "a metadata key needs 20 bytes, but 8 are left")),
        Case::file("array-cut.gguf", array_cut, ("Truncated", "u needs 5 bytes, but 3 are left")),
        cut("value-cut.gguf", 70, ("Truncated", "general.architecture needs 12 bytes, but 6 are left")),
        cut("entry-cut.gguf", 90, ("Count", "1 tensors are announced, but the 14 bytes left hold 0 at most")),
        gguf("version-1.gguf", version(1), ("GgufVersion", "GGUF version 1 cannot be read")),
        gguf("version-4.gguf", version(4), ("GgufVersion", "GGUF version 4 cannot be read")),
        gguf("big-endian.gguf", version(3u32.swap_bytes()), ("BigEndian", "convert it to little-endian")),
        gguf(
            "keys-overflow.gguf",
            count(Some(u64::MAX), None),
            ("Count", "18446744073709551615 metadata keys"),
        ),
        gguf(
            "tensors-overflow.gguf",
            count(None, Some(u64::MAX)),
            ("Count", "18446744073709551615 tensors are"),
        ),
    ]
}

fn values() -> Vec<Case> {
    let huge = u64::MAX.to_le_bytes();
    // Each level is an array of one array.
    let nested = (0..64).fold(array(4, 0, []), |inner, _| array(9, 1, inner));
    let wide = array(9, 3, [array(8, u64::MAX, []), array(4, 1, [0; 4])].concat());
    let align = |value: u32| keys(vec![key("general.alignment", 4, value.to_le_bytes())]);
    vec![
        gguf(
            "string-overflow.gguf",
            keys(vec![key("s", 8, huge)]),
            ("Truncated", "s needs 18446744073709551615"),
        ),
        gguf(
            "array-overflow.gguf",
            keys(vec![key("a", 9, array(10, u64::MAX / 4, []))]),
            ("Count", "the array \"a\""),
        ),
        gguf(
            "strings-overflow.gguf",
            keys(vec![key("t", 9, array(8, 1 << 60, [0; 9]))]),
            ("Count", "the array \"t\""),
        ),
        gguf(
            "arrays-nested.gguf",
            keys(vec![key("n", 9, nested)]),
            ("Nesting", "nests arrays more than 4 deep"),
        ),
        gguf("arrays-wide.gguf", keys(vec![key("w", 9, wide)]), ("Count", "the array \"w\"")),
        gguf("value-type.gguf", keys(vec![key("v", 13, [0; 8])]), ("ValueType", "\"v\" has value type 13")),
        gguf(
            "item-type.gguf",
            keys(vec![key("i", 9, array(99, 1, [0; 8]))]),
            ("ValueType", "\"i\" has value type 99"),
        ),
        gguf(
            "key-twice.gguf",
            keys(vec![key("k", 7, [1]), key("k", 7, [0])]),
            ("DuplicateKey", "\"k\" appears twice"),
        ),
        gguf(
            "key-not-utf8.gguf",
            keys(vec![key([0xff, 0xfe], 7, [1])]),
            ("NotUtf8", "a metadata key is not UTF-8"),
        ),
        gguf(
            "key-long.gguf",
            keys(vec![key(vec![b'k'; 66_000], 7, [1])]),
            ("NameLength", "66000 bytes is too long: the limit is 65535"),
        ),
        gguf("alignment-0.gguf", align(0), ("Alignment", "the alignment 0 is not a power of two")),
        gguf("alignment-24.gguf", align(24), ("Alignment", "the alignment 24 is not a power of two")),
        gguf("alignment-huge.gguf", align(1 << 31), ("Alignment", "the alignment 2147483648 is not")),
        gguf(
            "alignment-text.gguf",
            keys(vec![key("general.alignment", 8, string("32"))]),
            ("KeyType", "should be a non-negative integer, but is the string \"32\""),
        ),
    ]
}

fn tensors() -> Vec<Case> {
    let raw = |entry| RawGguf::new(vec![entry], vec![0; 64]);
    let dims = |dims: &[u64]| raw(tensor("t", dims, 0, 0));
    // Counts of dimensions are checked before they are read.
    let mut many = tensor("t", &[1; 4], 0, 0);
    many[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
    let twice = RawGguf::new(vec![tensor("t", &[8], 0, 0), tensor("t", &[8], 0, 32)], vec![0; 64]);
    vec![
        gguf(
            "name-long.gguf",
            raw(tensor([b'n'; 64], &[8], 0, 0)),
            ("NameLength", "a tensor name of 64 bytes is too long: the limit is 63"),
        ),
        gguf(
            "name-not-utf8.gguf",
            raw(tensor([0xc3, 0x28], &[8], 0, 0)),
            ("NotUtf8", "a tensor's name is not UTF-8"),
        ),
        gguf("name-twice.gguf", twice, ("DuplicateTensor", "the tensor \"t\" appears twice")),
        gguf(
            "dims-none.gguf",
            raw([tensor("t", &[], 0, 0), vec![0; 8]].concat()),
            ("Shape", "[0]: one to four dimensions"),
        ),
        gguf("dims-five.gguf", dims(&[1, 1, 1, 1, 1]), ("Shape", "[5]: one to four dimensions")),
        gguf("dims-many.gguf", raw(many), ("Shape", "[4294967295]: one to four dimensions")),
        gguf("dims-zero.gguf", dims(&[8, 0]), ("Shape", "[0, 8]: no dimension of 0")),
        gguf(
            "dims-overflow.gguf",
            dims(&[1 << 40, 1 << 40]),
            ("Overflow", "[1099511627776, 1099511627776] overflows"),
        ),
        gguf(
            "dims-wrap.gguf",
            dims(&[1 << 32, 1 << 32, 2]),
            ("Overflow", "[2, 4294967296, 4294967296] overflows"),
        ),
        gguf("dims-bytes-overflow.gguf", dims(&[1 << 62]), ("Overflow", "[4611686018427387904] overflows")),
    ]
}

fn offsets() -> Vec<Case> {
    let raw = |entry, data| RawGguf::new(vec![entry], vec![0; data]);
    vec![
        gguf(
            "misaligned.gguf",
            raw(tensor("t", &[8], 0, 4), 64),
            ("Misaligned", "starts at offset 4, which is not a multiple of 32"),
        ),
        gguf(
            "offset-past-end.gguf",
            raw(tensor("t", &[8], 0, 64), 64),
            ("OutsideFile", "ends at byte 65, but the data ends at 64"),
        ),
        gguf(
            "offset-overflow.gguf",
            raw(tensor("t", &[8], 0, u64::MAX - 31), 64),
            ("OutsideFile", "ends at byte 18446744073709551585"),
        ),
        gguf(
            "data-cut.gguf",
            raw(tensor("t", &[64], 0, 0), 200),
            ("OutsideFile", "ends at byte 256, but the data ends at 200"),
        ),
        gguf(
            "data-none.gguf",
            raw(tensor("t", &[8], 0, 0), 0),
            ("OutsideFile", "ends at byte 1, but the data ends at 0"),
        ),
    ]
}

/// Types that are not what the bytes say.
fn geometry() -> Vec<Case> {
    let same = RawGguf::new(vec![tensor("a", &[8], 0, 0), tensor("b", &[8], 0, 0)], vec![0; 64]);
    vec![
        gguf(
            "overlap.gguf",
            two(&[16], 0, 32),
            ("Overlap", "\"blk.0.ffn_up.weight\" and \"output_norm.weight\" overlap: the first takes 64"),
        ),
        gguf(
            "overlap-same-offset.gguf",
            same,
            ("Overlap", "\"a\" and \"b\" overlap: the first takes 32 bytes, but the second starts 0"),
        ),
        gguf(
            "f32-labelled-f16.gguf",
            two(&[64, 2], 1, 512),
            ("Mislabelled", "is labelled F16, which takes 256 bytes, but the file gives it 512"),
        ),
        gguf(
            "i2_s-labelled-f32.gguf",
            two(&[128, 4], 0, 160),
            ("Overlap", "the first takes 2048 bytes, but the second starts 160"),
        ),
        gguf(
            "q8_0-labelled-q4_0.gguf",
            two(&[64, 4], 2, 288),
            ("Mislabelled", "is labelled Q4_0, which takes 144 bytes, but the file gives it 288"),
        ),
        gguf(
            "q5_0-columns.gguf",
            two(&[48, 4], 6, 160),
            ("Shape", "[4, 48]: the last dimension to be a whole number"),
        ),
        gguf(
            "tq2_0-columns.gguf",
            two(&[192, 4], 35, 224),
            ("Shape", "[4, 192]: the last dimension to be a whole number"),
        ),
        gguf(
            "i2_s-without-scale.gguf",
            one(&[128, 4], 36, 128),
            ("OutsideFile", "ends at byte 160, but the data ends at 128"),
        ),
        gguf(
            "tq1_0-cut.gguf",
            one(&[256, 2], 34, 96),
            ("OutsideFile", "ends at byte 108, but the data ends at 96"),
        ),
    ]
}

/// Types that cannot be read.
fn types() -> Vec<Case> {
    vec![
        gguf(
            "type-unknown.gguf",
            two(&[128, 4], 777, 128),
            ("Unreadable", "is of the unknown GGUF type 777: no such type is known to this program"),
        ),
        gguf("type-iq3_s.gguf", two(&[256, 4], 21, 448), ("Unreadable", "GGUF type 21 (IQ3_S)")),
        gguf(
            "type-143-iq1_tn.gguf",
            two(&[256, 16], 143, 864),
            ("Unreadable", "type 143 (PTQ1_0 or IQ1_TN, but"),
        ),
        gguf(
            "type-142-iq2_tn.gguf",
            two(&[256, 16], 142, 1056),
            ("Unreadable", "type 142 (PQ2_0 or IQ2_TN, but"),
        ),
        gguf(
            "type-36-not-i2_s.gguf",
            two(&[128, 4], 36, 288),
            ("Unreadable", "GGUF type 36 (I2_S or IQ4_NL_4_4"),
        ),
        gguf(
            "type-39-other.gguf",
            two(&[512, 4], 39, 1056),
            ("Unreadable", "GGUF type 39 (MXFP4 or TL2, which its size does not tell"),
        ),
        gguf("type-41-other.gguf", two(&[128, 4], 41, 128), ("Unreadable", "GGUF type 41 (Q1_0, but")),
        gguf(
            "type-42-other.gguf",
            two(&[128, 4], 42, 256),
            ("Unreadable", "GGUF type 42 (Q2_0 in groups of 64 or 128, or TQ2_0_G128, which neither"),
        ),
        gguf(
            "tl1.gguf",
            two(&[128, 4], 38, 160),
            ("Unreadable", "is TL1: a lookup-table layout tiled for one build of bitnet.cpp"),
        ),
        gguf(
            "tl2.gguf",
            two(&[544, 4], 39, 800),
            ("Unreadable", "is TL2: a lookup-table layout tiled for one build of bitnet.cpp"),
        ),
    ]
}

/// Right sizes, wrong contents.
fn contents() -> Vec<Case> {
    let with = |dims: &[u64], ty, data: Vec<u8>| RawGguf::new(vec![tensor("w", dims, ty, 0)], data);
    let i2_s = |first: u8, scale: f32| {
        let mut data = vec![0x55; 64];
        data[0] = first;
        data[32..36].copy_from_slice(&scale.to_le_bytes());
        with(&[128], 36, data)
    };
    let mut tq2_0 = vec![0x55; 66];
    tq2_0[64..].copy_from_slice(&[0, 0x7c]);
    // One block of the type, with two bytes that are not 0x15.
    let changed = |ty, len, at: [usize; 2], to: [u8; 2]| {
        let mut data = vec![0x15; len];
        (data[at[0]], data[at[1]]) = (to[0], to[1]);
        with(&[128], ty, data)
    };
    vec![
        gguf(
            "q2_0-plus-two.gguf",
            changed(42, 34, [2, 9], [0x1f, 0x35]),
            ("PlusTwo", "3 of its weights are +2 (code 3; the first at row 0, column 0)"),
        ),
        gguf(
            "ptq1_0-no-trits.gguf",
            changed(143, 28, [25, 24], [0x14, 0x15]),
            ("Base3", "the byte with the weight at row 0, column 121 is no number of five trits"),
        ),
        gguf("ptq1_0-scale.gguf", changed(143, 28, [26, 27], [0, 0x7c]), ("Quant", "scale 0 is inf")),
        gguf("q1_0-scale.gguf", changed(41, 18, [0, 1], [1, 0xfc]), ("Quant", "scale 0 is NaN")),
        gguf("pq2_0-scale.gguf", changed(142, 34, [0, 1], [0, 0xfc]), ("Quant", "scale 0 is -inf")),
        gguf("i2_s-code-3.gguf", i2_s(0x5f, 1.0), ("Quant", "the code at row 0, column 64 is 3")),
        gguf("i2_s-scale-nan.gguf", i2_s(0x55, f32::NAN), ("Quant", "scale 0 is NaN")),
        gguf("tq2_0-scale-infinite.gguf", with(&[256], 35, tq2_0), ("Quant", "scale 0 is inf")),
    ]
}

fn splits() -> Vec<Case> {
    let part = |number: u16, count: u16, total: u32, name: &str| {
        let mut raw = RawGguf::new(vec![tensor(name, &[8], 0, 0)], vec![0; 32]);
        raw.keys.push(key("split.no", 2, number.to_le_bytes()));
        raw.keys.push(key("split.count", 2, count.to_le_bytes()));
        raw.keys.push(key("split.tensors.count", 5, total.to_le_bytes()));
        raw.bytes()
    };
    let split = |name, files, open, expect| Case { name, files, open, expect };
    const FIRST: &str = "m-00001-of-00002.gguf";
    const SECOND: &str = "m-00002-of-00002.gguf";
    vec![
        split(
            "split-second",
            vec![(SECOND, part(1, 2, 2, "b"))],
            SECOND,
            ("ShardMissing", "\"m-00001-of-00002.gguf\" is missing"),
        ),
        split(
            "split-missing",
            vec![(FIRST, part(0, 2, 2, "a"))],
            FIRST,
            ("ShardMissing", "\"m-00002-of-00002.gguf\" is missing"),
        ),
        split(
            "split-misnamed",
            vec![("m.gguf", part(0, 2, 2, "a"))],
            "m.gguf",
            ("Split", "its name should end in -00001-of-00002.gguf"),
        ),
        split(
            "split-foreign",
            vec![(FIRST, part(0, 2, 2, "a")), (SECOND, part(2, 3, 2, "b"))],
            FIRST,
            ("Split", "part 2 of 2 says it is part 3 of 3"),
        ),
        split(
            "split-same-tensor",
            vec![(FIRST, part(0, 2, 2, "a")), (SECOND, part(1, 2, 2, "a"))],
            FIRST,
            ("TwoShards", "\"a\" stands in two shards"),
        ),
        split(
            "split-count",
            vec![(FIRST, part(0, 2, 3, "a")), (SECOND, part(1, 2, 3, "b"))],
            FIRST,
            ("Split", "3 tensors are announced, 2 are there"),
        ),
        split(
            "split-not-gguf",
            vec![(FIRST, part(0, 2, 2, "a")), (SECOND, b"{}".to_vec())],
            FIRST,
            ("Unrecognized", "it should be a part of a split GGUF file"),
        ),
    ]
}
