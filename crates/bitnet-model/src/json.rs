//! Typed access to the JSON of configuration files.

use serde_json::Value;

use crate::ModelError;

/// An object whose fields are asked for by type; errors name the field and the file.
pub(crate) struct Fields<'a> {
    object: &'a serde_json::Map<String, Value>,
    file: &'static str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(value: &'a Value, file: &'static str) -> Result<Self, ModelError> {
        match value {
            Value::Object(object) => Ok(Self { object, file }),
            _ => Err(ModelError::config(file, "a JSON object", "something else")),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|v| !v.is_null())
    }

    fn wrong(&self, key: &str, expected: &str) -> ModelError {
        let got = self.get(key).map_or("nothing".into(), Value::to_string);
        ModelError::config(format!("{key} in {}", self.file), expected, got)
    }

    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
        size.map(Some).ok_or_else(|| self.wrong(key, "a whole number"))
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.optional_size(key)?.ok_or_else(|| self.wrong(key, "a whole number"))
    }

    pub(crate) fn optional_number(&self, key: &str) -> Result<Option<f32>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        number(Some(value)).map(Some).ok_or_else(|| self.wrong(key, "a number"))
    }

    pub(crate) fn number(&self, key: &str) -> Result<f32, ModelError> {
        self.optional_number(key)?.ok_or_else(|| self.wrong(key, "a number"))
    }

    pub(crate) fn optional_str(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(Value::as_str)
    }

    pub(crate) fn optional_bool(&self, key: &str) -> Option<bool> {
        self.get(key).and_then(Value::as_bool)
    }
}

/// A finite number as f32.
pub(crate) fn number(value: Option<&Value>) -> Option<f32> {
    value.and_then(Value::as_f64).map(|x| x as f32).filter(|x| x.is_finite())
}

/// A token id.
pub(crate) fn int(value: Option<&Value>) -> Option<u32> {
    value.and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok())
}
