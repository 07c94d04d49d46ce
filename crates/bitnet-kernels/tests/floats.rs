//! Float operations: bit-equal on every kernel, equal to the written order of operations, and near the truth.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bitnet_core::{HybridMemoryPool, tensor::Values, threads::ColumnsMut};
use bitnet_kernels::{ATTENTION_CHUNK, AttentionInputs, CacheRows, Kernel, QueryBlock, available, by_name};
use bitnet_quant::QuantizedRows;
use half::{bf16, f16};
use proptest::prelude::*;

/// Bits of a result; all NaN are one.
fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

/// Runs `operation` on every kernel, asserts equal bits and returns the result.
fn on_all(what: &str, operation: impl Fn(&Kernel) -> Vec<f32>) -> Vec<f32> {
    let scalar = operation(by_name("scalar").unwrap());
    for kernel in available() {
        assert_eq!(bits(&operation(kernel)), bits(&scalar), "{what} on {}", kernel.name());
    }
    scalar
}

/// The documented order, straight from its words.
fn lane_sum(terms: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; 16];
    terms.enumerate().for_each(|(i, x)| lanes[i % 16] += x);
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
    }
    lanes[0]
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    lane_sum(a.iter().zip(b).map(|(a, b)| a * b))
}

/// An operation on a vector with another of the same length.
type Pairwise<'a> = &'a dyn Fn(&Kernel, &mut [f32], &[f32]);

/// Mostly ordinary values, now and then a troublesome one.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        40 => -8.0f32..8.0,
        4 => -1e5f32..1e5,
        2 => -1e-6f32..1e-6,
        1 => prop_oneof![Just(0.0f32), Just(-0.0), Just(1e-45), Just(f32::MAX), Just(f32::INFINITY), Just(f32::NAN)]
    ]
}

fn vector(len: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(value(), len)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() }
}

