//! What a model file holds, without running it.

use bitnet_format::Checkpoint;
use bitnet_inference::vocabulary;
use bitnet_model::{Config, ModelError, Part, Weight};
use bitnet_quant::{Granularity, PackedTernary, Scales, TernaryMatrix, TritCounts};
use bitnet_source::Source;

use crate::error::EvaluationError;

/// One matrix.
#[derive(Clone, Debug)]
pub struct MatrixReport {
    /// Name in the file.
    pub name: String,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// How the file stores it.
    pub stored: String,
    /// Bytes in the file.
    pub bytes: u64,
    /// Set for matrices of trits; of both planes together where there are two.
    pub trits: Option<TritReport>,
}

/// The trits and scales of a matrix.
#[derive(Clone, Debug)]
pub struct TritReport {
    /// How many are -1, 0, +1.
    pub counts: TritCounts,
    /// Which weights share a scale.
    pub granularity: Granularity,
    /// Smallest and largest scale.
    pub scale_range: (f32, f32),
}

/// Everything about a model.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Sizes and constants.
    pub config: Config,
    /// Matrices, in the order in which a token meets them.
    pub matrices: Vec<MatrixReport>,
    /// Parameters in norms and biases.
    pub vector_parameters: usize,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Bytes of the matrices in memory.
    pub weight_bytes: u64,
    /// Projections in blocks.
    pub projections: usize,
    /// Those of them that hold floats, or blocks that stand for floats: they take activations as they are.
    pub dense_projections: usize,
    /// The tokens that end a generation, with their texts.
    pub stop_tokens: Vec<(u32, String)>,
    /// What looks wrong or deserves a word.
    pub warnings: Vec<String>,
}

/// Reads every part of a checkpoint. Calls `progress(done, total)` in matrices.
///
/// # Errors
/// The first part that cannot be read.
pub fn inspect(
    checkpoint: Checkpoint,
    mut progress: impl FnMut(usize, usize),
) -> Result<Inspection, EvaluationError> {
    let source = Source::to_look_at(checkpoint)?;
    let config = source.config().clone();
    let parts: Vec<Part> = source.matrices().collect();
    let (mut matrices, mut weight_bytes, mut warnings) = (Vec::new(), 0, leftovers(&source));
    let (mut projections, mut dense_projections) = (0, 0);
    for (done, &part) in parts.iter().enumerate() {
        let weight = source.weight(part)?;
        let (name, shape) = (source.name(part), weight.shape());
        let of_block = matches!(part, Part::Weight(..));
        projections += usize::from(of_block);
        dense_projections += usize::from(of_block && matches!(weight, Weight::Table(_)));
        weight_bytes += in_memory(&weight);
        // What looks odd for a matrix that was trained is right for one of two planes.
        let alone = !matches!(weight, Weight::Planes(_));
        let trits = trits_of(&name, weight)?;
        if let Some(t) = trits.as_ref().filter(|_| alone) {
            warnings.extend(suspicions(&name, t));
        }
        let stored = source.stored_as(part);
        matrices.push(MatrixReport { name, shape, stored, bytes: source.byte_len(part), trits });
        progress(done + 1, parts.len());
    }
    let mut vector_parameters = 0;
    for part in source.vectors() {
        vector_parameters += source.vector(part)?.map_or(0, |v| v.len());
    }
    let stop_tokens = ends_of_turns(&source, &mut warnings);
    let file_bytes = source.checkpoint().file_bytes();
    Ok(Inspection {
        config,
        matrices,
        vector_parameters,
        file_bytes,
        weight_bytes,
        projections,
        dense_projections,
        stop_tokens,
        warnings,
    })
}

/// What is wrong with the tensors that no part of the model reads: whether the model is refused for it, and their names.
fn leftovers(source: &Source) -> Vec<String> {
    const SHOWN: usize = 20;
    let refusal = source.refused().map(|error| format!("it will not run: {error}"));
    let unread = source.unread();
    let more = unread.len().saturating_sub(SHOWN);
    let list = (!unread.is_empty()).then(|| {
        let names = unread.iter().take(SHOWN).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        match unread.len() {
            1 => format!("1 tensor is no part of the model: {names}"),
            n => format!("{n} tensors are no part of the model: {names}{more}"),
        }
    });
    refusal.into_iter().chain(list).chain(source.doubts()).collect()
}

