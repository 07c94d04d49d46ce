//! The conversion: survey, plan, write, prove, publish.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bitnet_core::{HybridMemoryPool, ThreadPool};
use bitnet_format::{Checkpoint, GgufWriter, OpenOptions, SafetensorsWriter};
use bitnet_model::Part;
use bitnet_source::Source;

use crate::{
    ConvertError, ConvertReport, Target, bitnet_file, gguf, hf,
    items::{self, Filler, Writer},
    place::{self, Staging},
    survey::Survey,
    text,
    verify::{self, Allowed, Proof},
};

/// How far a conversion has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvertProgress {
    /// Bytes of matrices read so far, over all readings.
    pub done: u64,
    /// Bytes of matrices that will be read: each once to look, once to write, once to prove.
    pub total: u64,
}

/// Called now and then with how far the conversion is.
pub type OnConvertProgress = Arc<dyn Fn(ConvertProgress) + Send + Sync>;

/// What a caller of [`convert`] may choose.
#[derive(Clone, Default)]
pub struct ConvertOptions {
    /// Read I2_S tensors as 64 weights in 16 bytes, as bitnet.cpp built for ARM writes them.
    pub i2s_64: bool,
    /// Whether an output that exists is replaced.
    pub force: bool,
    /// Called now and then with how far the conversion has come.
    pub progress: Option<OnConvertProgress>,
}

/// f16 keeps 11 bits; a scale so small that it keeps fewer is refused.
const F16_LOSS: f32 = 1.0 / 1024.0;

/// Converts the model at `input` to `target` at `output`, a file or (for `hf-packed` and `hf-master`) a directory.
///
/// # Errors
/// When the model cannot be read, `target` cannot hold it, the output exists (without `force`) or is the input, the disk
/// refuses, or what was written does not read back equal. In every case nothing is left of the output.
pub fn convert(
    input: &Path,
    output: &Path,
    target: Target,
    options: &ConvertOptions,
) -> Result<ConvertReport, ConvertError> {
    let checkpoint = bitnet_source::open(input, &OpenOptions::default().i2s_64(options.i2s_64))?;
    let files: Vec<PathBuf> = checkpoint.files().map(Path::to_path_buf).collect();
    place::check(&files, input, output, target, options.force)?;
    let source = Source::new(checkpoint)?;
    source.must_be_plain("conversion")?;
    let mut meter = Meter::new(&source, options.progress.clone());
    let survey = Survey::new(&source, target, |part| meter.count(&source, part))?;
    check_losses(&survey, target)?;
    let mut notes = left_out(&source);
    let staging = Staging::new(output, target)?;
    let filler =
        Filler { source: &source, threads: &ThreadPool::new(threads()), pool: HybridMemoryPool::new() };
    // Nobody knows the temporary name.
    let renamed = |e: ConvertError| e.renamed(staging.path(), output);
    let (bytes_written, biases) =
        write(&filler, &survey, target, &staging, &mut meter, &mut notes).map_err(renamed)?;
    let written = reopen(&staging).map_err(renamed)?;
    let scale = if target.gguf().is_some() && target != Target::GgufI2S { F16_LOSS } else { 0.0 };
    let allowed = Allowed { scale, biases };
    let proof = verify::compare(&source, &written, allowed, |part| meter.count(&source, part))?;
    drop(written);
    // Once more: much may have happened since.
    place::check(&files, input, output, target, options.force)?;
    staging.publish()?;
    Ok(report(proof, target, notes, bytes_written))
}

