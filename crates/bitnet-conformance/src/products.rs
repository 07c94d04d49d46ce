//! Projections: trits of every granularity in every form, and floats.

use bitnet_decoder::DecoderError;
use bitnet_device::{Device, Gated, Job, Pass, Skipping};
use bitnet_model::{GateActivation, MatrixForm, ModelError, Part, Projection, Weight};
use bitnet_quant::{Activations, Granularity, Scales, TernaryMatrix};

use crate::{
    bench::{dense, download, numbers, run, upload},
    suite::{Suite, both},
};

/// `[rows, cols]`: one row, one column, no multiple of anything, whole strips and blocks.
const SHAPES: [[usize; 2]; 7] = [[1, 1], [3, 5], [16, 64], [33, 130], [48, 256], [130, 384], [300, 512]];
const TOKENS: [usize; 4] = [1, 2, 5, 17];

/// Trits with a scale for each run of `granularity`.
pub(crate) fn trits(
    [rows, cols]: [usize; 2],
    granularity: Granularity,
    seed: usize,
) -> Result<TernaryMatrix, ModelError> {
    let trits: Vec<i8> =
        numbers(rows * cols, seed).iter().map(|x| (x * 1.4).round().clamp(-1.0, 1.0) as i8).collect();
    let count = Scales::count(granularity, rows, cols).unwrap_or(1);
    let scales: Vec<f32> = numbers(count, seed + 1).iter().map(|x| x.abs().clamp(0.01, 2.0)).collect();
    let scales = match granularity {
        Granularity::Tensor => Scales::Tensor(scales[0]),
        Granularity::Row => Scales::Row(scales),
        Granularity::Group(size) => Scales::Group { size, scales },
    };
    TernaryMatrix::from_trits(rows, cols, &trits, scales).map_err(ModelError::quant("made"))
}

pub(crate) fn check<D: Device>(suite: &mut Suite<'_, D>) -> Result<(), DecoderError> {
    for shape in SHAPES {
        for tokens in TOKENS {
            for granularity in [Granularity::Tensor, Granularity::Row, Granularity::Group(32)] {
                if let Granularity::Group(size) = granularity
                    && shape[1] % size != 0
                {
                    continue;
                }
                ternary(suite, shape, tokens, granularity)?;
            }
            let weight = dense(shape[0], shape[1], &numbers(shape[0] * shape[1], 6))?;
            product(suite, "floats", &weight, MatrixForm::Strips, Activations::Float, tokens)?;
            skipped(suite, shape, tokens)?;
        }
    }
    together(suite)
}

fn ternary<D: Device>(
    suite: &mut Suite<'_, D>,
    shape: [usize; 2],
    tokens: usize,
    granularity: Granularity,
) -> Result<(), DecoderError> {
    let weight = Weight::Ternary(trits(shape, granularity, 7)?);
    let told = format!("trits by {granularity:?}");
    let forms: &[MatrixForm] = match granularity {
        Granularity::Group(_) => &[MatrixForm::Strips],
        _ => &[MatrixForm::Strips, MatrixForm::Base3, MatrixForm::Columns],
    };
    for &form in forms {
        product(suite, &told, &weight, form, Activations::Int8PerToken, tokens)?;
    }
    product(suite, &told, &weight, MatrixForm::Strips, Activations::Float, tokens)?;
    if matches!(granularity, Granularity::Group(_)) {
        product(suite, &told, &weight, MatrixForm::Strips, Activations::Int8PerBlock, tokens)?;
    }
    let second = Weight::Ternary(trits(shape, granularity, 9)?);
    let Some(planes) = Weight::planes(weight, second) else { return Ok(()) };
    let told = format!("two planes by {granularity:?}");
    product(suite, &told, &planes, MatrixForm::Strips, Activations::Int8PerToken, tokens)
}

/// One product, with a bias and without.
fn product<D: Device>(
    suite: &mut Suite<'_, D>,
    told: &str,
    weight: &Weight,
    form: MatrixForm,
    activations: Activations,
    tokens: usize,
) -> Result<(), DecoderError> {
    let [rows, cols] = weight.shape();
    let part = Part::Weight(0, Projection::Down);
    for biased in [false, true] {
        let case =
            format!("{told}, {rows} x {cols}, {form:?}, {activations:?}, {tokens} tokens, bias {biased}");
        both!(suite, case, rows, |device| {
            let weight = device.matrix(part, "made", weight.clone(), form)?;
            let bias = if biased { Some(device.vector(&numbers(rows, 8))?) } else { None };
            let x = upload(device, &numbers(tokens * cols, 3), cols)?;
            let (mut codes, mut out) = (device.codes(tokens, cols)?, device.rows(tokens, rows)?);
            run(device, &[], |pass| {
                if activations != Activations::Float {
                    pass.quantize(&x, tokens, activations, &mut codes);
                }
                let job = Job { weight: &weight, bias: bias.as_ref(), out: &mut out };
                pass.project(&x, &codes, activations, tokens, &mut [job]);
            })?;
            download(device, &mut out, tokens)
        });
    }
    Ok(())
}

