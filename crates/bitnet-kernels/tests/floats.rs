//! Float operations: bit-equal on every kernel, equal to the written order of operations, and near the truth.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bitnet_core::{HybridMemoryPool, tensor::Values, threads::ColumnsMut};
use bitnet_kernels::{Kernel, available};
use bitnet_quant::QuantizedRows;
use half::{bf16, f16};
use proptest::prelude::*;

mod support;
use support::{bits, dot, on_all};

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
    fn quantizers_equal_the_definition(x in vector(1..300)) {
        let pool = HybridMemoryPool::new();
        let rows = || QuantizedRows::new(&pool, 1, x.len()).unwrap();
        let (mut token, mut blocks) = (rows(), rows());
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

/// Values at which `127 / amax`, rounded once, gives another code than `127 * (1 / amax)`, rounded twice, of which models were trained
/// with the latter. Worked out from the definition of binary32 alone.
#[test]
fn the_factor_of_activations_is_rounded_twice() {
    let golden = [
        (203.70258f32, 159.59375f32, 100i8),
        (656.14514, 198.91016, 39),
        (589.3016, 238.96875, 51),
        (481.47632, 81.509766, 21),
        (254.89429, 19.066895, 9),
        (973.53015, 88.1543, 11),
    ];
    let pool = HybridMemoryPool::new();
    for (amax, x, code) in golden {
        assert_ne!((x * (127.0 / amax)).round_ties_even() as i8, code, "{amax} tells nothing");
        let x = [x, -amax, -x];
        let mut rows = QuantizedRows::new(&pool, 1, 3).unwrap();
        rows.quantize_token(0, &x);
        assert_eq!(rows.codes(0)[..3], [code, -127, -code], "the definition at {amax}");
        for kernel in available() {
            let mut codes = [0i8; 16];
            let (step, _) = kernel.quantize_into(&x, &mut codes);
            assert_eq!((step, &codes[..3]), (amax / 127.0, &[code, -127, -code][..]), "{}", kernel.name());
        }
    }
}
