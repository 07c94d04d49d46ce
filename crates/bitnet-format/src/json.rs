//! JSON as Python's `json` writes and reads it, for the texts that lie beside a model's weights.
//!
//! Python writes `Infinity`, `-Infinity` and `NaN` where a number stands, and Windows programs put a byte order mark in
//! front. Both are read. What neither keeps apart, a key that stands twice in one object, is refused.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// What no number of JSON can say, longest first.
const NOT_FINITE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
/// Characters that an error quotes on either side of the place.
const QUOTED: usize = 60;

/// `text` as any JSON reader takes it: without a byte order mark, and with the three words for numbers that are not finite as
/// strings. A field that needs a number then finds the string and can say so by name.
pub fn plain(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut out, mut kept) = (String::new(), 0);
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        let rest = &text.as_bytes()[at..];
        match NOT_FINITE.iter().find(|word| rest.starts_with(word.as_bytes())) {
            Some(word) => {
                out.extend([&text[kept..at], "\"", word, "\""]);
                at += word.len();
                kept = at;
            }
            None if byte == b'"' => at += string_len(rest),
            None => at += 1,
        }
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[kept..]);
    Cow::Owned(out)
}

/// Bytes of the string literal that `text` begins with, both quotation marks included.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The value that `text` holds; nothing may follow it, and it nests 127 deep at most.
///
/// # Errors
/// A sentence with line, column and a piece of the line.
pub fn parse(text: &str) -> Result<Value, String> {
    let text = plain(text);
    serde_json::from_str(&text).map(|Unique(value)| value).map_err(|error| explain(&text, &error))
}

/// What `error` says of `text`, with the place quoted.
fn explain(text: &str, error: &serde_json::Error) -> String {
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or("");
    // Columns count bytes; the character there is the last that was read.
    let mut middle = error.column().min(line.len());
    while !line.is_char_boundary(middle) {
        middle -= 1;
    }
    let before: Vec<char> = line[..middle].chars().rev().take(QUOTED).collect();
    let quoted: String = before.into_iter().rev().chain(line[middle..].chars().take(QUOTED)).collect();
    match quoted.trim() {
        "" => error.to_string(),
        quoted => format!("{error}, in {quoted:?}"),
    }
}

/// A value none of whose objects has a key twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Any.deserialize(deserializer).map(Self)
    }
}

struct Any;

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Any)? {
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                let key: String = key.chars().take(QUOTED).collect();
                return Err(A::Error::custom(format_args!("the key {key:?} stands twice in one object")));
            }
            object.insert(key, map.next_value_seed(Any)?);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn what_python_writes_is_read() {
        let text = "\u{feff}{\"a\": Infinity, \"b\":[-Infinity,NaN, 1.5e3],\n \"Infinity\": \"NaN \\\" Infinity\\\\\", \"c\": -1}";
        let value = parse(text).unwrap();
        let expected =
            r#"{"a":"Infinity","b":["-Infinity","NaN",1500.0],"Infinity":"NaN \" Infinity\\","c":-1}"#;
        assert_eq!(value, Value::from_str(expected).unwrap());
        let ordinary = r#"{"a": [1, "\u00e9", true, null, {"b": 18446744073709551615}]}"#;
        assert!(matches!(plain(ordinary), Cow::Borrowed(_)));
        assert_eq!(parse(ordinary).unwrap(), Value::from_str(ordinary).unwrap());
    }

    #[test]
    fn words_that_only_begin_like_numbers_are_refused() {
        for wrong in [
            "Infinityx",
            "xNaN",
            "[- Infinity]",
            "--Infinity",
            "nan",
            "infinity",
            "\u{feff}\u{feff}1",
            "\"",
            "\"\\",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn errors_quote_their_line() {
        let error = parse("{\n  \"a\": 1,\n  \"rope_theta\": ten\n}").unwrap_err();
        assert!(error.contains("line 3") && error.ends_with(r#", in "\"rope_theta\": ten""#), "{error}");
        let long =
            format!("{{\"é\": \"{}\", \"a\": !, \"b\": \"{}\"}}", "é".repeat(500), "\u{1b}é".repeat(500));
        let error = parse(&long).unwrap_err();
        assert!(error.contains("\\\"a\\\": !") && error.len() < 900 && !error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let error = parse(r#"{"x": {"hidden_size": 1, "b": 2, "hidden_size": 1}}"#).unwrap_err();
        assert!(error.starts_with("the key \"hidden_size\" stands twice in one object at line 1"), "{error}");
        assert!(parse(r#"{"x": {"a": 1}, "y": {"a": 1}}"#).is_ok());
    }

    #[test]
    fn deep_nesting_ends_in_an_error() {
        assert!(parse(&format!("{}{}", "[".repeat(100), "]".repeat(100))).is_ok());
        assert!(parse(&"[".repeat(1_000_000)).unwrap_err().contains("recursion limit"));
    }
}
