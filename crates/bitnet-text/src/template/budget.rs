//! What one rendering may cost, and the operations that need to look before they make something large.

use crate::error::TextError;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Steps of the engine. A message takes some hundreds.
const FUEL: u64 = 5_000_000;
/// Bytes of values a rendering may handle, besides what it gets for each byte of the conversation.
const TOTAL: u64 = 64 << 20;
/// Bytes one value may have, besides what it gets for each byte of the conversation.
const LARGEST: u64 = 1 << 20;
/// Lists in lists; deeper ones would exhaust the stack when printed or dropped.
const DEPTH: usize = 32;
/// What a value weighs besides its text.
const NODE: u64 = 32;

/// Why a rendering was stopped by us, since the engine only passes on a sentence.
enum Stop {
    Limit(&'static str),
    Refused(String),
}

/// The account of one rendering.
pub(super) struct Budget {
    left: AtomicU64,
    largest: u64,
    stop: Mutex<Option<Stop>>,
}

impl Budget {
    /// `input` is the size of the conversation and the template in bytes.
    pub(super) fn new(input: usize) -> Arc<Self> {
        let input = input as u64;
        Arc::new(Self {
            left: AtomicU64::new(TOTAL + 256 * input),
            largest: LARGEST + 8 * input,
            stop: Mutex::new(None),
        })
    }

    fn stop(&self, stop: Stop) -> Error {
        let sentence = match &stop {
            Stop::Limit(what) => format!("limit of {what}"),
            Stop::Refused(reason) => reason.clone(),
        };
        if let Ok(mut slot) = self.stop.lock() {
            slot.get_or_insert(stop);
        }
        Error::new(ErrorKind::InvalidOperation, sentence)
    }

    /// Takes `cost` from the account, for one value that weighs as much.
    fn charge(&self, cost: u64) -> Result<(), Error> {
        if cost > self.largest {
            return Err(self.stop(Stop::Limit("the size of one value")));
        }
        let taken =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost));
        taken.map(drop).map_err(|_| self.stop(Stop::Limit("memory and work")))
    }

    /// Weighs a value with everything in it and charges for it. Works without recursion: the value may contain itself.
    fn weigh(&self, value: &Value) -> Result<u64, Error> {
        let mut weight = 0;
        let mut open = vec![(value.clone(), 0)];
        while let Some((value, depth)) = open.pop() {
            weight += NODE + value.as_bytes().map_or(0, |b| b.len() as u64);
            let container = matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable);
            if container {
                if depth >= DEPTH {
                    return Err(self.stop(Stop::Limit("nested lists")));
                }
                let is_map = value.kind() == ValueKind::Map;
                for item in value.try_iter()? {
                    weight += NODE;
                    if weight > self.largest {
                        break;
                    }
                    if is_map {
                        open.push((value.get_item(&item)?, depth + 1));
                    }
                    open.push((item, depth + 1));
                }
            }
            if weight > self.largest {
                return Err(self.stop(Stop::Limit("the size of one value")));
            }
        }
        self.charge(weight)?;
        Ok(weight)
    }

    /// What ended a rendering, in this crate's words.
    pub(super) fn explain(&self, error: &Error) -> TextError {
        if error.kind() == ErrorKind::OutOfFuel {
            return TextError::Limit("steps".into());
        }
        match self.stop.lock().ok().and_then(|mut slot| slot.take()) {
            Some(Stop::Limit(what)) => TextError::Limit(what.into()),
            Some(Stop::Refused(reason)) => TextError::Refused(reason),
            // The engine has no kind of its own for this.
            None if error.detail().is_some_and(|d| d.contains("recursion limit")) => {
                TextError::Limit("nested calls".into())
            }
            None => TextError::Template(error.to_string()),
        }
    }
}

/// Puts the weighing functions and the guarded filters and methods into `env`.
pub(super) fn install(env: &mut Environment<'_>, budget: &Arc<Budget>) {
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(64);
    let b = Arc::clone(budget);
    env.add_function(super::armour::WEIGH, move |value: Value| b.weigh(&value).map(|_| value));
    let b = Arc::clone(budget);
    env.add_function(super::armour::TIMES, move |left: Value, right: Value| times(&b, &left, &right));
    let b = Arc::clone(budget);
    env.add_function("raise_exception", move |reason: String| -> Result<Value, Error> {
        Err(b.stop(Stop::Refused(reason)))
    });
    let b = Arc::clone(budget);
    env.set_formatter(move |out, _, value| emit(&b, out, value));
    let b = Arc::clone(budget);
    env.add_filter("replace", move |text: &str, from: &str, to: &str| replace(&b, text, from, to, None));
    let b = Arc::clone(budget);
    env.add_filter("join", move |items: Value, separator: Option<String>, attribute: Option<String>| {
        join(&b, &items, separator.as_deref().unwrap_or(""), attribute.as_deref())
    });
    let b = Arc::clone(budget);
    env.add_filter("indent", move |text: &str, rest: Rest<Value>, options: Kwargs| {
        indent(&b, text, &rest, &options)
    });
    let b = Arc::clone(budget);
    env.set_unknown_method_callback(move |state, value, method, args| {
        call_method(&b, state, value, method, args)
    });
    // These make as much as a number in the template says; no shipped template uses them.
    for filter in ["batch", "slice", "format", "pprint"] {
        env.remove_filter(filter);
    }
}

