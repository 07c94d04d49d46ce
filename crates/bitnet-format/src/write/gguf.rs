//! Writing GGUF version 3.

use std::path::Path;

use crate::{
    FormatError, FormatErrorKind as Kind, GgufValue, TensorType,
    gguf::{DEFAULT_ALIGNMENT, MAGIC, MAX_NAME},
};

use super::{
    atomic::AtomicFile,
    layout::{Progress, TensorSpec},
};

/// Metadata keys in the order in which they were added.
#[derive(Clone, Debug, Default)]
pub struct GgufKeys {
    bytes: Vec<u8>,
    keys: Vec<String>,
}

impl GgufKeys {
    /// An empty list of keys.
    pub fn new() -> Self {
        Self::default()
    }

    fn key(&mut self, key: &str, ty: u32) -> &mut Vec<u8> {
        self.keys.push(key.into());
        push_string(&mut self.bytes, key.as_bytes());
        self.bytes.extend(ty.to_le_bytes());
        &mut self.bytes
    }

    fn array<T>(
        &mut self,
        key: &str,
        ty: u32,
        items: impl ExactSizeIterator<Item = T>,
        mut push: impl FnMut(&mut Vec<u8>, T),
    ) -> &mut Self {
        let bytes = self.key(key, 9);
        bytes.extend(ty.to_le_bytes());
        bytes.extend((items.len() as u64).to_le_bytes());
        items.for_each(|item| push(bytes, item));
        self
    }

    /// Adds a key whose value is a string.
    pub fn str(&mut self, key: &str, value: &str) -> &mut Self {
        push_string(self.key(key, 8), value.as_bytes());
        self
    }

    /// Adds a 32-bit unsigned integer.
    pub fn u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.key(key, 4).extend(value.to_le_bytes());
        self
    }

    /// Adds a key whose value is an f32.
    pub fn f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.key(key, 6).extend(value.to_le_bytes());
        self
    }

    /// Adds a key whose value is a bool.
    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.key(key, 7).push(value.into());
        self
    }

    /// Adds an array of strings, which may be any bytes.
    pub fn strings<S: AsRef<[u8]>>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = S, IntoIter: ExactSizeIterator>,
    ) -> &mut Self {
        self.array(key, 8, items.into_iter(), |bytes, s| push_string(bytes, s.as_ref()))
    }

    /// Adds an array of 32-bit signed integers.
    pub fn i32s(&mut self, key: &str, items: &[i32]) -> &mut Self {
        self.array(key, 5, items.iter(), |bytes, v| bytes.extend(v.to_le_bytes()))
    }

    /// Adds a key whose value is an array of f32.
    pub fn f32s(&mut self, key: &str, items: &[f32]) -> &mut Self {
        self.array(key, 6, items.iter(), |bytes, v| bytes.extend(v.to_le_bytes()))
    }

    /// Adds a value of another file, with its type.
    pub fn copy(&mut self, key: &str, value: &GgufValue<'_>) -> &mut Self {
        push_value(self.key(key, value.type_id()), value);
        self
    }
}

fn push_string(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text);
}

fn push_value(bytes: &mut Vec<u8>, value: &GgufValue<'_>) {
    use GgufValue as V;
    match value {
        V::U8(v) => bytes.push(*v),
        V::I8(v) => bytes.extend(v.to_le_bytes()),
        V::U16(v) => bytes.extend(v.to_le_bytes()),
        V::I16(v) => bytes.extend(v.to_le_bytes()),
        V::U32(v) => bytes.extend(v.to_le_bytes()),
        V::I32(v) => bytes.extend(v.to_le_bytes()),
        V::F32(v) => bytes.extend(v.to_le_bytes()),
        V::Bool(v) => bytes.push((*v).into()),
        V::Str(v) => push_string(bytes, v),
        V::U64(v) => bytes.extend(v.to_le_bytes()),
        V::I64(v) => bytes.extend(v.to_le_bytes()),
        V::F64(v) => bytes.extend(v.to_le_bytes()),
        V::Array(array) => {
            bytes.extend(array.item_type().to_le_bytes());
            bytes.extend((array.len() as u64).to_le_bytes());
            bytes.extend(array.raw());
        }
    }
}

/// Writes a GGUF file: keys and names first, then bytes in any order, then [`GgufWriter::finish`].
pub struct GgufWriter {
    file: AtomicFile,
    progress: Progress,
}

impl GgufWriter {
    /// Begins a file that will be at `path` when it is finished. Tensors stand in the order given, each on a
    /// multiple of 32, which is what readers assume when no key says otherwise.
    ///
    /// # Errors
    /// When a key or name occurs twice, a name or type is not one of the format, or the disk refuses.
    pub fn create(path: &Path, keys: &GgufKeys, tensors: &[TensorSpec]) -> Result<Self, FormatError> {
        let (header, extents, end) = plan(keys, tensors).map_err(|e| e.at(path))?;
        let progress = Progress::new(extents, end).map_err(|e| e.at(path))?;
        let mut file = AtomicFile::create(path)?;
        file.write_at(0, &header)?;
        Ok(Self { file, progress })
    }

