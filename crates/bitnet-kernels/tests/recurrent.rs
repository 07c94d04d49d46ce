//! Operations of recurrent blocks and of weights in another basis: bit-equal on every kernel, equal to the written order of
//! operations, and near the truth.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bitnet_kernels::{DeltaStep, exp};
use proptest::prelude::*;

mod support;
use support::{bits, dot, on_all};

fn vector(len: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        40 => -4.0f32..4.0,
        2 => -1e4f32..1e4,
        2 => -1e-6f32..1e-6,
        1 => prop_oneof![Just(0.0f32), Just(-0.0), Just(f32::INFINITY), Just(f32::NAN)]
    ];
    proptest::collection::vec(value, len)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() }
}

/// Stage by stage, as it is written down: sums and differences of numbers half a run apart, then of their halves.
fn hadamard(x: &[f32]) -> Vec<f32> {
    fn stages(x: &mut [f32]) {
        let half = x.len() / 2;
        for i in 0..half {
            (x[i], x[i + half]) = (x[i] + x[i + half], x[i] - x[i + half]);
        }
        if half > 0 {
            let (first, second) = x.split_at_mut(half);
            stages(first);
            stages(second);
        }
    }
    let mut out = x.to_vec();
    stages(&mut out);
    let factor = 1.0 / (x.len() as f32).sqrt();
    out.iter().map(|x| x * factor).collect()
}

