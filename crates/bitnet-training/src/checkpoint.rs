//! Checkpoints: everything that a run needs to go on as if it had never stopped, in one safetensors file.
//!
//! A file appears whole, synced and under its name, or not at all (`bitnet-format`'s writer). It holds the masters, the
//! optimizer's means, the state as JSON text, and a checksum over names and bytes of all others. Numbers are stored as they
//! are, so a run that goes on has the bits of one that never stopped.

use std::path::{Path, PathBuf};

use bitnet_format::{Checkpoint, HfMetadata, SafetensorsWriter, TensorSpec, TensorType};
use burn_tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{AdamW, AdamWOptions, Parameters, TrainError, windows::Position};

const STATE: &str = "state";
const CHECKSUM: &str = "checksum";
const FIRST: &str = "step-";
const LAST: &str = ".safetensors";

/// What a run knows besides its tensors. Floats are kept as their bits: text would round them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Steps that the run has done.
    pub step: u64,
    /// Steps that the optimizer has done.
    pub optimizer_step: u64,
    /// Times that all windows of the text were seen.
    pub epoch: u64,
    /// Windows of this epoch that were seen.
    pub window: u64,
    /// The running mean of the loss, as bits.
    pub mean_loss: u64,
    /// The lowest that it was, as bits.
    pub lowest_loss: u64,
    /// The lowest validation loss; runs that never looked have none.
    #[serde(default)]
    pub lowest_validation: Option<Lowest>,
    /// What decides the run's numbers: a run that goes on must have the same.
    pub identity: Vec<(String, String)>,
}

impl State {
    pub(crate) fn position(&self) -> Position {
        Position { epoch: self.epoch, window: self.window }
    }
}

/// What a checkpoint holds, read back.
#[derive(Debug)]
pub struct Saved {
    /// The f32 masters, as they were trained.
    pub parameters: Parameters,
    /// The optimizer with both of its means.
    pub optimizer: AdamW,
    /// What the run knew besides its tensors.
    pub state: State,
}

/// A checkpoint that cannot be used, and why.
#[derive(Debug)]
pub struct Skipped {
    /// The file that was passed over.
    pub path: PathBuf,
    /// Why the file was passed over.
    pub reason: TrainError,
}

/// The name of the checkpoint behind `step` steps.
pub(crate) fn name(step: u64) -> String {
    format!("{FIRST}{step:010}{LAST}")
}

/// The lowest validation loss of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lowest {
    /// Steps that were done when the loss was lowest.
    pub step: u64,
    /// The lowest validation loss, an f64 as its bits.
    pub bits: u64,
    /// Validations that have been no better since.
    pub since: u64,
}

impl Lowest {
    /// The lowest validation loss, in nats per token.
    pub fn loss(&self) -> f64 {
        f64::from_bits(self.bits)
    }
}

/// Writes a checkpoint into `directory` and removes all but the last `keep`. Returns its path.
///
/// # Errors
/// When the disk refuses; the checkpoints before it are then as they were.
pub fn save(
    directory: &Path,
    parameters: &Parameters,
    optimizer: &AdamW,
    state: &State,
    keep: usize,
) -> Result<PathBuf, TrainError> {
    let io = |error| TrainError::Io { path: directory.into(), error };
    std::fs::create_dir_all(directory).map_err(io)?;
    let path = directory.join(name(state.step));
    let text = serde_json::to_vec(state).map_err(|e| io(e.into()))?;
    let mut specs = Vec::new();
    for p in parameters.trained() {
        let names = tensor_names(&p.name());
        specs.extend(names.map(|name| TensorSpec::new(name, TensorType::F32, p.values.dims())));
    }
    specs.push(TensorSpec::new(STATE, TensorType::U8, [text.len()]));
    specs.push(TensorSpec::new(CHECKSUM, TensorType::U8, [8]));
    let mut writer = SafetensorsWriter::create(&path, &Default::default(), &specs)?;
    let mut checksum = Checksum::new();
    let mut write = |name: &str, bytes: &[u8]| {
        checksum.add(name, bytes);
        writer.write(name, bytes)
    };
    for (p, [mean, square]) in parameters.trained().zip(optimizer.means()) {
        for (name, tensor) in tensor_names(&p.name()).iter().zip([&p.values, mean, square]) {
            write(name, tensor.clone().into_data().as_bytes())?;
        }
    }
    write(STATE, &text)?;
    let sum = checksum.0.to_le_bytes();
    writer.write(CHECKSUM, &sum)?;
    writer.finish()?;
    prune(directory, keep)?;
    Ok(path)
}

/// Removes all checkpoints of a directory but the last `keep`.
pub(crate) fn prune(directory: &Path, keep: usize) -> Result<(), TrainError> {
    for old in list(directory)?.into_iter().skip(keep.max(1)) {
        std::fs::remove_file(&old).map_err(|error| TrainError::Io { path: old, error })?;
    }
    Ok(())
}

