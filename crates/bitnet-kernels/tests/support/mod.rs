//! What tests of float operations share.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bitnet_kernels::{Kernel, available, by_name};

/// Bits of a result; all NaN are one.
pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

/// Runs `operation` on every kernel, asserts equal bits and returns the result.
pub fn on_all(what: &str, operation: impl Fn(&Kernel) -> Vec<f32>) -> Vec<f32> {
    let scalar = operation(by_name("scalar").unwrap());
    for kernel in available() {
        assert_eq!(bits(&operation(kernel)), bits(&scalar), "{what} on {}", kernel.name());
    }
    scalar
}

/// The documented order, straight from its words.
pub fn lane_sum(terms: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; 16];
    terms.enumerate().for_each(|(i, x)| lanes[i % 16] += x);
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
    }
    lanes[0]
}

pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    lane_sum(a.iter().zip(b).map(|(a, b)| a * b))
}