fn reopen(staging: &Staging) -> Result<Source, ConvertError> {
    Ok(Source::new(Checkpoint::open(staging.path(), &OpenOptions::default())?)?)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Plans and writes the output; returns its bytes and whether biases are rounded.
fn write(
    filler: &Filler<'_>,
    survey: &Survey,
    target: Target,
    staging: &Staging,
    meter: &mut Meter,
    notes: &mut Vec<String>,
) -> Result<(u64, bool), ConvertError> {
    let source = filler.source;
    let progress = |part| meter.count(source, part);
    if let Some(types) = target.gguf() {
        let plan = gguf::plan(source, survey, target, types, notes)?;
        let writer = GgufWriter::create(&staging.tensors(), &plan.keys, &items::specs(&plan.items))?;
        return Ok((filler.fill(Writer::Gguf(writer), &plan.items, progress)?, false));
    }
    if target == Target::Bitnet {
        let plan = bitnet_file::plan(filler, survey, notes)?;
        let specs = items::specs(&plan.items);
        let writer = SafetensorsWriter::create(&staging.tensors(), &plan.metadata, &specs)?;
        return Ok((filler.fill(Writer::Safetensors(writer), &plan.items, progress)?, false));
    }
    let plan = hf::plan(source, survey, target, notes)?;
    // transformers refuses files that do not name their framework.
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let writer = SafetensorsWriter::create(&staging.tensors(), &metadata, &items::specs(&plan.items))?;
    let mut bytes = filler.fill(Writer::Safetensors(writer), &plan.items, progress)?;
    bytes += staging.write("config.json", &text::pretty(&plan.config))?;
    for (name, content) in text::files(source.checkpoint(), source.config(), notes)? {
        bytes += staging.write(&name, &content)?;
    }
    Ok((bytes, plan.biases_rounded))
}

/// A scale that f16 holds with fewer bits than it has would not be a rounding but another number.
fn check_losses(survey: &Survey, target: Target) -> Result<(), ConvertError> {
    let lossy = |loss: Option<f32>| loss.is_some_and(|l| l > F16_LOSS);
    match survey.projections().find(|(m, ..)| m.trits().is_some_and(|t| lossy(t.loss))) {
        Some((m, ..)) => {
            let (low, high) = m.trits().map_or((0.0, 0.0), |t| t.range);
            let reason = format!(
                "scales of '{}' ({low:e} to {high:e}) are too small for f16. `--to bitnet` and `--to hf-master` hold them",
                m.name
            );
            Err(ConvertError::Refused { target, reason })
        }
        None => Ok(()),
    }
}

/// Tensors of the file that are no part of the model.
fn left_out(source: &Source) -> Vec<String> {
    match &source.unread()[..] {
        [] => Vec::new(),
        [one] => vec![format!("tensor '{one}' is no part of the model and is not in the output")],
        [first, others @ ..] => vec![format!(
            "{} tensors that are no part of the model are not in the output (the first is '{first}')",
            others.len() + 1
        )],
    }
}

fn report(proof: Proof, target: Target, mut notes: Vec<String>, bytes_written: u64) -> ConvertReport {
    if proof.scales_equal < proof.scales {
        notes.push(format!(
            "{target} stores scales as f16: {} of {} are rounded, by {:.2e} of their value at most. `--to bitnet` and `--to \
             hf-master` keep them",
            proof.scales - proof.scales_equal,
            proof.scales,
            proof.max_scale_loss
        ));
    }
    if proof.rope_difference > 0.0 {
        let difference = proof.rope_difference;
        notes.push(format!("rotary frequencies differ by {difference:.1e} of their value at most"));
    }
    if proof.head_became_floats {
        notes.push(
            "the head's trits do not fit and are floats of the same values now: it takes activations unrounded, so logits differ \
             a little"
                .into(),
        );
    }
    ConvertReport {
        matrices: proof.matrices,
        trits_equal: proof.trits_equal,
        trits: proof.trits,
        scales_equal: proof.scales_equal,
        scales: proof.scales,
        max_scale_loss: proof.max_scale_loss,
        // One that is not equal ends the comparison.
        dense_equal: proof.dense,
        dense: proof.dense,
        vectors_equal: proof.vectors_equal,
        vectors: proof.vectors,
        notes,
        bytes_written,
    }
}

/// Counts bytes of matrices as they are read and tells the caller.
struct Meter {
    progress: ConvertProgress,
    call: Option<OnConvertProgress>,
}

impl Meter {
    fn new(source: &Source, call: Option<OnConvertProgress>) -> Self {
        let once: u64 = source.matrices().map(|part| source.byte_len(part)).sum();
        Self { progress: ConvertProgress { done: 0, total: 3 * once }, call }
    }

    fn count(&mut self, source: &Source, part: Part) {
        let ConvertProgress { done, total } = self.progress;
        self.progress.done = (done + source.byte_len(part)).min(total);
        if let Some(call) = &self.call {
            call(self.progress);
        }
    }
}
