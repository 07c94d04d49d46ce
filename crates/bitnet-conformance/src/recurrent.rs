//! Convolution and gated delta rule over recurrent states: several sequences, forks, steps of every length.

use bitnet_decoder::DecoderError;
use bitnet_device::{
    Batch, Device, KvShape, Pass, Pending, Recur, RecurrentShape, SequenceShape, SequenceSizes, Sequences,
};
use bitnet_model::DeltaNet;

use crate::{
    Exactness,
    attention::{Store, spans},
    bench::{download, numbers, upload},
    suite::{Suite, both},
};

/// Heads that share keys and heads that do not, widths that are no whole vectors, convolutions of one tap and of many.
const SIZES: [DeltaNet; 5] = [
    DeltaNet { key_heads: 1, value_heads: 1, key_dim: 1, value_dim: 1, taps: 1 },
    DeltaNet { key_heads: 1, value_heads: 3, key_dim: 5, value_dim: 3, taps: 2 },
    DeltaNet { key_heads: 2, value_heads: 6, key_dim: 16, value_dim: 24, taps: 4 },
    DeltaNet { key_heads: 3, value_heads: 3, key_dim: 64, value_dim: 64, taps: 4 },
    DeltaNet { key_heads: 2, value_heads: 4, key_dim: 128, value_dim: 128, taps: 5 },
];
/// Recurrent blocks.
const LAYERS: usize = 2;
/// Steps: for each of three sequences, how many tokens it takes.
const STEPS: [[usize; 3]; 6] = [[3, 1, 9], [1, 0, 1], [2, 5, 0], [0, 0, 0], [1, 1, 4], [7, 1, 1]];
/// The step before which the third sequence becomes a fork of the first.
const FORK: usize = 4;

pub(crate) fn check<D: Device>(suite: &mut Suite<'_, D>) -> Result<(), DecoderError> {
    for sizes in SIZES {
        let (width, told) = (sizes.channels() + sizes.value_width(), format!("{sizes:?}, forks and steps"));
        both!(suite, format!("recurrence of {told}"), width, |device| run(device, sizes));
        // What is the wrong state in the same way everywhere is found here alone.
        let got = run(suite.device, sizes)?;
        let case = format!("recurrence by its definition, {told}");
        suite.compare_within(Exactness::Within(1e-4), case, width, &got, &definition(sizes));
    }
    Ok(())
}

/// The inputs of one block in one step.
struct Inputs {
    mixed: Vec<f32>,
    beta: Vec<f32>,
    decay: Vec<f32>,
}

impl Inputs {
    fn new(sizes: DeltaNet, tokens: usize, seed: usize) -> Self {
        let of = |width: usize, seed| numbers(tokens * width, seed);
        Self {
            mixed: of(sizes.channels(), seed),
            beta: of(sizes.value_heads, seed + 100),
            decay: of(sizes.value_heads, seed + 200),
        }
    }
}

/// The parameters of block `layer`: weights of the convolution, rates and biases.
fn parameters(sizes: DeltaNet, layer: usize) -> [Vec<f32>; 3] {
    [
        numbers(sizes.taps * sizes.channels(), 31 + layer),
        numbers(sizes.value_heads, 41 + layer).iter().map(|x| -0.01 - x.abs().min(1.0)).collect(),
        numbers(sizes.value_heads, 51 + layer),
    ]
}

/// All steps: for each token, what the convolution gives, and the result of the recurrence.
fn run<D: Device>(device: &D, sizes: DeltaNet) -> Result<Vec<f32>, DecoderError> {
    let kv = KvShape { layers: 1, heads: 1, head_dim: 2 };
    let recurrent = Some(RecurrentShape { layers: LAYERS, sizes });
    let mut pages = device.pages(SequenceShape { kv, recurrent }, 64)?;
    let mut sequences = Sequences::new(SequenceSizes {
        capacity: 64,
        page_bytes: device.page_bytes(&pages),
        state_bytes: device.state_bytes(&pages),
        budget: None,
    });
    let (first, second) = (sequences.open(), sequences.open());
    let mut third = sequences.open();
    let (mut results, mut seed) = (Vec::new(), 60);
    for (number, tokens) in STEPS.into_iter().enumerate() {
        if number == FORK {
            sequences.close(third);
            third = sequences.fork(first, usize::MAX)?;
        }
        let spans = spans([first, second, third], tokens);
        let ids = vec![0; tokens.iter().sum()];
        sequences.plan::<DecoderError>(&ids, &spans, &mut Store(device, &mut pages))?;
        for layer in 0..LAYERS {
            seed += 1;
            results.extend(block(device, (sequences.batch(&ids), &mut pages), layer, (sizes, seed))?);
        }
        sequences.commit(&spans);
    }
    Ok(results)
}

