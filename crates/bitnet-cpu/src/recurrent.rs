//! Recurrent states in main memory, and what leads from one to the next: convolution and gated delta rule.

use bitnet_core::{Buffer, HybridMemoryPool, Purpose};
use bitnet_device::{Batch, DeviceError, Place, Recur, Recurrence, RecurrentShape, StateId};
use bitnet_kernels::{DeltaStep, exp};
use bitnet_model::DeltaNet;

use crate::{Cpu, Rows};

/// Channels that a thread convolves at a time. Windows are kept in such groups.
const CHANNELS: usize = 256;
/// Added under the root where queries and keys get length 1 (`transformers`, `modeling_qwen3_5.py`, `l2norm`).
const L2_EPS: f32 = 1e-6;
/// From here on softplus is its argument (PyTorch, `softplus`).
const SOFTPLUS_LINEAR: f32 = 20.0;

/// The recurrent states of all sequences.
///
/// A state is, for each recurrent block, `[value_heads, key_dim, value_dim]`, then the last inputs of the convolution: groups of
/// `CHANNELS` channels, each `[taps - 1, channels]`.
pub struct RecurrentStates {
    shape: RecurrentShape,
    states: Vec<Buffer<f32>>,
}

/// So many states are listed without an allocation beside their own memory.
const FEW_STATES: usize = 256;

impl RecurrentStates {
    pub(crate) fn new(shape: RecurrentShape) -> Self {
        Self { shape, states: Vec::with_capacity(FEW_STATES) }
    }

    /// Floats of a state.
    fn len(&self) -> usize {
        let RecurrentShape { layers, sizes } = self.shape;
        layers * (sizes.state_len() + sizes.window_len())
    }

    pub(crate) fn state_bytes(&self) -> usize {
        self.len() * size_of::<f32>()
    }

    /// One state more.
    pub(crate) fn add(&mut self, pool: &HybridMemoryPool) -> Result<(), DeviceError> {
        self.states.push(pool.allocate(Purpose::KvCache, self.len())?);
        Ok(())
    }

    /// What a span of tokens begins with and what it leaves, of the block number `layer`: heads, or the window.
    fn lead(
        &mut self,
        recurrence: Recurrence,
        layer: usize,
        part: StatePart,
    ) -> (Option<&[f32]>, &mut [f32]) {
        let (heads, window) = (self.shape.sizes.state_len(), self.shape.sizes.window_len());
        let start = layer * (heads + window);
        let range = match part {
            StatePart::Heads => start..start + heads,
            StatePart::Window => start + heads..start + heads + window,
        };
        let at = |StateId(id)| id as usize;
        match recurrence.from {
            None => (None, &mut self.states[at(recurrence.to)][range]),
            Some(from) => {
                let Ok([from, to]) = self.states.get_disjoint_mut([at(from), at(recurrence.to)]) else {
                    unreachable!("a step reads one state and writes another")
                };
                (Some(&from[range.clone()]), &mut to[range])
            }
        }
    }
}

/// What a block's state consists of.
#[derive(Clone, Copy)]
enum StatePart {
    Heads,
    Window,
}

/// The spans of a batch that have tokens, with what leads their states on.
fn spans<'a>(batch: Batch<'a>) -> impl Iterator<Item = (&'a Place, Recurrence)> {
    batch.places.iter().filter_map(|place| Some((place, place.recurrence?)))
}

