//! The proof: what was written, read back by the ordinary reader and compared with what was read.

use bitnet_model::{Config, ModelError, Part};
use bitnet_quant::{Granularity, Scales, TernaryMatrix};
use bitnet_source::Source;

use crate::{
    ConvertError,
    matrix::{self, Matrix},
    rope,
};

/// What was compared, and how much of it is equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Proof {
    pub(crate) matrices: u64,
    pub(crate) trits: u64,
    pub(crate) trits_equal: u64,
    pub(crate) scales: u64,
    pub(crate) scales_equal: u64,
    pub(crate) max_scale_loss: f32,
    /// Matrices that held no trits before; all of them are equal.
    pub(crate) dense: u64,
    pub(crate) vectors: u64,
    pub(crate) vectors_equal: u64,
    /// The largest relative difference of rotary frequencies.
    pub(crate) rope_difference: f32,
    /// The head was ternary and is floats now.
    pub(crate) head_became_floats: bool,
}

/// What may differ between the model that was read and the one that was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    /// The largest relative difference of a scale.
    pub(crate) scale: f32,
    /// Whether biases may differ in their last bit.
    pub(crate) biases: bool,
}

/// Half a unit in the last place of a bias, generously.
const BIAS_LOSS: f32 = 1e-6;

/// Compares every part of two models.
///
/// # Errors
/// The first difference that is not allowed.
pub(crate) fn compare(
    before: &Source,
    after: &Source,
    allowed: Allowed,
    mut progress: impl FnMut(Part),
) -> Result<Proof, ConvertError> {
    let mut proof = Proof { rope_difference: configs(before.config(), after.config())?, ..Proof::default() };
    for part in before.matrices() {
        let name = after.name(part);
        match (matrix::read(before, part)?, matrix::read(after, part)?) {
            (Matrix::Trits(a), Matrix::Trits(b)) => trits(&name, &a, &b, allowed, &mut proof)?,
            (a, b) => {
                same_values(&name, &a, &b)?;
                proof.dense += u64::from(!matches!(a, Matrix::Trits(_)));
                if let Matrix::Trits(a) = &a {
                    let (n, scales) = ((a.rows() * a.cols()) as u64, a.scales().values().len() as u64);
                    proof.matrices += 1;
                    proof.trits += n;
                    proof.trits_equal += n;
                    proof.scales += scales;
                    proof.scales_equal += scales;
                    let head = part == Part::Head || before.config().tied_head;
                    proof.head_became_floats |= head && matches!(b, Matrix::Table(_));
                }
            }
        }
        progress(part);
    }
    vectors(before, after, allowed, &mut proof)?;
    Ok(proof)
}

fn mismatch(what: String) -> ConvertError {
    ConvertError::Mismatch { what }
}