/// Writes a value as Python would.
fn emit(budget: &Budget, out: &mut Output<'_>, value: &Value) -> Result<(), Error> {
    budget.weigh(value)?;
    let written = match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::None => out.write_str("None"),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
        _ => match value.as_str() {
            Some(text) => out.write_str(text),
            None => write!(out, "{value}"),
        },
    };
    written.map_err(|_| Error::new(ErrorKind::WriteFailure, "could not write"))
}

fn times(budget: &Budget, left: &Value, right: &Value) -> Result<Value, Error> {
    let wrong = || {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("cannot multiply {} and {}", left.kind(), right.kind()),
        )
    };
    match (left.kind(), right.kind()) {
        (ValueKind::Number, ValueKind::Number) => match (left.as_i64(), right.as_i64()) {
            (Some(a), Some(b)) if left.is_integer() && right.is_integer() => {
                a.checked_mul(b).map(Value::from).ok_or_else(wrong)
            }
            _ => {
                let (a, b) = (f64::try_from(left.clone())?, f64::try_from(right.clone())?);
                Ok(Value::from(a * b))
            }
        },
        (ValueKind::Number, _) => times(budget, right, left),
        (ValueKind::String | ValueKind::Seq, ValueKind::Number) => {
            let count = right.as_i64().ok_or_else(wrong)?.max(0) as u64;
            budget.charge(budget.weigh(left)?.saturating_mul(count))?;
            if let Some(text) = left.as_str() {
                return Ok(Value::from(text.repeat(count as usize)));
            }
            let items: Vec<Value> = left.try_iter()?.collect();
            let length = items.len() * count as usize;
            Ok(items.into_iter().cycle().take(length).collect())
        }
        _ => Err(wrong()),
    }
}

fn replace(budget: &Budget, text: &str, from: &str, to: &str, count: Option<usize>) -> Result<String, Error> {
    let found = text.matches(from).count().min(count.unwrap_or(usize::MAX)) as u64;
    budget.charge(text.len() as u64 + found.saturating_mul(to.len() as u64))?;
    Ok(match count {
        Some(count) => text.replacen(from, to, count),
        None => text.replace(from, to),
    })
}

fn join(budget: &Budget, items: &Value, separator: &str, attribute: Option<&str>) -> Result<String, Error> {
    let mut out = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let item = match attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        if index > 0 {
            out.push_str(separator);
        }
        match item.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&item.to_string()),
        }
        if out.len() as u64 > budget.largest {
            break;
        }
    }
    budget.charge(out.len() as u64)?;
    Ok(out)
}

/// Jinja's `indent(width=4, first=false, blank=false)`; the width may be a text.
fn indent(budget: &Budget, text: &str, rest: &[Value], options: &Kwargs) -> Result<String, Error> {
    let option = |index: usize, name: &str| -> Result<Value, Error> {
        let named: Option<Value> = options.get(name)?;
        Ok(named.or_else(|| rest.get(index).cloned()).unwrap_or_default())
    };
    let width = option(0, "width")?;
    let (first, blank) = (option(1, "first")?.is_true(), option(2, "blank")?.is_true());
    options.assert_all_used()?;
    let size = width.as_usize().unwrap_or(4);
    let lines = text.lines().count() as u64 + 1;
    let step = width.as_str().map_or(size, str::len) as u64;
    budget.charge((text.len() as u64).saturating_add(lines.saturating_mul(step)))?;
    let margin = width.as_str().map_or_else(|| " ".repeat(size), str::to_string);
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if (index > 0 || first) && (blank || !line.is_empty()) {
            out.push_str(&margin);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// Python's methods of strings, lists and dictionaries.
fn call_method(
    budget: &Budget,
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), method, args) {
        (Some(text), "replace", [from, to, rest @ ..]) => {
            let (Some(from), Some(to)) = (from.as_str(), to.as_str()) else {
                return Err(Error::new(ErrorKind::InvalidOperation, "replace wants two strings"));
            };
            let count = rest.first().and_then(Value::as_usize);
            replace(budget, text, from, to, count).map(Value::from)
        }
        (Some(separator), "join", [items]) => join(budget, items, separator, None).map(Value::from),
        // Its field widths make as much as a number in the template says.
        (Some(text), "format", _) if text.contains(':') => {
            Err(Error::new(ErrorKind::InvalidOperation, "format with field widths is not supported"))
        }
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}