/// The newest checkpoint of `directory` that is whole, and those that had to be passed over; `None` when there is none.
/// Temporary files that a killed run left are removed. `like` are the run's parameters: their names and shapes, and the values
/// of frozen ones.
///
/// # Errors
/// When the directory cannot be read.
pub fn load_last(
    directory: &Path,
    like: &Parameters,
    options: AdamWOptions,
) -> Result<(Option<Saved>, Vec<Skipped>), TrainError> {
    let mut skipped = Vec::new();
    if !directory.is_dir() {
        return Ok((None, skipped));
    }
    remove_partial(directory)?;
    for path in list(directory)? {
        match load(&path, like, options) {
            Ok(saved) => return Ok((Some(saved), skipped)),
            Err(reason) => skipped.push(Skipped { path, reason }),
        }
    }
    Ok((None, skipped))
}

/// Reads one checkpoint of a run whose parameters are `like` those.
///
/// # Errors
/// [`TrainError::Damaged`] for a wrong checksum or missing parts, the reader's errors for what is no safetensors file.
pub fn load(path: &Path, like: &Parameters, options: AdamWOptions) -> Result<Saved, TrainError> {
    let damaged = |what: String| TrainError::Damaged { path: path.into(), what };
    let bytes = std::fs::read(path).map_err(|error| TrainError::Io { path: path.into(), error })?;
    let metadata = HfMetadata::default();
    let file =
        Checkpoint::from_safetensors(vec![bytes.into()], metadata).map_err(|e| damaged(e.to_string()))?;
    let tensor = |name: &str| file.tensor(name).map_err(|e| damaged(e.to_string()));
    let mut checksum = Checksum::new();
    let mut means = Vec::new();
    for p in like.trained() {
        for name in tensor_names(&p.name()) {
            let (view, shape) = (tensor(&name)?, p.values.dims());
            if view.info().ty() != TensorType::F32 || view.info().shape() != shape {
                let got = view.info().shape();
                return Err(damaged(format!("'{name}' is {got:?}, and the model has {shape:?} there")));
            }
            checksum.add(&name, view.bytes());
        }
    }
    let state = tensor(STATE)?;
    checksum.add(STATE, state.bytes());
    if tensor(CHECKSUM)?.bytes() != checksum.0.to_le_bytes() {
        return Err(damaged("its checksum is not that of its bytes".into()));
    }
    let state: State = serde_json::from_slice(state.bytes()).map_err(|e| damaged(e.to_string()))?;
    let mut parameters = like.clone();
    for p in parameters.list_mut().iter_mut().filter(|p| !p.frozen) {
        let (shape, device) = (p.values.dims(), p.values.device());
        let read = |name: &str| -> Result<Tensor<2>, TrainError> {
            Ok(Tensor::from_data(TensorData::new(tensor(name)?.to_f32()?, shape), &device))
        };
        let [master, mean, square] = tensor_names(&p.name());
        p.values = read(&master)?;
        means.push([read(&mean)?, read(&square)?]);
    }
    let optimizer = AdamW::from_state(options, state.optimizer_step, means);
    Ok(Saved { parameters, optimizer, state })
}

/// What a checkpoint says of the run that wrote it, whatever its parameters are; `None` when it says nothing that can be read.
pub(crate) fn identity(path: &Path) -> Option<Vec<(String, String)>> {
    let bytes = std::fs::read(path).ok()?;
    let metadata = HfMetadata::default();
    let file = Checkpoint::from_safetensors(vec![bytes.into()], metadata).ok()?;
    let state: State = serde_json::from_slice(file.tensor(STATE).ok()?.bytes()).ok()?;
    Some(state.identity)
}

/// The tensors of a parameter: its values and its two means.
fn tensor_names(parameter: &str) -> [String; 3] {
    ["master", "mean", "square"].map(|kind| format!("{kind}.{parameter}"))
}

/// The checkpoints of a directory, the newest first.
fn list(directory: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut paths = files(directory, |name| name.starts_with(FIRST) && name.ends_with(LAST))?;
    // Steps have a fixed number of digits.
    paths.sort_unstable_by(|a, b| b.cmp(a));
    Ok(paths)
}

fn remove_partial(directory: &Path) -> Result<(), TrainError> {
    for path in files(directory, |name| name.starts_with(".step-") && name.ends_with(".partial"))? {
        std::fs::remove_file(&path).map_err(|error| TrainError::Io { path, error })?;
    }
    Ok(())
}

fn files(directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, TrainError> {
    let io = |error| TrainError::Io { path: directory.into(), error };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_name().to_str().is_some_and(&wanted) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// A sum over names and bytes. Every step is a bijection of the sum, so that one changed word always shows; it is against
/// damage, not against malice.
struct Checksum(u64);

impl Checksum {
    fn new() -> Self {
        Self(0x2545_f491_4f6c_dd1d)
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
    }

    fn add(&mut self, name: &str, bytes: &[u8]) {
        for part in [name.as_bytes(), bytes] {
            self.word(part.len() as u64);
            let (words, tail) = part.as_chunks::<8>();
            words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
            let mut last = [0; 8];
            last[..tail.len()].copy_from_slice(tail);
            self.word(u64::from_le_bytes(last));
        }
    }
}