/// Compares what a configuration means; returns the largest difference of rotary frequencies.
fn configs(a: &Config, b: &Config) -> Result<f32, ConvertError> {
    let sizes = |c: &Config| [c.hidden, c.ffn, c.layers, c.heads, c.kv_heads, c.head_dim, c.vocab, c.context];
    let switches = |c: &Config| (c.activation, c.sub_norms, c.qk_norms, c.tied_head, c.trained_int8);
    let epsilons = |c: &Config| (c.norm_eps.to_bits(), c.input_norm_eps.map(f32::to_bits));
    let stops = |c: &Config| {
        let mut ids = c.eos.clone();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let check = |what: &str, same: bool, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| match same {
        true => Ok(()),
        false => Err(mismatch(format!("{what}: {a:?} became {b:?}"))),
    };
    check("sizes", sizes(a) == sizes(b), &sizes(a), &sizes(b))?;
    check("switches", switches(a) == switches(b), &switches(a), &switches(b))?;
    let eps = |c: &Config| (c.norm_eps, c.input_norm_eps);
    check("norm epsilons", epsilons(a) == epsilons(b), &eps(a), &eps(b))?;
    check("stop tokens", stops(a) == stops(b), &stops(a), &stops(b))?;
    check("the first token", a.bos.is_none() || a.bos == b.bos, &a.bos, &b.bos)?;
    check("rotary frequencies", rope::close(a, b), &a.rope, &b.rope)?;
    Ok(rope::difference(a, b))
}

fn same_values(name: &str, a: &Matrix, b: &Matrix) -> Result<(), ConvertError> {
    if a.shape() != b.shape() {
        return Err(mismatch(format!("'{name}': shape {:?} became {:?}", a.shape(), b.shape())));
    }
    let [rows, cols] = a.shape();
    let (mut x, mut y) = (vec![0.0; cols], vec![0.0; cols]);
    for row in 0..rows {
        a.row_to_f32(row, &mut x);
        b.row_to_f32(row, &mut y);
        // Minus zero is zero: trits have only one of them.
        if let Some(col) =
            x.iter().zip(&y).position(|(x, y)| x.to_bits() != y.to_bits() && (*x != 0.0 || *y != 0.0))
        {
            let (x, y) = (x[col], y[col]);
            return Err(mismatch(format!("'{name}', row {row}, column {col}: {x:e} became {y:e}")));
        }
    }
    Ok(())
}

/// Counts equal trits and scales. A trit whose scale is 0, and a scale all of whose trits are 0, change no weight.
fn trits(
    name: &str,
    a: &TernaryMatrix,
    b: &TernaryMatrix,
    allowed: Allowed,
    proof: &mut Proof,
) -> Result<(), ConvertError> {
    if (a.rows(), a.cols()) != (b.rows(), b.cols()) {
        let shapes = ([a.rows(), a.cols()], [b.rows(), b.cols()]);
        return Err(mismatch(format!("'{name}': shape {:?} became {:?}", shapes.0, shapes.1)));
    }
    let count = (a.rows() * a.cols()) as u64;
    let unequal = if a.codes() == b.codes() { 0 } else { unequal_trits(a, b) };
    proof.matrices += 1;
    proof.trits += count;
    proof.trits_equal += count - unequal;
    if unequal > 0 {
        return Err(mismatch(format!("'{name}': {unequal} of {count} trits are others")));
    }
    let (equal, loss) = scales(a, b);
    proof.scales += a.scales().values().len() as u64;
    proof.scales_equal += equal;
    proof.max_scale_loss = proof.max_scale_loss.max(loss);
    if loss > allowed.scale {
        return Err(mismatch(format!("'{name}': a scale differs by {loss:e} of its value")));
    }
    Ok(())
}

fn unequal_trits(a: &TernaryMatrix, b: &TernaryMatrix) -> u64 {
    let (mut x, mut y) = (vec![0i8; a.cols()], vec![0i8; a.cols()]);
    let mut unequal = 0;
    for row in 0..a.rows() {
        a.row_trits(row, &mut x);
        b.row_trits(row, &mut y);
        let zero = |m: &TernaryMatrix, trit: i8, col: usize| trit == 0 || m.scale(row, col) == 0.0;
        let differs = |&col: &usize| x[col] != y[col] && !(zero(a, x[col], col) && zero(b, y[col], col));
        unequal += (0..a.cols()).filter(differs).count() as u64;
    }
    unequal
}

/// How many scales of `a` every nonzero weight under them still has in `b`, and the largest relative difference.
fn scales(a: &TernaryMatrix, b: &TernaryMatrix) -> (u64, f32) {
    let all = a.scales().values().len() as u64;
    if a.scales() == b.scales() {
        return (all, 0.0);
    }
    let width = |m: &TernaryMatrix| match m.scales().granularity() {
        Granularity::Group(size) => size,
        Granularity::Tensor | Granularity::Row => m.cols(),
    };
    let (width_a, width_b) = (width(a), width(b));
    let per_row = a.cols().div_ceil(width_a);
    let mut equal = vec![true; all as usize];
    let mut largest = 0.0f32;
    let mut trits = vec![0i8; a.cols()];
    for row in 0..a.rows() {
        a.row_trits(row, &mut trits);
        let mut start = 0;
        while start < a.cols() {
            // A run of columns with one scale on either side.
            let end = ((start / width_a + 1) * width_a).min((start / width_b + 1) * width_b).min(a.cols());
            let (x, y) = (a.scale(row, start), b.scale(row, start));
            if x.to_bits() != y.to_bits() && trits[start..end].iter().any(|&t| t != 0) {
                let index = match a.scales() {
                    Scales::Tensor(_) => 0,
                    _ => row * per_row + start / width_a,
                };
                equal[index] = false;
                largest = largest.max(((y - x) / x).abs());
            }
            start = end;
        }
    }
    (equal.iter().filter(|&&e| e).count() as u64, largest)
}

fn vectors(before: &Source, after: &Source, allowed: Allowed, proof: &mut Proof) -> Result<(), ConvertError> {
    let (parts, written) = (before.vectors(), after.vectors());
    if let Some(more) = written.iter().find(|part| !parts.contains(part)) {
        return Err(mismatch(format!("'{}' is in the output only", after.name(*more))));
    }
    for part in parts {
        let name = after.name(part);
        let read = |source: &Source| -> Result<Vec<f32>, ConvertError> {
            let missing = || ModelError::MissingTensor { name: source.name(part) };
            Ok(source.vector(part)?.ok_or_else(missing)?)
        };
        let (a, b) = (read(before)?, read(after)?);
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let same = bits(&a) == bits(&b);
        let close = |(x, y): (&f32, &f32)| (x - y).abs() <= BIAS_LOSS * x.abs();
        let rounded = allowed.biases && matches!(part, Part::Bias(..)) && a.len() == b.len();
        if !(same || rounded && a.iter().zip(&b).all(close)) {
            return Err(mismatch(format!("vector '{name}' holds other numbers")));
        }
        proof.vectors += 1;
        proof.vectors_equal += u64::from(same);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use bitnet_format::{Checkpoint, OpenOptions};

    use super::*;

    const STRICT: Allowed = Allowed { scale: 0.0, biases: false };

    fn oracle(name: &str) -> PathBuf {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle")).join(name)
    }

    fn open(path: &Path) -> Source {
        Source::new(Checkpoint::open(path, &OpenOptions::default()).unwrap()).unwrap()
    }

    /// A copy of the model whose tensor `name` has its first byte changed by `change`.
    fn damaged(name: &str, change: impl Fn(u8) -> u8) -> (tempfile::TempDir, Source) {
        let original = oracle("bitnet-a-offline-packed");
        let directory = tempfile::tempdir().unwrap();
        for file in ["config.json", "generation_config.json"] {
            std::fs::copy(original.join(file), directory.path().join(file)).unwrap();
        }
        let mut bytes = std::fs::read(original.join("model.safetensors")).unwrap();
        let checkpoint = Checkpoint::open(&original, &OpenOptions::default()).unwrap();
        let at = checkpoint.info(name).unwrap().range().start;
        bytes[at] = change(bytes[at]);
        std::fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
        let source = open(directory.path());
        (directory, source)
    }

    fn refusal(name: &str, change: impl Fn(u8) -> u8) -> String {
        let (_directory, after) = damaged(name, change);
        let before = open(&oracle("bitnet-a-offline-packed"));
        compare(&before, &after, STRICT, |_| {}).unwrap_err().to_string()
    }

    #[test]
    fn one_trit_one_bit_of_a_scale_and_one_bit_of_a_vector_are_found() {
        let layer = "model.layers.2.mlp";
        // Codes 0, 1, 2 become others without becoming 3.
        let trit = |b: u8| b & !3 | [1, 2, 0, 3][usize::from(b & 3)];
        let text = refusal(&format!("{layer}.up_proj.weight"), trit);
        assert!(text.contains("up_proj.weight': 1 of 131072 trits"), "{text}");
        let text = refusal(&format!("{layer}.up_proj.weight_scale"), |b| b ^ 1);
        assert!(text.contains("a scale differs by"), "{text}");
        let text = refusal(&format!("{layer}.ffn_sub_norm.weight"), |b| b ^ 1);
        assert!(text.contains("ffn_sub_norm.weight' holds other numbers"), "{text}");
        let text = refusal("model.embed_tokens.weight", |b| b ^ 1);
        assert!(text.contains("embed_tokens.weight', row 0, column 0"), "{text}");
    }

    #[test]
    fn another_configuration_is_found() {
        let before = open(&oracle("bitnet-a-offline-packed"));
        let after = open(&oracle("bitnet-c-silu-online-bf16"));
        let text = compare(&before, &after, STRICT, |_| {}).unwrap_err().to_string();
        assert!(text.contains("sizes"), "{text}");
    }

    #[test]
    fn scales_count_where_weights_are_and_only_there() {
        let matrix = |trits: &[i8], scales| TernaryMatrix::from_trits(2, 4, trits, scales).unwrap();
        let group = |s: [f32; 4]| Scales::Group { size: 2, scales: s.to_vec() };
        let a = matrix(&[1, 0, 0, 0, -1, 1, 1, 1], group([2.0, 5.0, 3.0, 3.0]));
        // The group of zeros has any scale, and equal groups may be a row.
        assert_eq!(scales(&a, &matrix(&[1, 0, 0, 0, -1, 1, 1, 1], Scales::Row(vec![2.0, 3.0]))), (4, 0.0));
        let b = matrix(&[1, 0, 0, 0, -1, 1, 1, 1], group([2.0, 0.0, 3.0, 4.5]));
        assert_eq!(scales(&a, &b), (3, 0.5));
        let one = matrix(&[1, 0, 0, 0, -1, 1, 1, 1], Scales::Tensor(3.0));
        assert_eq!(scales(&one, &b), (0, 0.5));
    }
}