/// The next state and what comes out, value by value.
fn delta_rule(state: &[f32], step: DeltaStep<'_>) -> (Vec<f32>, Vec<f32>) {
    let DeltaStep { q, k, v, decay, beta } = step;
    let (keys, values) = (k.len(), v.len());
    let (mut next, mut out) = (vec![0.0; keys * values], vec![0.0; values]);
    for j in 0..values {
        let old = |i: usize| state[i * values + j] * decay;
        let seen = (0..keys).fold(0.0f32, |sum, i| sum + old(i) * k[i]);
        let taken = (v[j] - seen) * beta;
        (0..keys).for_each(|i| next[i * values + j] = old(i) + taken * k[i]);
        out[j] = (0..keys).fold(0.0f32, |sum, i| sum + next[i * values + j] * q[i]);
    }
    (next, out)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn transforms_follow_their_order(
        (log, x) in (0u32..11).prop_flat_map(|log| (Just(log), vector(3 << log))),
    ) {
        let got = on_all("hadamard", |k| {
            let mut x = x.clone();
            k.hadamard(&mut x, 1 << log);
            x
        });
        let want: Vec<f32> = x.chunks(1 << log).flat_map(hadamard).collect();
        prop_assert_eq!(bits(&got), bits(&want));
    }

    #[test]
    fn lengths_become_one(x in vector(1..300), scale in prop_oneof![Just(1.0f32), Just(0.125), 0.01f32..2.0]) {
        let got = on_all("l2_norm", |k| {
            let mut x = x.clone();
            k.l2_norm(&mut x, 1e-6, scale);
            x
        });
        let r = 1.0 / (dot(&x, &x) + 1e-6).sqrt();
        prop_assert_eq!(bits(&got), bits(&x.iter().map(|x| (x * r) * scale).collect::<Vec<_>>()));
    }

    #[test]
    fn gates_and_products_go_element_by_element(x in vector(1..200), seed in vector(200)) {
        let y = &seed[..x.len()];
        let gated = on_all("sigmoid_mul", |k| {
            let mut gate = x.clone();
            k.sigmoid_mul(&mut gate, y);
            gate
        });
        let want: Vec<f32> = x.iter().zip(y).map(|(g, x)| 1.0 / (1.0 + exp(-g)) * x).collect();
        prop_assert_eq!(bits(&gated), bits(&want));
        let product = on_all("multiply", |k| {
            let mut x = x.clone();
            k.multiply(&mut x, y);
            x
        });
        prop_assert_eq!(bits(&product), bits(&x.iter().zip(y).map(|(x, y)| x * y).collect::<Vec<_>>()));
    }

    #[test]
    fn convolutions_add_the_oldest_position_first(
        (taps, channels, x) in (1usize..6, 1usize..70).prop_flat_map(|(t, c)| (Just(t), Just(c), vector(2 * t * c))),
    ) {
        let (window, weights) = x.split_at(taps * channels);
        let rows = |x: &'_ [f32]| -> Vec<Vec<f32>> { x.chunks(channels).map(<[f32]>::to_vec).collect() };
        let (window, weights) = (rows(window), rows(weights));
        let got = on_all("convolve_silu", |k| {
            let of = |rows: &'_ [Vec<f32>]| -> Vec<Vec<f32>> { rows.to_vec() };
            let (window, weights) = (of(&window), of(&weights));
            let [window, weights] = [&window, &weights].map(|rows| rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let mut out = vec![7.0; channels];
            k.convolve_silu(&window, &weights, &mut out);
            out
        });
        let want: Vec<f32> = (0..channels)
            .map(|c| {
                let products = (0..taps).map(|tap| weights[tap][c] * window[tap][c]);
                let y = products.reduce(|sum, x| sum + x).unwrap();
                y / (1.0 + exp(-y))
            })
            .collect();
        prop_assert_eq!(bits(&got), bits(&want));
    }

    #[test]
    fn the_delta_rule_goes_from_key_to_key(
        (keys, values, x) in (1usize..40, prop_oneof![1usize..100, Just(128)])
            .prop_flat_map(|(k, v)| (Just(k), Just(v), vector(k * v + 2 * k + v))),
        decay in 0.0f32..1.0,
        beta in 0.0f32..1.0,
    ) {
        let (state, rest) = x.split_at(keys * values);
        let (q, rest) = rest.split_at(keys);
        let (k, v) = rest.split_at(keys);
        let got = on_all("delta_rule", |kernel| {
            let (mut state, mut out) = (state.to_vec(), vec![7.0; values]);
            kernel.delta_rule(&mut state, DeltaStep { q, k, v, decay, beta }, &mut out);
            [state, out].concat()
        });
        let (next, out) = delta_rule(state, DeltaStep { q, k, v, decay, beta });
        prop_assert_eq!(bits(&got), bits(&[next, out].concat()));
    }
}

#[test]
fn a_transform_is_near_its_matrix_and_undoes_itself() {
    for log in 0..11u32 {
        let len = 1usize << log;
        let x: Vec<f32> = (0..len).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect();
        let kernel = bitnet_kernels::by_name("scalar").unwrap();
        let mut y = x.clone();
        kernel.hadamard(&mut y, len);
        for (row, &y) in y.iter().enumerate() {
            let sign = |col: usize| if (row & col).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            let sum: f64 = x.iter().enumerate().map(|(col, &x)| sign(col) * f64::from(x)).sum();
            assert!((sum / (len as f64).sqrt() - f64::from(y)).abs() < 1e-5, "row {row} of {len}");
        }
        kernel.hadamard(&mut y, len);
        assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-5), "twice, {len}");
    }
}

/// What a rounding does to a state, all later tokens see.
#[test]
fn states_stay_equal_token_after_token() {
    for (keys, values) in [(128, 128), (100, 128), (128, 100), (64, 16), (3, 1)] {
        let number = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 504.0 - 1.0;
        let tokens: Vec<Vec<f32>> =
            (0..24).map(|t| (0..2 * keys + values).map(|i| 0.2 * number(i + 71 * t)).collect()).collect();
        let step = |t: usize| {
            let (q, rest) = tokens[t].split_at(keys);
            let (k, v) = rest.split_at(keys);
            DeltaStep { q, k, v, decay: 0.9 + 0.004 * t as f32, beta: 0.1 + 0.03 * t as f32 }
        };
        let got = on_all("delta_rule", |kernel| {
            let (mut state, mut out) = (vec![0.0; keys * values], vec![0.0; values]);
            (0..tokens.len()).for_each(|t| kernel.delta_rule(&mut state, step(t), &mut out));
            [state, out].concat()
        });
        let first = (vec![0.0; keys * values], vec![]);
        let (state, out) = (0..tokens.len()).fold(first, |(state, _), t| delta_rule(&state, step(t)));
        assert!(out.iter().any(|&y| y != 0.0), "{keys} keys");
        assert_eq!(bits(&got), bits(&[state, out].concat()), "{keys} keys, {values} values");
    }
}
