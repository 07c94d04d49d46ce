//! Operations on floats, row by row.

use bitnet_decoder::DecoderError;
use bitnet_device::{Device, Pass, Place, Transform};
use bitnet_model::{GateActivation, MatrixForm, Part};

use crate::{
    bench::{dense, download, numbers, run, upload},
    suite::{Suite, both},
};

const WIDTHS: [usize; 8] = [1, 2, 7, 16, 33, 100, 256, 777];
const TOKENS: [usize; 4] = [1, 2, 5, 19];

pub(crate) fn check<D: Device>(suite: &mut Suite<'_, D>) -> Result<(), DecoderError> {
    for width in WIDTHS {
        for tokens in TOKENS {
            rows(suite, width, tokens)?;
        }
    }
    for head_dim in [2, 6, 8, 20, 64, 128] {
        for heads in [1, 3] {
            heads_of(suite, head_dim, heads)?;
        }
    }
    transforms(suite)
}

/// Embedding, gathering, norms, gates and sums.
fn rows<D: Device>(suite: &mut Suite<'_, D>, width: usize, tokens: usize) -> Result<(), DecoderError> {
    let (a, b) = (numbers(tokens * width, 1), numbers(tokens * width, 2));
    let told = |operation: &str| format!("{operation}, {tokens} tokens of {width}");
    let ids: Vec<u32> = (0..tokens as u32).map(|t| t * 3 % 5).collect();
    both!(suite, told("embed"), width, |device| {
        let table = dense(5, width, &numbers(5 * width, 3))?;
        let table = device.matrix(Part::Embedding, "table", table, MatrixForm::Strips)?;
        let mut out = device.rows(tokens, width)?;
        run(device, &ids, |pass| pass.embed(&table, &mut out))?;
        download(device, &mut out, tokens)
    });
    let picked: Vec<u32> = (0..tokens as u32).rev().step_by(2).collect();
    both!(suite, told("gather"), width, |device| {
        let (x, mut out) = (upload(device, &a, width)?, device.rows(tokens, width)?);
        run(device, &[], |pass| pass.gather(&x, &picked, &mut out))?;
        download(device, &mut out, picked.len())
    });
    for eps in [0.0, 1e-5] {
        both!(suite, told("rms_norm"), width, |device| {
            let (x, mut out) = (upload(device, &a, width)?, device.rows(tokens, width)?);
            let weight = device.vector(&b[..width])?;
            run(device, &[], |pass| pass.rms_norm(&x, tokens, &weight, eps, &mut out))?;
            download(device, &mut out, tokens)
        });
    }
    both!(suite, told("add"), width, |device| {
        let (mut x, y) = (upload(device, &a, width)?, upload(device, &b, width)?);
        run(device, &[], |pass| pass.add(&mut x, &y, tokens))?;
        download(device, &mut x, tokens)
    });
    both!(suite, told("sigmoid_gate"), width, |device| {
        let (mut gate, x) = (upload(device, &a, width)?, upload(device, &b, width)?);
        run(device, &[], |pass| pass.sigmoid_gate(&mut gate, &x, tokens))?;
        download(device, &mut gate, tokens)
    });
    for activation in [GateActivation::Silu, GateActivation::SquaredRelu] {
        both!(suite, told(&format!("gate {activation:?}")), width, |device| {
            let (mut gate, up) = (upload(device, &a, width)?, upload(device, &b, width)?);
            run(device, &[], |pass| pass.gate(activation, &mut gate, &up, tokens))?;
            download(device, &mut gate, tokens)
        });
    }
    Ok(())
}

/// Walsh-Hadamard transforms with and without signs, both ways.
fn transforms<D: Device>(suite: &mut Suite<'_, D>) -> Result<(), DecoderError> {
    for (width, block) in [(1, 1), (6, 2), (96, 32), (384, 128), (2048, 1024)] {
        let x = numbers(3 * width, 6);
        let signs: Vec<f32> = numbers(width, 7).iter().map(|x| if *x < 0.0 { -1.0 } else { 1.0 }).collect();
        for how in [Transform::Fold, Transform::Unfold] {
            for signed in [false, true] {
                let case = format!("transform {how:?} of {width} in blocks of {block}, signs: {signed}");
                both!(suite, case, width, |device| {
                    let (x, mut out) = (upload(device, &x, width)?, device.rows(3, width)?);
                    let signs = signed.then(|| device.vector(&signs)).transpose()?;
                    run(device, &[], |pass| pass.transform(&x, 3, how, block, signs.as_ref(), &mut out))?;
                    download(device, &mut out, 3)
                });
            }
        }
    }
    Ok(())
}

/// Norms of heads, and rotation at the positions of three spans.
fn heads_of<D: Device>(suite: &mut Suite<'_, D>, head_dim: usize, heads: usize) -> Result<(), DecoderError> {
    let (width, tokens) = (heads * head_dim, 8);
    let values = numbers(tokens * width, 4);
    let told = |operation: &str| format!("{operation}, {heads} heads of {head_dim}");
    both!(suite, told("rms_norm_heads"), width, |device| {
        let mut x = upload(device, &values, width)?;
        let weight = device.vector(&numbers(head_dim, 5))?;
        run(device, &[], |pass| pass.rms_norm_heads(&mut x, tokens, &weight, 1e-6))?;
        download(device, &mut x, tokens)
    });
    let places = [(0, 5, 0), (5, 0, 9), (5, 1, 4095), (6, 2, 255)].map(|(row, tokens, position)| Place {
        row,
        tokens,
        position,
        table: 0,
        recurrence: None,
    });
    // Whole heads, and the first half of each, rounded to whole pairs.
    for rotated in [head_dim, (head_dim / 2).next_multiple_of(2)] {
        let frequencies: Vec<f32> = (0..rotated / 2).map(|i| 1.0 / (i as f32 * 3.7 + 1.0)).collect();
        both!(suite, told(&format!("angles and rope of {rotated} dimensions")), width, |device| {
            let mut x = upload(device, &values, width)?;
            let mut angles = device.rows(tokens, rotated)?;
            let frequencies = device.vector(&frequencies)?;
            let batch = bitnet_device::Batch { ids: &[0; 8], places: &places, ..Default::default() };
            crate::attention::run_batch(device, batch, |pass| {
                pass.angles(&frequencies, 1.25, &mut angles);
                pass.rope(&mut x, tokens, head_dim, &angles);
            })?;
            download(device, &mut x, tokens)
        });
    }
    Ok(())
}
