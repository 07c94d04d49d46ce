//! What one rendering may cost.

use crate::error::TextError;
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Steps of the engine. A message takes some hundreds.
pub(super) const FUEL: u64 = 5_000_000;
/// Bytes of values a rendering may handle, besides what it gets for each byte of the conversation.
const TOTAL: u64 = 64 << 20;
/// Bytes one value may have, besides what it gets for each byte of the conversation.
const LARGEST: u64 = 1 << 20;
/// Lists in lists; deeper ones would exhaust the stack when printed or dropped.
const DEPTH: usize = 32;
/// What a value weighs besides its text.
pub(super) const NODE: u64 = 32;

/// Why a rendering was stopped by us, since the engine only passes on a sentence.
enum Stop {
    Limit(&'static str),
    Refused(String),
}

/// What one rendering has spent of its limits on steps and bytes.
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

    /// Ends the rendering because the template asks for it.
    pub(super) fn refuse(&self, reason: String) -> Error {
        self.stop(Stop::Refused(reason))
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
    pub(super) fn charge(&self, cost: u64) -> Result<(), Error> {
        if cost > self.largest {
            return Err(self.stop(Stop::Limit("the size of one value")));
        }
        self.work(cost)
    }

    /// Takes `cost` from the account, for looking at as many bytes.
    pub(super) fn work(&self, cost: u64) -> Result<(), Error> {
        let taken =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(cost));
        taken.map(drop).map_err(|_| self.stop(Stop::Limit("memory and work")))
    }

    /// The most bytes that a single value may have.
    pub(super) fn largest(&self) -> u64 {
        self.largest
    }

    /// Charges for a look at a value itself: a text is read to its end; how long a list is, it knows.
    pub(super) fn glance(&self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::Iterable if value.len().is_none() => self.weigh(value).map(drop),
            _ => self.work(value.as_bytes().map_or(0, |b| b.len() as u64)),
        }
    }

    /// Charges for a walk along a value, without a look at what is in its items.
    pub(super) fn walk(&self, value: &Value) -> Result<(), Error> {
        self.glance(value)?;
        self.work(items(value) as u64)
    }

    /// Weighs a value with everything in it and charges for it. Works without recursion: the value may contain itself.
    pub(super) fn weigh(&self, value: &Value) -> Result<u64, Error> {
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

/// How many items a list or a mapping has; none for other values.
pub(super) fn items(value: &Value) -> usize {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => value.len().unwrap_or(0),
        _ => 0,
    }
}
