//! What recurrent blocks and folded weights do besides products, in the shapes of a hybrid of 27 G weights.

use bitnet_kernels::{DeltaStep, Kernel};

use super::cpu;

/// Keys and values of a head.
const DIM: usize = 128;
/// Value heads of a layer, whose states together are 3 MB.
const HEADS: usize = 48;
/// Layers, whose states are 151 MB and come from memory.
const LAYERS: usize = 48;
/// Channels of the short convolution, and its positions.
const CHANNELS: usize = 10_240;
const TAPS: usize = 4;

/// Best microseconds of one of the `count` operations that `work` does.
fn report(what: &str, count: usize, mut work: impl FnMut()) {
    let seconds = (0..400).map(|_| cpu(&mut work)).fold(f64::MAX, f64::min);
    println!("{what}: {:.2} us", 1e6 * seconds / count as f64);
}

pub(super) fn run(kernel: &Kernel) {
    let x: Vec<f32> = (0..CHANNELS).map(|i| (i % 97) as f32 * 0.01 - 0.5).collect();
    let mut y = x.clone();
    for block in [1024, 128] {
        // Twice is once: the numbers stay what they are.
        report(&format!("hadamard of {block}, 1024 numbers"), CHANNELS / 1024, || {
            kernel.hadamard(&mut y, block)
        });
    }
    let mut states = vec![0.01; LAYERS * HEADS * DIM * DIM];
    let (q, k, v) = (&x[..DIM], &x[DIM..2 * DIM], &x[2 * DIM..3 * DIM]);
    let step = DeltaStep { q, k, v, decay: 0.97, beta: 0.5 };
    let mut out = [0.0; DIM];
    let (one, runs) = (DIM * DIM, 32);
    report(&format!("delta rule {DIM} by {DIM}, in cache"), runs, || {
        (0..runs).for_each(|_| kernel.delta_rule(&mut states[..one], step, &mut out));
    });
    for (heads, place) in [(HEADS, "a layer"), (LAYERS * HEADS, "a model")] {
        report(&format!("delta rule {DIM} by {DIM}, one of {heads} of {place}"), heads, || {
            let states = states.chunks_mut(one).take(heads);
            states.for_each(|state| kernel.delta_rule(state, step, &mut out));
        });
    }
    let rows = [x.as_slice(); TAPS];
    report(&format!("convolution of {TAPS} positions, {CHANNELS} channels"), 1, || {
        kernel.convolve_silu(&rows, &rows, &mut y);
    });
}