/// The sum of squares in the order of norms, lane by lane instead of step by step.
fn cascade_sum(x: &[f32]) -> f32 {
    let squares: Vec<f32> = x.iter().map(|x| x * x).collect();
    let sum = |values: &[f32]| values.iter().fold(0.0f32, |a, b| a + b);
    let (whole, rest) = squares.split_at(x.len() / 32 * 32);
    let mut lanes = [0.0f32; 32];
    for (j, lane) in lanes.iter_mut().enumerate() {
        let mut values: Vec<f32> = whole.iter().skip(j).step_by(32).copied().collect();
        // What a level has not passed on is its part of the lane; the sums of 16 are the next level's values.
        while !values.is_empty() {
            let passed = values.len() / 16 * 16;
            *lane += sum(&values[passed..]);
            values = values[..passed].chunks(16).map(sum).collect();
        }
    }
    let (eights, tail) = rest.split_at(rest.len() / 8 * 8);
    eights.iter().enumerate().for_each(|(i, square)| lanes[i % 8] += square);
    (0..8).fold(sum(tail), |total, j| total + (lanes[j] + lanes[8 + j] + lanes[16 + j] + lanes[24 + j]))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn norms_follow_their_order(x in prop_oneof![vector(1..300), vector(500..9000)], eps in prop_oneof![Just(1e-5f32), Just(1e-6)]) {
        let weight: Vec<f32> = (0..x.len()).map(|i| 0.5 + (i % 7) as f32 * 0.25).collect();
        let got = on_all("rmsnorm", |k| {
            let mut out = vec![0.0; x.len()];
            k.rmsnorm(&x, &weight, eps, &mut out);
            let mut in_place = x.clone();
            k.rmsnorm_in_place(&mut in_place, &weight, eps);
            assert_eq!(bits(&out), bits(&in_place));
            out
        });
        let r = 1.0 / (cascade_sum(&x) / x.len() as f32 + eps).sqrt();
        let want: Vec<f32> = x.iter().zip(&weight).map(|(x, w)| (x * r) * w).collect();
        prop_assert_eq!(bits(&got), bits(&want));
    }

    /// Values halfway between two integers, where the last bit of the factor decides.
    #[test]
    fn quantized_ties_fall_where_the_definition_says(amax in 1e-3f32..1e3, offset in 0usize..3) {
        let x: Vec<f32> = (0..127).map(|k| amax * (2 * k + 1) as f32 / 254.0 * if k % 2 == offset % 2 { 1.0 } else { -1.0 })
            .chain([amax]).collect();
        let pool = HybridMemoryPool::new();
        let rows = || QuantizedRows::new(&pool, 1, x.len()).unwrap();
        let mut want = rows();
        want.quantize_token(0, &x);
        for kernel in available() {
            let mut got = rows();
            kernel.quantize_token(&x, &mut got, 0);
            prop_assert_eq!(got.codes(0), want.codes(0), "{}", kernel.name());
        }
    }

    #[test]
    fn quantizers_equal_the_definition(x in vector(1..300), eps in Just(1e-5f32)) {
        let pool = HybridMemoryPool::new();
        let rows = || QuantizedRows::new(&pool, 1, x.len()).unwrap();
        let weight = vec![0.75; x.len()];
        let (mut token, mut blocks, mut normed) = (rows(), rows(), rows());
        token.quantize_token(0, &x);
        blocks.quantize_blocks(0, &x);
        for kernel in available() {
            let name = kernel.name();
            let mut got = rows();
            kernel.quantize_token(&x, &mut got, 0);
            prop_assert_eq!(got.codes(0), token.codes(0), "{}", name);
            prop_assert_eq!((got.step(0).to_bits(), got.sum(0)), (token.step(0).to_bits(), token.sum(0)), "{}", name);
            kernel.quantize_blocks(&x, &mut got, 0);
            prop_assert_eq!(got.codes(0), blocks.codes(0), "{}", name);
            prop_assert_eq!(bits(got.block_steps(0)), bits(blocks.block_steps(0)), "{}", name);
            prop_assert_eq!(got.block_sums(0), blocks.block_sums(0), "{}", name);
            let mut y = vec![0.0; x.len()];
            kernel.rmsnorm(&x, &weight, eps, &mut y);
            normed.quantize_token(0, &y);
            kernel.rmsnorm_quantize(&x, &weight, eps, &mut got, 0);
            prop_assert_eq!(got.codes(0), normed.codes(0), "{}", name);
            prop_assert_eq!((got.step(0).to_bits(), got.sum(0)), (normed.step(0).to_bits(), normed.sum(0)), "{}", name);
        }
    }

    #[test]
    fn gates_sums_and_rotation_follow_their_formulas(x in vector(2..200)) {
        let half = x.len() / 2;
        let (a, b) = (&x[..half], &x[half..2 * half]);
        let run = |what: &str, f: Pairwise<'_>| {
            on_all(what, |k| {
                let mut y = a.to_vec();
                f(k, &mut y, b);
                y
            })
        };
        let want = |f: &dyn Fn(f32, f32) -> f32| bits(&a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect::<Vec<_>>());
        prop_assert_eq!(bits(&run("add", &|k, y, b| k.add(y, b))), want(&|a, b| a + b));
        prop_assert_eq!(bits(&run("scale", &|k, y, _| k.scale(y, 0.3))), want(&|a, _| a * 0.3));
        let relu2 = |a: f32, b: f32| if a < 0.0 { 0.0 * b } else { a * a * b };
        prop_assert_eq!(bits(&run("relu2", &|k, y, b| k.relu2_mul(y, b))), want(&relu2));
        run("silu", &|k, y, b| k.silu_mul(y, b));
        let angles: Vec<f32> = (0..half).map(|i| i as f32 * 0.7).collect();
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        let got = on_all("rope", |k| {
            let mut y = x.clone();
            k.rope(&mut y, &cos, &sin);
            y
        });
        let first = (0..half).map(|i| a[i] * cos[i] - b[i] * sin[i]);
        let second = (0..half).map(|i| b[i] * cos[i] + a[i] * sin[i]);
        let want: Vec<f32> = first.chain(second).chain(x[2 * half..].iter().copied()).collect();
        prop_assert_eq!(bits(&got), bits(&want));
    }

    #[test]
    fn halves_round_the_same_everywhere(x in vector(1..70)) {
        let want: Vec<u16> = x.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
        for kernel in available() {
            let mut out = vec![f16::ZERO; x.len()];
            kernel.round_to_f16(&x, &mut out);
            let got: Vec<u16> = out.iter().map(|x| x.to_bits()).collect();
            for ((&got, &want), &x) in got.iter().zip(&want).zip(&x) {
                prop_assert!(got == want || x.is_nan() && f16::from_bits(got).is_nan(), "{} {}", kernel.name(), x);
            }
        }
    }

    #[test]
    fn dense_rows_are_lane_dots(rows in 1usize..24, cols in 1usize..70, tokens in 1usize..10, seed in vector(70)) {
        let w: Vec<f32> = (0..rows * cols).map(|i| seed[i % 70] * 0.5 + (i % 11) as f32 * 0.125).collect();
        let x: Vec<f32> = (0..tokens * cols).map(|i| seed[(i * 7) % 70]).collect();
        let f16s: Vec<f16> = w.iter().map(|&w| f16::from_f32(w)).collect();
        let bf16s: Vec<bf16> = w.iter().map(|&w| bf16::from_f32(w)).collect();
        let as_f32 = [w.clone(), f16s.iter().map(|w| w.to_f32()).collect(), bf16s.iter().map(|w| w.to_f32()).collect()];
        for (values, wide) in [Values::F32(&w), Values::F16(&f16s), Values::Bf16(&bf16s)].into_iter().zip(as_f32) {
            let got = on_all("dense", |k| {
                let mut out = vec![0.0; tokens * rows];
                k.dense_matmul(values, cols, &x, 0, &mut ColumnsMut::whole(&mut out, rows));
                out
            });
            let want: Vec<f32> = (0..tokens * rows)
                .map(|i| dot(&wide[i % rows * cols..][..cols], &x[i / rows * cols..][..cols]))
                .collect();
            prop_assert_eq!(bits(&got), bits(&want));
        }
    }

    #[test]
    fn softmax_is_the_same_everywhere_and_sums_to_one(x in proptest::collection::vec(-60.0f32..60.0, 1..300)) {
        let got = on_all("softmax", |k| {
            let mut y = x.clone();
            k.softmax(&mut y);
            y
        });
        let max = x.iter().copied().fold(f32::MIN, f32::max);
        let total: f64 = x.iter().map(|&x| f64::from(x - max).exp()).sum();
        for (&p, &x) in got.iter().zip(&x) {
            let want = f64::from(x - max).exp() / total;
            prop_assert!((f64::from(p) - want).abs() <= 1e-6 * want + 1e-38, "{} for {}", p, want);
        }
        let lse = on_all("log_sum_exp", |k| vec![k.log_sum_exp(&x)])[0];
        prop_assert!((f64::from(lse) - (f64::from(max) + total.ln())).abs() < 1e-5 * f64::from(max.abs() + 1.0));
    }

    #[test]
    fn wild_values_never_panic_and_agree(x in vector(1..80)) {
        on_all("softmax", |k| {
            let mut y = x.clone();
            k.softmax(&mut y);
            y
        });
    }
}

