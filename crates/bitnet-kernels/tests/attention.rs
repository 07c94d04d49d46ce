//! Attention: bit-equal on every kernel and in every cut, equal to the written order of operations, and near the truth.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bitnet_core::threads::ColumnsMut;
use bitnet_kernels::{ATTENTION_CHUNK, Kernel, KvChunk, KvChunkMut, Queries, by_name};
use half::f16;

mod support;
use support::{bits, dot, lane_sum, on_all};

/// Types of caches: f32, f16, int8.
const KINDS: usize = 3;

/// Keys or values of one head: `[positions, head_dim]`, from -1 to 1.
fn numbers(positions: usize, head_dim: usize, salt: u32) -> Vec<f32> {
    let number = |i: usize| ((i as u32 ^ salt).wrapping_mul(2_654_435_761) >> 8) as f32 / 8e6 - 1.0;
    (0..positions * head_dim).map(number).collect()
}

/// Keys and values of one head, in every cache type, in chunks.
struct Cache {
    head_dim: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
    f32s: Vec<f32>,
    f16s: Vec<f16>,
    codes: Vec<u8>,
    steps: Vec<f32>,
}

impl Cache {
    /// What lies behind the last position is not a number.
    fn new(kernel: &Kernel, head_dim: usize, keys: Vec<f32>, values: Vec<f32>) -> Self {
        let (positions, len) = (keys.len() / head_dim, Kernel::kv_chunk_len(head_dim));
        let chunks = positions.div_ceil(ATTENTION_CHUNK);
        let codes_len = Kernel::kv_codes_len(head_dim);
        let (mut codes, mut steps) =
            (vec![77; chunks * codes_len], vec![f32::NAN; chunks * Kernel::KV_STEPS]);
        let (mut f32s, mut f16s) = (vec![f32::NAN; chunks * len], vec![f16::NAN; chunks * len]);
        for (i, (k, v)) in keys.chunks(head_dim).zip(values.chunks(head_dim)).enumerate() {
            let (chunk, at) = (i / ATTENTION_CHUNK * len, i % ATTENTION_CHUNK);
            kernel.store(k, v, at, KvChunkMut::F32(&mut f32s[chunk..chunk + len]));
            kernel.store(k, v, at, KvChunkMut::F16(&mut f16s[chunk..chunk + len]));
            let page = i / ATTENTION_CHUNK;
            let codes = &mut codes[page * codes_len..][..codes_len];
            let steps = &mut steps[page * Kernel::KV_STEPS..][..Kernel::KV_STEPS];
            kernel.store(k, v, at, KvChunkMut::Int8 { codes, steps });
        }
        Self { head_dim, keys, values, f32s, f16s, codes, steps }
    }

    fn random(kernel: &Kernel, positions: usize, head_dim: usize, salt: u32) -> Self {
        let (keys, values) = (numbers(positions, head_dim, salt), numbers(positions, head_dim, salt + 7));
        Self::new(kernel, head_dim, keys, values)
    }

    fn chunk(&self, kind: usize, chunk: usize) -> KvChunk<'_> {
        let len = Kernel::kv_chunk_len(self.head_dim);
        let range = chunk * len..(chunk + 1) * len;
        match kind {
            0 => KvChunk::F32(&self.f32s[range]),
            1 => KvChunk::F16(&self.f16s[range]),
            _ => {
                let len = Kernel::kv_codes_len(self.head_dim);
                let steps = &self.steps[chunk * Kernel::KV_STEPS..][..Kernel::KV_STEPS];
                KvChunk::Int8 { codes: &self.codes[chunk * len..][..len], steps }
            }
        }
    }

    /// Keys and values as the cache has rounded them.
    fn rounded(&self, kind: usize) -> [Vec<f32>; 2] {
        let int8 = |x: &[f32]| -> Vec<f32> {
            let step = x.iter().fold(1e-5f32, |a, x| a.max(x.abs())) / 127.0;
            x.iter().map(|x| (x / step).round() * step).collect()
        };
        let round = |x: &[f32]| -> Vec<f32> {
            match kind {
                0 => x.to_vec(),
                1 => x.iter().map(|&x| f16::from_f32(x).to_f32()).collect(),
                _ => x.chunks(self.head_dim).flat_map(int8).collect(),
            }
        };
        [round(&self.keys), round(&self.values)]
    }

    /// One token's attention: chunks, then their combination.
    fn attend(&self, kernel: &Kernel, queries: &Queries<'_>, kind: usize) -> Vec<f32> {
        let len = Kernel::attention_partial_len(queries.group, self.head_dim);
        let mut partials = vec![f32::NAN; (queries.position + 1).div_ceil(ATTENTION_CHUNK) * len];
        for (i, partial) in partials.chunks_mut(len).enumerate() {
            kernel.attend_chunk(queries, i, self.chunk(kind, i), partial);
        }
        let mut out = vec![f32::NAN; queries.group * self.head_dim];
        kernel.attend_combine(&partials, self.head_dim, &mut out);
        out
    }

    /// Softmax attention in double precision.
    fn truth(&self, queries: &Queries<'_>, kind: usize) -> Vec<f64> {
        let [keys, values] = self.rounded(kind);
        let positions = queries.position + 1;
        let mut out = Vec::new();
        for query in queries.values.chunks(self.head_dim) {
            let score = |k: &[f32]| -> f64 {
                let dot: f64 = query.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
                dot * f64::from(queries.scale)
            };
            let scores: Vec<f64> = keys.chunks(self.head_dim).take(positions).map(score).collect();
            let max = scores.iter().copied().fold(f64::MIN, f64::max);
            let p: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let total: f64 = p.iter().sum();
            for d in 0..self.head_dim {
                let sum: f64 = (0..positions).map(|i| p[i] * f64::from(values[i * self.head_dim + d])).sum();
                out.push(sum / total);
            }
        }
        out
    }
}

