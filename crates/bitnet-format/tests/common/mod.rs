//! Raw files of any content, right or wrong, and the archives of expected values.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{collections::BTreeMap, io::Read, path::PathBuf};

/// A path under the repository's `testdata`.
pub fn testdata(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).join(path)
}

/// A GGUF header and data, written as told.
#[derive(Clone)]
pub struct RawGguf {
    pub version: u32,
    pub keys: Vec<Vec<u8>>,
    pub key_count: Option<u64>,
    pub tensors: Vec<Vec<u8>>,
    pub tensor_count: Option<u64>,
    pub alignment: usize,
    pub data: Vec<u8>,
}

pub fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

/// A key with a value of type `ty`, given as bytes.
pub fn key(name: impl AsRef<[u8]>, ty: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    [&string(name)[..], &ty.to_le_bytes(), value.as_ref()].concat()
}

/// The value bytes of an array.
pub fn array(item_type: u32, count: u64, items: impl AsRef<[u8]>) -> Vec<u8> {
    [&item_type.to_le_bytes()[..], &count.to_le_bytes(), items.as_ref()].concat()
}

/// A tensor's entry; `dims` in ggml's order, the contiguous one first.
pub fn tensor(name: impl AsRef<[u8]>, dims: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let dims_bytes: Vec<u8> = dims.iter().flat_map(|d| d.to_le_bytes()).collect();
    let count = (dims.len() as u32).to_le_bytes();
    [&string(name)[..], &count, &dims_bytes, &ty.to_le_bytes(), &offset.to_le_bytes()].concat()
}

impl RawGguf {
    /// One key, and tensors with `data`.
    pub fn new(tensors: Vec<Vec<u8>>, data: Vec<u8>) -> Self {
        let keys = vec![key("general.architecture", 8, string("bitnet-b1.58"))];
        Self { version: 3, keys, key_count: None, tensors, tensor_count: None, alignment: 32, data }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        self.keys.iter().chain(&self.tensors).for_each(|part| bytes.extend(part));
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// A safetensors file of this header text and data.
pub fn safetensors(header: impl AsRef<[u8]>, data: &[u8]) -> Vec<u8> {
    let header = header.as_ref();
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

/// An array of an `.npz` archive.
pub struct Array {
    /// numpy's name of the element type, such as `<f4`.
    pub dtype: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Array {
    pub fn f32s(&self) -> Vec<f32> {
        assert_eq!(self.dtype, "<f4");
        self.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    /// Bytes, signed or not.
    pub fn u8s(&self) -> &[u8] {
        assert!(["|u1", "|i1"].contains(&self.dtype.as_str()), "{}", self.dtype);
        &self.bytes
    }
}

/// All arrays of an archive under `testdata`, by name.
pub fn npz(path: &str) -> BTreeMap<String, Array> {
    let file = std::fs::File::open(testdata(path)).unwrap();
    let mut archive = zip::ZipArchive::new(file).unwrap();
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).unwrap();
        let name = entry.name().strip_suffix(".npy").unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        arrays.insert(name, npy(&bytes));
    }
    arrays
}

/// Version 1 of numpy's format: a header that is a Python dictionary, then the elements.
fn npy(bytes: &[u8]) -> Array {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + len]).unwrap();
    assert!(header.contains("'fortran_order': False"), "{header}");
    let after = |key: &str| &header[header.find(key).unwrap() + key.len()..];
    let dtype = after("'descr': '").split('\'').next().unwrap().to_owned();
    let shape = after("'shape': (").split(')').next().unwrap();
    let shape =
        shape.split(',').filter(|s| !s.trim().is_empty()).map(|s| s.trim().parse().unwrap()).collect();
    Array { dtype, shape, bytes: bytes[10 + len..].to_vec() }
}