/// Keys and values of one head, in every cache type, and what they stand for.
struct Cache {
    f32s: Vec<f32>,
    f16s: Vec<f16>,
    codes: Vec<i8>,
    scales: Vec<f32>,
}

impl Cache {
    fn new(positions: usize, stride: usize, salt: u32) -> Self {
        let number = |i: usize| ((i as u32 ^ salt).wrapping_mul(2_654_435_761) >> 8) as f32 / 8e6 - 1.0;
        let f32s: Vec<f32> = (0..positions * stride).map(number).collect();
        Self {
            f16s: f32s.iter().map(|&x| f16::from_f32(x)).collect(),
            codes: f32s.iter().map(|x| (x * 127.0) as i8).collect(),
            scales: (0..positions).map(|i| 0.005 + number(i).abs() * 0.01).collect(),
            f32s,
        }
    }

    fn rows(&self, kind: usize) -> CacheRows<'_> {
        match kind {
            0 => CacheRows::F32(&self.f32s),
            1 => CacheRows::F16(&self.f16s),
            _ => CacheRows::Int8 { codes: &self.codes, scales: &self.scales },
        }
    }

    fn value(&self, kind: usize, stride: usize, position: usize, d: usize) -> f64 {
        let at = position * stride + d;
        match kind {
            0 => f64::from(self.f32s[at]),
            1 => f64::from(self.f16s[at].to_f32()),
            _ => f64::from(self.codes[at]) * f64::from(self.scales[position]),
        }
    }
}

