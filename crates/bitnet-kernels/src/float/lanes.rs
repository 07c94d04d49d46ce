//! The 16-lane order of every float sum.

use crate::isa::Lanes;

/// Adds the lanes pairwise: `j` and `j + 8`, then `j` and `j + 4`, 2, 1.
#[inline(always)]
pub(crate) fn tree(mut lanes: Lanes<f32>) -> f32 {
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
    }
    lanes[0]
}

/// The sum of `f(x)` in lane order.
#[inline(always)]
pub(crate) fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; 16];
    let (chunks, tail) = x.as_chunks::<16>();
    for chunk in chunks {
        for j in 0..16 {
            lanes[j] += f(chunk[j]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane += f(x);
    }
    tree(lanes)
}

/// The largest value, NaN ignored; `floor` when nothing is larger.
#[inline(always)]
pub(crate) fn max_of(x: &[f32], floor: f32, f: impl Fn(f32) -> f32) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [floor; 16];
    let (chunks, tail) = x.as_chunks::<16>();
    for chunk in chunks {
        for j in 0..16 {
            lanes[j] = larger(lanes[j], f(chunk[j]));
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane = larger(*lane, f(x));
    }
    lanes.into_iter().fold(floor, larger)
}