/// The stop tokens with their texts. Warns of a tokenizer or template that cannot be read, and of ends of turns outside the set.
fn ends_of_turns(source: &Source, warnings: &mut Vec<String>) -> Vec<(u32, String)> {
    let (checkpoint, config) = (source.checkpoint(), source.config());
    let tokenizer = vocabulary::tokenizer(checkpoint).unwrap_or_else(|error| {
        warnings.push(format!("the tokenizer cannot be read: {error}"));
        None
    });
    let stops = vocabulary::stop_tokens(checkpoint, config, tokenizer.as_ref());
    match (vocabulary::chat_template(checkpoint, tokenizer.as_ref()), &tokenizer) {
        (Ok(Some(template)), Some(tokenizer)) => {
            warnings.extend(vocabulary::end_outside(&template, tokenizer, &stops));
        }
        (Err(error), _) => warnings.push(format!("the chat template cannot be used: {error}")),
        _ => {}
    }
    let text = |id: u32| {
        let bytes = tokenizer.as_ref().and_then(|t| t.token_bytes(id)).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    stops.into_iter().map(|id| (id, text(id))).collect()
}

/// Bytes of a matrix in memory.
fn in_memory(weight: &Weight) -> u64 {
    match weight {
        Weight::Table(table) => table.byte_len() as u64,
        Weight::Planes(planes) => planes.iter().map(in_memory).sum(),
        trits => PackedTernary::byte_len(trits.shape()[0], trits.shape()[1]).unwrap_or(0) as u64,
    }
}

fn trits_of(name: &str, weight: Weight) -> Result<Option<TritReport>, EvaluationError> {
    Ok(match weight {
        Weight::Planes(planes) => {
            let [first, second] = *planes;
            let [first, second] = [trits_of(name, first)?, trits_of(name, second)?];
            first.zip(second).map(|(a, b)| TritReport {
                counts: TritCounts {
                    minus: a.counts.minus + b.counts.minus,
                    zero: a.counts.zero + b.counts.zero,
                    plus: a.counts.plus + b.counts.plus,
                },
                granularity: a.granularity,
                scale_range: (a.scale_range.0.min(b.scale_range.0), a.scale_range.1.max(b.scale_range.1)),
            })
        }
        weight => weight.trits().map_err(ModelError::quant(name))?.map(|trits| report(&trits)),
    })
}

fn report(matrix: &TernaryMatrix) -> TritReport {
    let scales: &Scales = matrix.scales();
    let range = scales
        .values()
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &s| (lo.min(s), hi.max(s)));
    TritReport { counts: matrix.counts(), granularity: scales.granularity(), scale_range: range }
}

/// What trained matrices do not look like.
fn suspicions(name: &str, t: &TritReport) -> Option<String> {
    let TritCounts { minus, zero, plus } = t.counts;
    let total = (minus + zero + plus) as f64;
    let share = zero as f64 / total;
    if minus + plus == 0 {
        return Some(format!("{name} is all zeros"));
    }
    if zero == 0 {
        return Some(format!("{name} has no zeros: it looks binary, not ternary"));
    }
    if share > 0.9 {
        return Some(format!("{name} is {:.0} % zeros", 100.0 * share));
    }
    if (minus as f64 - plus as f64).abs() > 0.2 * total {
        return Some(format!(
            "{name} has {minus} weights of -1 and {plus} of +1: its signs are out of balance"
        ));
    }
    match t.scale_range {
        (lo, _) if lo < 0.0 => Some(format!("{name} has a negative scale, {lo}")),
        (_, hi) if hi > 8.0 => Some(format!("{name} has a scale of {hi}: was its reciprocal meant?")),
        _ => None,
    }
}