/// Softmax attention in double precision.
fn true_attention(
    k: &Cache,
    v: &Cache,
    kind: usize,
    inputs: &AttentionInputs<'_>,
    positions: usize,
) -> Vec<f64> {
    let mut out = Vec::new();
    for query in inputs.queries.chunks(inputs.head_dim) {
        let score = |i| -> f64 {
            let dot: f64 = query
                .iter()
                .enumerate()
                .map(|(d, &q)| f64::from(q) * k.value(kind, inputs.stride, i, d))
                .sum();
            dot * f64::from(inputs.scale)
        };
        let scores: Vec<f64> = (0..positions).map(score).collect();
        let max = scores.iter().copied().fold(f64::MIN, f64::max);
        let p: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
        let total: f64 = p.iter().sum();
        for d in 0..inputs.head_dim {
            let sum: f64 = (0..positions).map(|i| p[i] * v.value(kind, inputs.stride, i, d)).sum();
            out.push(sum / total);
        }
    }
    out
}

#[test]
fn attention_is_the_same_everywhere_and_near_the_truth() {
    let lengths = [1, 5, 255, ATTENTION_CHUNK, 257, 700];
    for (head_dim, group, stride) in [(32, 1, 32), (64, 4, 80), (40, 3, 40), (128, 2, 128), (7, 2, 9)] {
        let (k, v) = (Cache::new(700, stride, 1), Cache::new(700, stride, 77));
        let queries: Vec<f32> = (0..group * head_dim).map(|i| ((i * 37) % 29) as f32 / 7.0 - 2.0).collect();
        for (kind, positions) in (0..3).flat_map(|kind| lengths.map(|n| (kind, n))) {
            let scale = 1.0 / (head_dim as f32).sqrt();
            let inputs = AttentionInputs {
                queries: &queries,
                keys: k.rows(kind),
                values: v.rows(kind),
                stride,
                head_dim,
                scale,
            };
            let len = Kernel::attention_partial_len(group, head_dim);
            let got = on_all("attention", |kernel| {
                let mut scratch = vec![f32::NAN; positions.div_ceil(ATTENTION_CHUNK) * len];
                let mut out = vec![f32::NAN; group * head_dim];
                kernel.attend(inputs, positions, &mut scratch, &mut out);
                out
            });
            for (&got, want) in got.iter().zip(true_attention(&k, &v, kind, &inputs, positions)) {
                assert!(
                    (f64::from(got) - want).abs() < 3e-6,
                    "{head_dim} {kind} {positions}: {got} for {want}"
                );
            }
        }
    }
}

