//! The `post_processor` section: which ids stand around a text.

use crate::error::TextError;
use serde_json::Value;

/// Tokens around a text; real files have two or three.
const MAX_AROUND: usize = 64;
const POST_PROCESSORS: &str = "BertProcessing, ByteLevel, RobertaProcessing, Sequence, TemplateProcessing";

/// The ids that the post-processor puts around a single text.
pub(super) fn around(value: Option<&Value>, size: usize) -> Result<(Vec<u32>, Vec<u32>), TextError> {
    let mut found = (Vec::new(), Vec::new());
    if let Some(value) = value {
        add_around(value, size, &mut found)?;
    }
    bounded(found.0.len() + found.1.len())?;
    Ok(found)
}

/// Checked as tokens are added: a template may name a list of ten thousand ids a hundred thousand times.
fn bounded(tokens: usize) -> Result<(), TextError> {
    if tokens > MAX_AROUND {
        let reason = format!("more than {MAX_AROUND} tokens around a text");
        return Err(TextError::invalid("post_processor", reason));
    }
    Ok(())
}

fn add_around(value: &Value, size: usize, found: &mut (Vec<u32>, Vec<u32>)) -> Result<(), TextError> {
    match value.get("type").and_then(Value::as_str).unwrap_or("") {
        "ByteLevel" => {}
        "BertProcessing" | "RobertaProcessing" => {
            let id = |key: &str| value.get(key).and_then(|pair| pair.get(1)).and_then(Value::as_u64);
            found.0.insert(0, checked(id("cls"), size)?);
            found.1.push(checked(id("sep"), size)?);
        }
        "Sequence" => {
            for part in value.get("processors").and_then(Value::as_array).into_iter().flatten() {
                add_around(part, size, found)?;
            }
        }
        "TemplateProcessing" => {
            bounded(found.0.len() + found.1.len())?;
            let (before, after) = template(value, size)?;
            found.0.splice(0..0, before);
            found.1.extend(after);
        }
        other => {
            return Err(TextError::Unsupported {
                part: "post_processor",
                found: other.to_string(),
                supported: POST_PROCESSORS,
            });
        }
    }
    Ok(())
}

/// An id that a post-processor names, if the vocabulary has it.
fn checked(id: Option<u64>, size: usize) -> Result<u32, TextError> {
    let id = id.and_then(|id| u32::try_from(id).ok()).filter(|&id| (id as usize) < size);
    id.ok_or_else(|| TextError::invalid("post_processor", "names an id that is not in the vocabulary"))
}

/// The ids before and after `A` in the `single` list of a TemplateProcessing.
fn template(value: &Value, size: usize) -> Result<(Vec<u32>, Vec<u32>), TextError> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut seen_text = false;
    for item in value.get("single").and_then(Value::as_array).into_iter().flatten() {
        if item.get("Sequence").is_some() {
            if std::mem::replace(&mut seen_text, true) {
                return Err(TextError::invalid("post_processor", "uses the text twice"));
            }
            continue;
        }
        let name = item.get("SpecialToken").and_then(|t| t.get("id")).and_then(Value::as_str);
        let entry = name.and_then(|name| value.get("special_tokens").and_then(|t| t.get(name)));
        let ids = entry.and_then(|e| e.get("ids")).and_then(Value::as_array);
        let Some(ids) = ids else {
            return Err(TextError::invalid("post_processor", "a special token without ids"));
        };
        for id in ids {
            if seen_text { &mut after } else { &mut before }.push(checked(id.as_u64(), size)?);
            bounded(before.len() + after.len())?;
        }
    }
    Ok((before, after))
}
