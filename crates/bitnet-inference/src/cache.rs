//! Loaded models, kept while there is room.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bitnet_core::Purpose;

use crate::{EngineError, InferenceEngine, LoadOptions};

/// Models by path, the least recently used of which leave when their bytes exceed a budget.
///
/// A model is charged with what it holds: its files (mapped) and the pool's weights. A model that somebody still uses never
/// leaves, since forgetting it would free nothing: only then can the total be above the budget. Files that have
/// changed since they were loaded are loaded again. Two callers that want the same model at once load it once.
///
/// ```no_run
/// use bitnet_inference::{LoadOptions, ModelCache};
///
/// # fn main() -> Result<(), bitnet_inference::EngineError> {
/// let cache = ModelCache::new(8 << 30, LoadOptions::default());
/// let engine = cache.get("model.bitnet")?; // loads it
/// let again = cache.get("model.bitnet")?; // does not
/// # Ok(())
/// # }
/// ```
pub struct ModelCache {
    budget: u64,
    options: LoadOptions,
    entries: Mutex<Entries>,
}

/// What a [`ModelCache`] holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelCacheUse {
    /// Models held.
    pub models: usize,
    /// Bytes that they are charged with.
    pub bytes: u64,
    /// Requests that found their model.
    pub hits: u64,
    /// Requests that loaded it.
    pub loads: u64,
    /// Models that have left, for room or because their files changed.
    pub evictions: u64,
}

#[derive(Default)]
struct Entries {
    slots: HashMap<PathBuf, Entry>,
    /// Counts requests: the last one's number is a model's age.
    clock: u64,
    counts: ModelCacheUse,
}

struct Entry {
    slot: Arc<Slot>,
    stamp: Vec<Stamp>,
    used: u64,
}

/// Where the one who loads leaves the model for those who wait.
type Slot = Mutex<Option<InferenceEngine>>;

/// What tells a changed file: its name, length and time.
type Stamp = (PathBuf, u64, Option<SystemTime>);

impl ModelCache {
    /// A cache of up to `budget` bytes; every model is loaded with `options`.
    pub fn new(budget: u64, options: LoadOptions) -> Self {
        Self { budget, options, entries: Mutex::default() }
    }

    /// The model at `path`, loaded unless it is here.
    ///
    /// # Errors
    /// As [`InferenceEngine::load`]; nothing is kept then.
    pub fn get(&self, path: impl AsRef<Path>) -> Result<InferenceEngine, EngineError> {
        let path = path.as_ref();
        // A path that cannot be resolved or read is the loader's to complain about.
        let key = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let stamp = stamp(&key).unwrap_or_default();
        let slot = self.entries().slot(&key, stamp);
        let mut model = lock(&slot);
        if let Some(engine) = &*model {
            self.entries().counts.hits += 1;
            return Ok(engine.clone());
        }
        match InferenceEngine::load(path, &self.options) {
            Ok(engine) => {
                *model = Some(engine.clone());
                drop(model);
                let mut entries = self.entries();
                entries.counts.loads += 1;
                entries.shrink(self.budget);
                Ok(engine)
            }
            Err(error) => {
                let mut entries = self.entries();
                if entries.slots.get(&key).is_some_and(|entry| Arc::ptr_eq(&entry.slot, &slot)) {
                    entries.slots.remove(&key);
                }
                Err(error)
            }
        }
    }

    /// Forgets every model that nobody uses.
    pub fn clear(&self) {
        self.entries().shrink(0);
    }

    /// What it holds now, and what it did.
    pub fn usage(&self) -> ModelCacheUse {
        let entries = self.entries();
        let held = entries.slots.values().filter_map(Entry::bytes);
        let (models, bytes) = held.fold((0, 0), |(models, bytes), more| (models + 1, bytes + more));
        ModelCacheUse { models, bytes, ..entries.counts }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        lock(&self.entries)
    }
}

impl Entries {
    /// The place of a model, marked as used now.
    fn slot(&mut self, key: &Path, stamp: Vec<Stamp>) -> Arc<Slot> {
        self.clock += 1;
        let used = self.clock;
        if let Some(entry) = self.slots.get_mut(key) {
            if entry.stamp == stamp {
                entry.used = used;
                return entry.slot.clone();
            }
            self.counts.evictions += 1;
        }
        let slot = Arc::new(Mutex::new(None));
        self.slots.insert(key.to_owned(), Entry { slot: slot.clone(), stamp, used });
        slot
    }

    /// Lets idle models go, the longest unused first, until the rest fits.
    fn shrink(&mut self, budget: u64) {
        let mut bytes: u64 = self.slots.values().filter_map(Entry::bytes).sum();
        while bytes > budget {
            let idle = self.slots.iter().filter(|(_, entry)| entry.idle());
            let Some((oldest, entry)) = idle.min_by_key(|(_, entry)| entry.used) else { return };
            bytes -= entry.bytes().unwrap_or(0);
            let oldest = oldest.clone();
            self.slots.remove(&oldest);
            self.counts.evictions += 1;
        }
    }
}

impl Entry {
    /// Bytes that the model is charged with; `None` while it is being loaded.
    fn bytes(&self) -> Option<u64> {
        let model = self.slot.try_lock().ok()?;
        let engine = model.as_ref()?;
        Some(engine.info().file_bytes + engine.memory().usage(Purpose::Weights).current as u64)
    }

    /// Whether nobody but the cache holds the model. Nobody can begin to while the entries are locked.
    fn idle(&self) -> bool {
        let Ok(model) = self.slot.try_lock() else { return false };
        model.as_ref().is_some_and(|engine| Arc::strong_count(&engine.inner) == 1)
            && Arc::strong_count(&self.slot) == 1
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-done when a holder panics: the values are replaced as wholes.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Marks of the file, or of the files directly in the directory.
fn stamp(path: &Path) -> io::Result<Vec<Stamp>> {
    let mark = |path: PathBuf| -> io::Result<Stamp> {
        let metadata = fs::metadata(&path)?;
        Ok((path, metadata.len(), metadata.modified().ok()))
    };
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![mark(path.to_owned())?]);
    }
    let mut stamps = fs::read_dir(path)?.map(|entry| mark(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    stamps.sort();
    Ok(stamps)
}
