//! Typed access to the JSON of configuration files.

use serde_json::Value;

use crate::error::SourceError;

/// An object whose fields are asked for by type; errors name the field and the file.
pub(crate) struct Fields<'a> {
    object: &'a serde_json::Map<String, Value>,
    file: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(value: &'a Value, file: &'static str) -> Result<Self, SourceError> {
        match value {
            Value::Object(object) => Ok(Self { object, file }),
            _ => Err(SourceError::config(file, "a JSON object", "something else")),
        }
    }

    /// The value of a key, unless it is null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|v| !v.is_null())
    }

    pub(crate) fn wrong(&self, key: &str, expected: &str) -> SourceError {
        let got = self.get(key).map_or("nothing".into(), |v| short(&v.to_string()));
        SourceError::config(format!("{key} in {}", self.file), expected, got)
    }

    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, SourceError> {
        self.optional(key, "a whole number", |v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize, SourceError> {
        self.optional_size(key)?.ok_or_else(|| self.wrong(key, "a whole number"))
    }

    pub(crate) fn optional_number(&self, key: &str) -> Result<Option<f32>, SourceError> {
        self.optional(key, "a number", |v| number(Some(v)))
    }

    pub(crate) fn number(&self, key: &str) -> Result<f32, SourceError> {
        self.optional_number(key)?.ok_or_else(|| self.wrong(key, "a number"))
    }

    pub(crate) fn optional_str(&self, key: &str) -> Result<Option<&'a str>, SourceError> {
        self.optional(key, "a text", Value::as_str)
    }

    pub(crate) fn optional_bool(&self, key: &str) -> Result<Option<bool>, SourceError> {
        self.optional(key, "true or false", Value::as_bool)
    }

    pub(crate) fn optional_list(&self, key: &str) -> Result<Option<&'a Vec<Value>>, SourceError> {
        self.optional(key, "a list", Value::as_array)
    }

    /// An object; errors in it name `key`.
    pub(crate) fn optional_object(&self, key: &'static str) -> Result<Option<&'a Value>, SourceError> {
        self.optional(key, "a JSON object", |v| v.is_object().then_some(v))
    }

    /// A token id or a list of them; empty when nothing is said.
    pub(crate) fn ids(&self, key: &str) -> Result<Vec<u32>, SourceError> {
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        let ids = |v: &Value| match v {
            Value::Array(items) => items.iter().map(id).collect::<Option<Vec<u32>>>(),
            one => id(one).map(|id| vec![id]),
        };
        Ok(self.optional(key, "a token id or a list of them", ids)?.unwrap_or_default())
    }

    /// A list of finite numbers.
    pub(crate) fn optional_numbers(&self, key: &str) -> Result<Option<Vec<f32>>, SourceError> {
        let numbers = |v: &Value| v.as_array()?.iter().map(|v| number(Some(v))).collect::<Option<Vec<f32>>>();
        self.optional(key, "a list of numbers", numbers)
    }

    /// A finite number in the width in which Python reads it.
    pub(crate) fn optional_double(&self, key: &str) -> Result<Option<f64>, SourceError> {
        let fits = |v: &Value| v.as_f64().filter(|x| (*x as f32).is_finite());
        self.optional(key, "a number", fits)
    }

    fn optional<T>(
        &self,
        key: &str,
        expected: &str,
        take: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, SourceError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        take(value).map(Some).ok_or_else(|| self.wrong(key, expected))
    }

    /// Every key whose value is not null.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.object.iter().filter(|(_, v)| !v.is_null()).map(|(key, _)| key.as_str())
    }

    /// Whether the key is there at all, be it with null.
    pub(crate) fn names(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }
}

/// A finite number as f32.
pub(crate) fn number(value: Option<&Value>) -> Option<f32> {
    value.and_then(Value::as_f64).map(|x| x as f32).filter(|x| x.is_finite())
}

/// What a file says, cut to what a person reads.
fn short(text: &str) -> String {
    const MOST: usize = 80;
    let mut cut: String = text.chars().take(MOST).collect();
    if text.chars().nth(MOST).is_some() {
        cut.push_str("...");
    }
    cut
}