#[test]
fn attention_is_the_same_everywhere_and_near_the_truth() {
    let lengths = [1, 5, 255, ATTENTION_CHUNK, 257, 700];
    for (head_dim, group) in [(32, 1), (64, 4), (40, 3), (128, 2), (128, 4), (7, 2), (80, 5), (128, 9)] {
        let queries: Vec<f32> = (0..group * head_dim).map(|i| ((i * 37) % 29) as f32 / 7.0 - 2.0).collect();
        for (kind, positions) in (0..KINDS).flat_map(|kind| lengths.map(|n| (kind, n))) {
            let queries = Queries {
                values: &queries,
                tokens: 1,
                token_stride: group * head_dim,
                group,
                head_dim,
                position: positions - 1,
                scale: 1.0 / (head_dim as f32).sqrt(),
            };
            let got = on_all("attention", |kernel| {
                Cache::random(kernel, positions, head_dim, 1).attend(kernel, &queries, kind)
            });
            let cache = Cache::random(by_name("scalar").unwrap(), positions, head_dim, 1);
            for (&got, want) in got.iter().zip(cache.truth(&queries, kind)) {
                // Queries and weights of int8 have 16 bits.
                let bound = if kind == 2 { 2e-4 } else { 3e-6 };
                assert!(
                    (f64::from(got) - want).abs() < bound,
                    "{head_dim} {kind} {positions}: {got} for {want}"
                );
            }
        }
    }
}

#[test]
fn a_block_of_tokens_gives_what_single_tokens_give() {
    for (head_dim, group, tokens, position) in [
        (64, 4, 5, 0),
        (64, 1, 9, 2),
        (72, 3, 7, 249),
        (40, 2, 6, 99),
        (128, 4, 40, 500),
        (16, 4, 300, 0),
        (7, 1, 70, 230),
        (272, 2, 9, 260),
    ] {
        let token_stride = group * head_dim + 5;
        let values: Vec<f32> =
            (0..tokens * token_stride).map(|i| ((i * 31) % 23) as f32 / 9.0 - 1.1).collect();
        let queries =
            Queries { values: &values, tokens, token_stride, group, head_dim, position, scale: 0.2 };
        let scalar = by_name("scalar").unwrap();
        let cache = Cache::random(scalar, position + tokens, head_dim, 11);
        for kind in 0..KINDS {
            let width = group * head_dim;
            let got = on_all("block", |kernel| {
                let (mut out, mut states) =
                    (vec![f32::NAN; tokens * width], vec![f32::NAN; tokens * 2 * group]);
                let columns = &mut ColumnsMut::whole(&mut out, width);
                kernel.attend_block(&queries, |chunk| cache.chunk(kind, chunk), &mut states, columns);
                out
            });
            for (token, got) in got.chunks(width).enumerate() {
                let values = &values[token * token_stride..][..width];
                let one = Queries { values, tokens: 1, position: position + token, ..queries };
                let want = cache.attend(scalar, &one, kind);
                assert_eq!(bits(got), bits(&want), "head {head_dim} group {group} token {token} kind {kind}");
            }
        }
    }
}