/// One block's convolution, then its recurrence.
fn block<D: Device>(
    device: &D,
    (batch, pages): (Batch<'_>, &mut D::Pages),
    layer: usize,
    (sizes, seed): (DeltaNet, usize),
) -> Result<Vec<f32>, DecoderError> {
    let (tokens, channels, width) = (batch.ids.len(), sizes.channels(), sizes.value_width());
    if tokens == 0 {
        return Ok(Vec::new());
    }
    let inputs = Inputs::new(sizes, tokens, seed);
    let [weights, rate, bias] = parameters(sizes, layer).map(|values| device.vector(&values));
    let (weights, rate, bias) = (weights?, rate?, bias?);
    let (mut mixed, mut raw) = (upload(device, &inputs.mixed, channels)?, device.rows(tokens, channels)?);
    let beta = upload(device, &inputs.beta, sizes.value_heads)?;
    let decay = upload(device, &inputs.decay, sizes.value_heads)?;
    let mut out = device.rows(tokens, width)?;
    let all: Vec<u32> = (0..tokens as u32).collect();
    let mut pass = device.begin(batch, pages, None)?;
    pass.convolve(layer, &mut mixed, &weights);
    pass.gather(&mixed, &all, &mut raw);
    pass.recur(
        layer,
        Recur { mixed: &mut mixed, beta: &beta, decay: &decay, rate: &rate, bias: &bias },
        &mut out,
    );
    pass.submit()?.wait()?;
    let (raw, out) = (download(device, &mut raw, tokens)?, download(device, &mut out, tokens)?);
    let rows = raw.chunks_exact(channels).zip(out.chunks_exact(width));
    Ok(rows.flat_map(|(raw, out)| raw.iter().chain(out).copied()).collect())
}

/// What one sequence keeps in one block.
#[derive(Clone, Default)]
struct Past {
    /// Inputs of the convolution, position by position.
    inputs: Vec<Vec<f32>>,
    /// `[value_heads, key_dim, value_dim]`; empty for zeros.
    state: Vec<f64>,
}

/// What [`run`] gives, by the definition: no states that are shared, no order of sums that anybody promises, in f64.
fn definition(sizes: DeltaNet) -> Vec<f32> {
    let mut past: Vec<[Past; 3]> = vec![Default::default(); LAYERS];
    let (mut results, mut seed) = (Vec::new(), 60);
    for (number, tokens) in STEPS.into_iter().enumerate() {
        if number == FORK {
            past.iter_mut().for_each(|block| block[2] = block[0].clone());
        }
        for (layer, block) in past.iter_mut().enumerate() {
            seed += 1;
            let inputs = Inputs::new(sizes, tokens.iter().sum(), seed);
            let parameters = parameters(sizes, layer);
            let mut row = 0;
            for which in [1, 2, 0] {
                for _ in 0..tokens[which] {
                    results.extend(token(sizes, &parameters, &inputs, row, &mut block[which]));
                    row += 1;
                }
            }
        }
    }
    results
}

/// One token of one sequence: the convolution's result, then that of the recurrence.
fn token(
    sizes: DeltaNet,
    [weights, rate, bias]: &[Vec<f32>; 3],
    inputs: &Inputs,
    row: usize,
    past: &mut Past,
) -> Vec<f32> {
    let DeltaNet { key_heads, value_heads, key_dim, value_dim, taps } = sizes;
    let channels = sizes.channels();
    past.inputs.push(inputs.mixed[row * channels..(row + 1) * channels].to_vec());
    let at = past.inputs.len() - 1;
    let mixed: Vec<f64> = (0..channels)
        .map(|c| {
            let tap = |i: usize| {
                let position = (at + i + 1).checked_sub(taps)?;
                Some(f64::from(weights[i * channels + c]) * f64::from(past.inputs[position][c]))
            };
            let sum: f64 = (0..taps).filter_map(tap).sum();
            sum / (1.0 + (-sum).exp())
        })
        .collect();
    let unit = |x: &[f64]| {
        let length = (x.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
        x.iter().map(|x| x / length).collect::<Vec<_>>()
    };
    past.state.resize(value_heads * key_dim * value_dim, 0.0);
    let mut out: Vec<f32> = mixed.iter().map(|&x| x as f32).collect();
    for head in 0..value_heads {
        let key = head / (value_heads / key_heads) * key_dim;
        let (q, k) = (unit(&mixed[key..][..key_dim]), unit(&mixed[sizes.key_width() + key..][..key_dim]));
        let v = &mixed[2 * sizes.key_width() + head * value_dim..][..value_dim];
        let of = |rows: &[f32]| f64::from(rows[row * value_heads + head]);
        let softplus = (1.0 + (of(&inputs.decay) + f64::from(bias[head])).exp()).ln();
        let decay = (f64::from(rate[head]) * softplus).exp();
        let beta = 1.0 / (1.0 + (-of(&inputs.beta)).exp());
        let state = &mut past.state[head * key_dim * value_dim..][..key_dim * value_dim];
        state.iter_mut().for_each(|s| *s *= decay);
        for j in 0..value_dim {
            let seen: f64 = (0..key_dim).map(|i| k[i] * state[i * value_dim + j]).sum();
            (0..key_dim).for_each(|i| state[i * value_dim + j] += k[i] * (beta * (v[j] - seen)));
            let got: f64 = (0..key_dim).map(|i| q[i] * state[i * value_dim + j]).sum();
            out.push((got / (key_dim as f64).sqrt()) as f32);
        }
    }
    out
}