    /// Appends bytes to a tensor.
    ///
    /// # Errors
    /// When the tensor was not announced, or gets more bytes than it takes, or the disk refuses.
    pub fn write(&mut self, tensor: &str, bytes: &[u8]) -> Result<(), FormatError> {
        self.progress.append(&mut self.file, tensor, bytes)
    }

    /// Brings the file to the disk under its name; returns its size in bytes.
    ///
    /// # Errors
    /// When a tensor is incomplete (then no file appears), or the disk refuses.
    pub fn finish(self) -> Result<u64, FormatError> {
        self.progress.finish(self.file)
    }
}

type Plan = (Vec<u8>, Vec<(String, u64, u64)>, u64);

/// The header, where each tensor goes, and where the file ends.
fn plan(keys: &GgufKeys, tensors: &[TensorSpec]) -> Result<Plan, FormatError> {
    let mut sorted: Vec<&String> = keys.keys.iter().collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|w| w[0] == w[1]) {
        return Err(Kind::DuplicateKey { key: pair[0].clone() }.into());
    }
    let mut header = MAGIC.to_vec();
    header.extend(3u32.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((keys.keys.len() as u64).to_le_bytes());
    header.extend(&keys.bytes);
    let (mut extents, mut at) = (Vec::with_capacity(tensors.len()), 0u64);
    for spec in tensors {
        let len = spec.byte_len()?;
        push_entry(&mut header, spec, at)?;
        extents.push((spec.name.clone(), at, len));
        let overflow = || FormatError::from(Kind::Overflow { what: "the file".into() });
        let next = at.checked_add(len).filter(|&n| n < u64::MAX / 2).ok_or_else(overflow)?;
        at = next.next_multiple_of(DEFAULT_ALIGNMENT);
    }
    header.resize(header.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
    let base = header.len() as u64;
    extents.iter_mut().for_each(|(_, start, _)| *start += base);
    Ok((header, extents, base + at))
}

fn push_entry(header: &mut Vec<u8>, spec: &TensorSpec, offset: u64) -> Result<(), FormatError> {
    let len = spec.name.len() as u64;
    if len > MAX_NAME {
        return Err(Kind::NameLength { what: "tensor name", len, limit: MAX_NAME }.into());
    }
    if !(1..=4).contains(&spec.shape.len()) || spec.shape.contains(&0) {
        let shape = spec.shape.iter().map(|&d| d as u64).collect();
        let expected = "one to four dimensions, none of them 0";
        return Err(Kind::Shape { tensor: spec.name.clone(), shape, expected }.into());
    }
    let id = type_id(spec.ty).ok_or_else(|| {
        let advice = "GGUF files cannot hold this type";
        FormatError::from(Kind::Unreadable { tensor: spec.name.clone(), ty: spec.ty, advice })
    })?;
    push_string(header, spec.name.as_bytes());
    header.extend((spec.shape.len() as u32).to_le_bytes());
    spec.shape.iter().rev().for_each(|&d| header.extend((d as u64).to_le_bytes()));
    header.extend(id.to_le_bytes());
    header.extend(offset.to_le_bytes());
    Ok(())
}

fn type_id(ty: TensorType) -> Option<u32> {
    use TensorType as T;
    Some(match ty {
        T::F32 => 0,
        T::F16 => 1,
        T::Q4_0 => 2,
        T::Q4_1 => 3,
        T::Q5_0 => 6,
        T::Q5_1 => 7,
        T::Q8_0 => 8,
        T::Q2K => 10,
        T::Q3K => 11,
        T::Q4K => 12,
        T::Q5K => 13,
        T::Q6K => 14,
        T::Iq4Nl => 20,
        T::Iq4Xs => 23,
        T::I8 => 24,
        T::I16 => 25,
        T::I32 => 26,
        T::I64 => 27,
        T::F64 => 28,
        T::Bf16 => 30,
        T::Tq1_0 => 34,
        T::Tq2_0 => 35,
        T::I2S | T::I2S64 => 36,
        T::Mxfp4 => 39,
        T::Q1_0 => 41,
        // PQ2_0: under 42 llama.cpp would read groups of 64.
        T::Q2_0 { group: 128 } => 142,
        T::Q2_0 { .. } | T::Tq2_0G128 => 42,
        T::Iq1Bn => 134,
        T::Iq2Bn => 135,
        T::Ptq1_0 => 143,
        T::Iq2BnR4 => 335,
        _ => return None,
    })
}