#[test]
fn a_block_of_tokens_gives_what_single_tokens_give() {
    let (stride, positions) = (72, ATTENTION_CHUNK);
    for (head_dim, group, tokens, first_seen) in
        [(64, 4, 5, 1), (64, 1, 9, 3), (72, 3, 7, 250), (40, 2, 6, 100), (64, 4, 3, 256)]
    {
        let (k, v) = (Cache::new(positions, stride, 11), Cache::new(positions, stride, 13));
        let token_stride = group * head_dim + 5;
        let queries: Vec<f32> =
            (0..tokens * token_stride).map(|i| ((i * 31) % 23) as f32 / 9.0 - 1.1).collect();
        for kind in 0..3 {
            let inputs = AttentionInputs {
                queries: &queries,
                keys: k.rows(kind),
                values: v.rows(kind),
                stride,
                head_dim,
                scale: 0.2,
            };
            let len = Kernel::attention_partial_len(group, head_dim);
            let got = on_all("block", |kernel| {
                let mut partials = vec![f32::NAN; tokens * len];
                let block = QueryBlock { tokens, token_stride, group, first_seen };
                kernel.attend_chunk_block(inputs, block, &mut partials);
                partials
            });
            for (token, got) in got.chunks(len).enumerate() {
                let queries = &queries[token * token_stride..][..group * head_dim];
                let seen = (first_seen + token).min(ATTENTION_CHUNK);
                let mut want = vec![f32::NAN; len];
                let scalar = by_name("scalar").unwrap();
                scalar.attend_chunk(AttentionInputs { queries, ..inputs }, 0, seen, &mut want);
                assert_eq!(bits(got), bits(&want), "head {head_dim} group {group} token {token} kind {kind}");
            }
        }
    }
}

/// Scores and sums of the first chunk, from the definition's own words.
#[test]
fn a_chunk_follows_the_written_order() {
    let (head_dim, positions) = (48, 37);
    let (k, v) = (Cache::new(positions, head_dim, 3), Cache::new(positions, head_dim, 5));
    let queries: Vec<f32> = (0..head_dim).map(|i| (i % 5) as f32 - 1.7).collect();
    let inputs = AttentionInputs {
        queries: &queries,
        keys: k.rows(0),
        values: v.rows(0),
        stride: head_dim,
        head_dim,
        scale: 0.3,
    };
    let got = on_all("chunk", |kernel| {
        let mut partial = vec![0.0; Kernel::attention_partial_len(1, head_dim)];
        kernel.attend_chunk(inputs, 0, positions, &mut partial);
        partial
    });
    let scores: Vec<f32> =
        (0..positions).map(|i| dot(&k.f32s[i * head_dim..][..head_dim], &queries) * 0.3).collect();
    let max = scores.iter().copied().fold(f32::MIN, f32::max);
    assert_eq!(got[head_dim], max);
    let mut sums = vec![0.0f32; head_dim];
    for (i, score) in scores.iter().enumerate() {
        let p = exp_of(score - max);
        for (sum, value) in sums.iter_mut().zip(&v.f32s[i * head_dim..]) {
            *sum += p * value;
        }
    }
    assert_eq!(bits(&got[..head_dim]), bits(&sums));
    assert_eq!(got[head_dim + 1], lane_sum(scores.iter().map(|s| exp_of(s - max))));
}

/// `e^x` for `x <= 0` as the kernels compute it, made visible by a chunk of two positions with scores `x` and 0 and
/// values 1 and 0.
fn exp_of(x: f32) -> f32 {
    let mut partial = [0.0; 4];
    let inputs = AttentionInputs {
        queries: &[1.0, 0.0],
        keys: CacheRows::F32(&[x, 0.0, 0.0, 0.0]),
        values: CacheRows::F32(&[1.0, 0.0, 0.0, 0.0]),
        stride: 2,
        head_dim: 2,
        scale: 1.0,
    };
    by_name("scalar").unwrap().attend_chunk(inputs, 0, 2, &mut partial);
    partial[0]
}