/// Scores and sums of the first chunk, from the definition's own words.
#[test]
fn a_chunk_follows_the_written_order() {
    for (head_dim, positions) in [(48, 37), (7, 3), (40, 100)] {
        let scalar = by_name("scalar").unwrap();
        let cache = Cache::random(scalar, positions, head_dim, 3);
        let values: Vec<f32> = (0..head_dim).map(|i| (i % 5) as f32 - 1.7).collect();
        let queries = Queries {
            values: &values,
            tokens: 1,
            token_stride: head_dim,
            group: 1,
            head_dim,
            position: positions - 1,
            scale: 0.3,
        };
        // The order of sums of integers is free.
        for kind in 0..2 {
            let got = on_all("chunk", |kernel| {
                let mut partial = vec![0.0; Kernel::attention_partial_len(1, head_dim)];
                kernel.attend_chunk(&queries, 0, cache.chunk(kind, 0), &mut partial);
                partial
            });
            let [k, v] = cache.rounded(kind);
            let scores: Vec<f32> = k.chunks(head_dim).map(|k| dot(k, &values) * 0.3).collect();
            let max = scores.iter().copied().fold(f32::MIN, f32::max);
            assert_eq!(got[head_dim], max);
            let mut sums = vec![0.0f32; head_dim];
            for (score, v) in scores.iter().zip(v.chunks(head_dim)) {
                let p = exp_of(score - max);
                sums.iter_mut().zip(v).for_each(|(sum, v)| *sum += p * v);
            }
            assert_eq!(bits(&got[..head_dim]), bits(&sums));
            assert_eq!(got[head_dim + 1], lane_sum(scores.iter().map(|s| exp_of(s - max))));
        }
    }
}

/// `e^x` for `x <= 0` as the kernels compute it, made visible by a chunk of two positions with scores `x` and 0 and
/// values 1 and 0.
fn exp_of(x: f32) -> f32 {
    let scalar = by_name("scalar").unwrap();
    let cache = Cache::new(scalar, 2, vec![x, 0.0, 0.0, 0.0], vec![1.0, 0.0, 0.0, 0.0]);
    let queries = Queries {
        values: &[1.0, 0.0],
        tokens: 1,
        token_stride: 2,
        group: 1,
        head_dim: 2,
        position: 1,
        scale: 1.0,
    };
    let mut partial = [0.0; 4];
    scalar.attend_chunk(&queries, 0, cache.chunk(0, 0), &mut partial);
    partial[0]
}

/// A query of one head at the last of `positions`.
fn one(values: &[f32], positions: usize, scale: f32) -> Queries<'_> {
    let head_dim = values.len();
    Queries { values, tokens: 1, token_stride: head_dim, group: 1, head_dim, position: positions - 1, scale }
}

/// Products that are all -0 add up to 0, as a sum that begins with 0 does. (A head of fewer than 16 dimensions has lanes
/// without products, whose zeros do the same.)
#[test]
fn a_sum_of_negative_zeros_is_zero() {
    for head_dim in [2, 16, 48] {
        let values = vec![0.0; head_dim];
        let v: Vec<f32> = (0..head_dim).map(|d| 3.0 + d as f32).collect();
        let got = on_all("zeros", |kernel| {
            let cache = Cache::new(kernel, head_dim, vec![-1.0; head_dim], v.clone());
            let mut partial = vec![f32::NAN; head_dim + 2];
            kernel.attend_chunk(&one(&values, 1, 1.0), 0, cache.chunk(0, 0), &mut partial);
            partial
        });
        let want: Vec<f32> = v.into_iter().chain([0.0, 1.0]).collect();
        assert_eq!(bits(&got), bits(&want));
    }
}

/// The largest of scores that are 0 and -0 is the first in the order of lanes; -0 comes of products too small for a float.
#[test]
fn the_sign_of_a_largest_zero_follows_the_written_order() {
    for positions in [2, 16, 17, 40] {
        for negative in 0..positions {
            let mut keys = vec![0.0; positions];
            keys[negative] = -1e-3;
            let cache = Cache::new(by_name("scalar").unwrap(), 1, keys, vec![1.0; positions]);
            for kind in 0..KINDS {
                on_all("signs", |kernel| {
                    let mut partial = vec![f32::NAN; 3];
                    kernel.attend_chunk(
                        &one(&[1e-3], positions, 1e-40),
                        0,
                        cache.chunk(kind, 0),
                        &mut partial,
                    );
                    partial
                });
            }
        }
    }
}

/// Scores so far apart that all weights but one vanish, infinities, and what is not a number.
#[test]
fn extreme_scores_are_the_same_everywhere() {
    let head_dim = 32;
    for positions in [3, 40, 256, 300] {
        let cache = Cache::random(by_name("scalar").unwrap(), positions, head_dim, 5);
        for (scale, odd) in [
            (1e2, 0.5),
            (1e4, 0.5),
            (1e30, 1e30),
            (1.0, f32::INFINITY),
            (1.0, f32::NEG_INFINITY),
            (1.0, f32::NAN),
        ] {
            let mut values = numbers(1, head_dim, 9);
            values[7] = odd;
            for kind in 0..KINDS {
                let got =
                    on_all("extremes", |kernel| cache.attend(kernel, &one(&values, positions, scale), kind));
                // Apart from what the queries bring along, weights are at most 1 and at least one of them is.
                assert!(scale == 1.0 || odd > 1.0 || got.iter().all(|x| x.is_finite()), "{kind} {scale}");
            }
        }
    }
}
