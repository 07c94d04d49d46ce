//! Sizes and forms that operations are told.

use std::sync::Arc;

use bitnet_quant::Granularity;

/// The sizes of an attention and the angles of its positions.
#[derive(Clone, Debug)]
pub struct Heads {
    /// Sequences that are attended to apart.
    pub batch: usize,
    /// Positions of each sequence.
    pub positions: usize,
    /// Heads of keys and values.
    pub kv: usize,
    /// Query heads that read one of them.
    pub group: usize,
    /// Elements of a head.
    pub dim: usize,
    /// Cosines of `[positions, dim / 2]` angles.
    pub cos: Arc<[f32]>,
    /// Sines of the same angles.
    pub sin: Arc<[f32]>,
}

impl Heads {
    /// Width of the queries of a token.
    pub fn q_width(&self) -> usize {
        self.kv * self.group * self.dim
    }

    /// Width of queries, keys and values of a token.
    pub fn width(&self) -> usize {
        (self.group + 2) * self.kv * self.dim
    }

    /// What scores are multiplied with.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// What a projection rounds, and how far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FakeQuantization {
    /// Which weights share a scale; `None` leaves weights as they are (the float twin of a ternary model).
    pub weights: Option<Granularity>,
    /// Whether activations become int8, one step per token.
    pub activations: bool,
    /// How much of the rounding takes part: `w + lambda (Q(w) - w)`. 1 is the quantized model, 0 the float one; between them
    /// lies a float model's way to ternary weights.
    pub lambda: f32,
}

impl FakeQuantization {
    /// W1.58A8 as released models are trained: one scale per matrix, int8 activations.
    pub const W158A8: Self = Self { weights: Some(Granularity::Tensor), activations: true, lambda: 1.0 };
    /// Nothing is rounded: a float model.
    pub const NONE: Self = Self { weights: None, activations: false, lambda: 1.0 };
}

/// Which rows of a student and a teacher are compared, and how they are cut.
#[derive(Clone, Debug)]
pub struct Relations {
    /// Positions of each sequence, padding included.
    pub positions: usize,
    /// Those of each sequence that count, from its first; what lies behind only fills it up.
    pub lengths: Arc<[usize]>,
    /// Relation heads, the same for both models.
    pub heads: usize,
    /// Widths of the student's queries, keys and values of a token, each a multiple of `heads`.
    pub student: [usize; 3],
    /// Widths of the teacher's queries, keys and values, likewise.
    pub teacher: [usize; 3],
}

impl Relations {
    /// What one row of one head and one kind has in the loss.
    pub(super) fn each(&self) -> f32 {
        1.0 / (self.heads * self.lengths.iter().sum::<usize>()) as f32
    }

    /// Sequences times relation heads.
    pub(super) fn blocks(&self) -> usize {
        self.lengths.len() * self.heads
    }
}