/// Three matrices of different sizes and one input.
fn together<D: Device>(suite: &mut Suite<'_, D>) -> Result<(), DecoderError> {
    let (cols, sizes) = (256, [48, 16, 33]);
    for tokens in TOKENS {
        let case = format!("three products of one input, {tokens} tokens");
        both!(suite, case, 1, |device| {
            let place = |rows| {
                let weight = Weight::Ternary(trits([rows, cols], Granularity::Tensor, rows)?);
                device.matrix(Part::Weight(0, Projection::Query), "made", weight, MatrixForm::Strips)
            };
            let weights = [place(sizes[0])?, place(sizes[1])?, place(sizes[2])?];
            let x = upload(device, &numbers(tokens * cols, 3), cols)?;
            let mut codes = device.codes(tokens, cols)?;
            let mut outs = [
                device.rows(tokens, sizes[0])?,
                device.rows(tokens, sizes[1])?,
                device.rows(tokens, sizes[2])?,
            ];
            run(device, &[], |pass| {
                pass.quantize(&x, tokens, Activations::Int8PerToken, &mut codes);
                let [a, b, c] = &mut outs;
                let job = |weight, out| Job { weight, bias: None, out };
                let mut jobs = [job(&weights[0], a), job(&weights[1], b), job(&weights[2], c)];
                pass.project(&x, &codes, Activations::Int8PerToken, tokens, &mut jobs);
            })?;
            let mut all = Vec::new();
            for out in &mut outs {
                all.extend(download(device, out, tokens)?);
            }
            Ok::<_, DecoderError>(all)
        });
    }
    Ok(())
}

/// Gated values where rows may be left out, beside gate and product apart.
fn skipped<D: Device>(
    suite: &mut Suite<'_, D>,
    shape: [usize; 2],
    tokens: usize,
) -> Result<(), DecoderError> {
    let [rows, cols] = shape;
    let case = format!("gated values with closed gates, {rows} x {cols}, {tokens} tokens");
    // Whole rows of the gate are closed, others are open.
    let gates: Vec<f32> = numbers(tokens * rows, 5)
        .iter()
        .enumerate()
        .map(|(i, x)| if i % 3 == 0 { -x.abs() } else { *x })
        .collect();
    both!(suite, case, rows, |device| gated(device, shape, tokens, &gates));
    Ok(())
}

fn gated<D: Device>(
    device: &D,
    shape: [usize; 2],
    tokens: usize,
    gates: &[f32],
) -> Result<Vec<f32>, DecoderError> {
    let [rows, cols] = shape;
    let weight = Weight::Ternary(trits(shape, Granularity::Tensor, 7)?);
    let part = Part::Weight(0, Projection::Up);
    // Forms that leave out rows suit shapes of whole blocks; a device says whether its own form does.
    let form = if rows % 256 == 0 && cols % 256 == 0 { MatrixForm::Rows } else { MatrixForm::Strips };
    let up = device.matrix(part, "made", weight, form)?;
    let x = upload(device, &numbers(tokens * cols, 3), cols)?;
    let (mut codes, mut spare) = (device.codes(tokens, cols)?, device.rows(tokens, rows)?);
    let mut gate = upload(device, gates, rows)?;
    run(device, &[], |pass| {
        pass.quantize(&x, tokens, Activations::Int8PerToken, &mut codes);
        if D::Skip::applies(&up) {
            let gated = Gated { up: &up, x: &x, codes: &codes, gate: &mut gate, spare: &mut spare };
            D::Skip::gate(pass, gated, tokens);
        } else {
            let job = Job { weight: &up, bias: None, out: &mut spare };
            pass.project(&x, &codes, Activations::Int8PerToken, tokens, &mut [job]);
            pass.gate(GateActivation::SquaredRelu, &mut gate, &spare, tokens);
        }
    })?;
    // A zero may have either sign where a row was left out.
    Ok(download(device, &mut gate, tokens)?.into_iter().map(|x| if x == 0.0 { 0.0 } else { x }).collect())
}