/// `x = SiLU(convolution(x))` for every token of the batch.
pub(crate) fn convolve(
    cpu: &Cpu,
    (layer, batch, states): (usize, Batch<'_>, &mut RecurrentStates),
    x: &mut Rows,
    weights: &[f32],
) {
    let (taps, channels) = (states.shape.sizes.taps, states.shape.sizes.channels());
    let kept = taps - 1;
    for (place, recurrence) in spans(batch) {
        let (from, to) = states.lead(recurrence, layer, StatePart::Window);
        let rows = &mut x.data[place.row * channels..(place.row + place.tokens) * channels];
        let piece = kept * CHANNELS;
        let work = |group: usize, mut columns: bitnet_core::threads::ColumnsMut<'_, f32>, to: &mut [f32]| {
            let (first, width) = (columns.start(), columns.width());
            // The inputs that the present position sees, in turns: position `t` is in row `t % taps`.
            let mut seen = [[0.0; CHANNELS]; DeltaNet::MAX_TAPS];
            if let Some(from) = from {
                let window = &from[group * piece..][..kept * width];
                window
                    .chunks_exact(width)
                    .zip(&mut seen)
                    .for_each(|(from, to)| to[..width].copy_from_slice(from));
            }
            let mut parts = [&[][..]; DeltaNet::MAX_TAPS];
            for (tap, part) in parts[..taps].iter_mut().enumerate() {
                *part = &weights[tap * channels + first..][..width];
            }
            for token in 0..place.tokens {
                let row = columns.row(token);
                seen[(kept + token) % taps][..width].copy_from_slice(row);
                let mut window = [&[][..]; DeltaNet::MAX_TAPS];
                for (tap, input) in window[..taps].iter_mut().enumerate() {
                    *input = &seen[(token + tap) % taps][..width];
                }
                cpu.kernel.convolve_silu(&window[..taps], &parts[..taps], row);
            }
            for (i, to) in to.chunks_exact_mut(width).enumerate() {
                to.copy_from_slice(&seen[(place.tokens + i) % taps][..width]);
            }
        };
        match kept {
            // Nothing is kept: no window has pieces to share out.
            0 => cpu.threads.for_each_columns_mut(rows, channels, CHANNELS, |group, columns| {
                work(group, columns, &mut [])
            }),
            _ => cpu.threads.for_each_tile_mut((rows, channels), place.tokens, CHANNELS, (to, piece), work),
        }
    }
}

/// The gated delta rule for every token of the batch.
pub(crate) fn recur(
    cpu: &Cpu,
    (layer, batch, states): (usize, Batch<'_>, &mut RecurrentStates),
    inputs: Recur<'_, Cpu>,
    out: &mut Rows,
) {
    let sizes = states.shape.sizes;
    let DeltaNet { key_heads, value_heads, key_dim, value_dim, .. } = sizes;
    let (tokens, key_width, channels) = (batch.ids.len(), sizes.key_width(), sizes.channels());
    let Recur { mixed, beta, decay, rate, bias } = inputs;
    let scale = 1.0 / (key_dim as f32).sqrt();
    cpu.each_row(mixed.of_mut(tokens), channels, |_, row| {
        let (queries, rest) = row.split_at_mut(key_width);
        queries.chunks_exact_mut(key_dim).for_each(|q| cpu.kernel.l2_norm(q, L2_EPS, scale));
        rest[..key_width].chunks_exact_mut(key_dim).for_each(|k| cpu.kernel.l2_norm(k, L2_EPS, 1.0));
    });
    let mixed = &*mixed;
    for (place, recurrence) in spans(batch) {
        let (from, to) = states.lead(recurrence, layer, StatePart::Heads);
        let rows = &mut out.data[place.row * out.width..(place.row + place.tokens) * out.width];
        let len = key_dim * value_dim;
        cpu.threads.for_each_tile_mut(
            (rows, out.width),
            place.tokens,
            value_dim,
            (to, len),
            |head, mut out, state| {
                match from {
                    Some(from) => state.copy_from_slice(&from[head * len..][..len]),
                    None => state.fill(0.0),
                }
                let key = head / (value_heads / key_heads) * key_dim;
                for token in 0..place.tokens {
                    let at = place.row + token;
                    let row = mixed.row(at);
                    let step = DeltaStep {
                        q: &row[key..][..key_dim],
                        k: &row[key_width + key..][..key_dim],
                        v: &row[2 * key_width + head * value_dim..][..value_dim],
                        decay: exp(rate[head] * softplus(decay.row(at)[head] + bias[head])),
                        beta: 1.0 / (1.0 + exp(-beta.row(at)[head])),
                    };
                    cpu.kernel.delta_rule(state, step, out.row(token));
                }
            },
        );
    }
}

/// `ln(1 + e^x)`, rounded once: libm's in f64, so that every platform has the same bits.
fn softplus(x: f32) -> f32 {
    if x > SOFTPLUS_LINEAR { x } else { libm::log1p(libm::exp(f64::from(x))) as f32 }
}
