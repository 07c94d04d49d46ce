//! The keys of a GGUF file, read with the least code that can: this crate has no reader, so its tests bring one.

use bitnet_text::GgufVocabulary;
use std::collections::HashMap;
use std::path::Path;

#[derive(Debug, Clone)]
enum Value {
    Number(u64),
    Signed(i64),
    Float(f32),
    Text(Vec<u8>),
    List(Vec<Value>),
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_first_chunk::<N>().expect("the file is long enough");
        self.0 = tail;
        *head
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    fn text(&mut self) -> Vec<u8> {
        let length = self.u64() as usize;
        let (head, tail) = self.0.split_at(length);
        self.0 = tail;
        head.to_vec()
    }

    fn value(&mut self, kind: u32) -> Value {
        match kind {
            0 | 7 => Value::Number(self.bytes::<1>()[0].into()),
            1 => Value::Signed(i8::from_le_bytes(self.bytes()).into()),
            2 => Value::Number(u16::from_le_bytes(self.bytes()).into()),
            3 => Value::Signed(i16::from_le_bytes(self.bytes()).into()),
            4 => Value::Number(u32::from_le_bytes(self.bytes()).into()),
            5 => Value::Signed(i32::from_le_bytes(self.bytes()).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes())),
            8 => Value::Text(self.text()),
            9 => {
                let kind = u32::from_le_bytes(self.bytes());
                let count = self.u64();
                Value::List((0..count).map(|_| self.value(kind)).collect())
            }
            10 => Value::Number(self.u64()),
            11 => Value::Signed(i64::from_le_bytes(self.bytes())),
            12 => Value::Float(f64::from_le_bytes(self.bytes()) as f32),
            _ => panic!("value type {kind}"),
        }
    }
}

/// The vocabulary of a GGUF file.
pub fn vocabulary(path: impl AsRef<Path>) -> GgufVocabulary {
    let file = std::fs::read(path.as_ref()).expect("the file is there");
    let mut reader = Reader(&file);
    assert_eq!(&reader.bytes::<4>(), b"GGUF");
    reader.bytes::<4>();
    reader.u64();
    let count = reader.u64();
    let mut keys = HashMap::new();
    for _ in 0..count {
        let key = String::from_utf8(reader.text()).expect("a key is UTF-8");
        let kind = u32::from_le_bytes(reader.bytes());
        keys.insert(key, reader.value(kind));
    }
    let get = |name: &str| keys.get(&format!("tokenizer.ggml.{name}")).cloned();
    let text = |value: Value| match value {
        Value::Text(bytes) => bytes,
        other => panic!("{other:?} is not text"),
    };
    let string = |value: Value| String::from_utf8(text(value)).expect("UTF-8");
    let number = |value: Value| match value {
        Value::Number(n) => n as u32,
        Value::Signed(n) => n as u32,
        other => panic!("{other:?} is no number"),
    };
    let list = |name: &str| match get(name) {
        Some(Value::List(items)) => items,
        _ => Vec::new(),
    };
    let float = |value: Value| match value {
        Value::Float(x) => x,
        other => panic!("{other:?} is no float"),
    };
    GgufVocabulary {
        model: get("model").map(string).unwrap_or_default(),
        pre: get("pre").map(string),
        architecture: keys.get("general.architecture").cloned().map(string).unwrap_or_default(),
        tokens: list("tokens").into_iter().map(text).collect(),
        scores: list("scores").into_iter().map(float).collect(),
        token_types: list("token_type").into_iter().map(|v| number(v) as i32).collect(),
        merges: list("merges").into_iter().map(string).collect(),
        bos: get("bos_token_id").map(number),
        eos: get("eos_token_id").map(number),
        eot: get("eot_token_id").map(number),
        eom: get("eom_token_id").map(number),
        unk: get("unknown_token_id").map(number),
        add_bos: get("add_bos_token").map(|v| number(v) != 0),
        add_eos: get("add_eos_token").map(|v| number(v) != 0),
        add_space_prefix: get("add_space_prefix").map(|v| number(v) != 0),
        losses: Vec::new(),
    }
}
