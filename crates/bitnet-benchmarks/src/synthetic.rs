//! Models of a published shape with random trits: right for speed, meaningless as text.
//!
//! Trits are -1, 0 and 1 with equal chances, scales keep every projection's output as large as its input, and norms are 1, so
//! hidden values stay near 1 and logits near 3. What depends on training is not there: how often squared ReLU
//! gives zero (half of the time here), and how peaked the logits are (not at all here).

use bitnet_core::{Buffer, DenseMatrix, HybridMemoryPool, Purpose, ThreadPool, tensor::DType};
use bitnet_model::{Config, ModelError, Norm, Part, PartSource, Projection, Table, Weight};
use bitnet_quant::{Scales, TernaryMatrix};
use half::f16;

use crate::ModelShape;

/// Standard deviation of the logits, as a trained model's may be.
const LOGITS: f32 = 3.0;
/// Bytes of an embedding that a thread makes at a time.
const PIECE: usize = 1 << 17;

/// The parts of a synthetic model, made when they are asked for: the same parts for the same shape.
pub struct Synthetic<'a> {
    shape: ModelShape,
    config: Config,
    pool: HybridMemoryPool,
    threads: &'a ThreadPool,
}

impl<'a> Synthetic<'a> {
    /// A model of `shape` whose embedding lies in `pool`, made by `threads`.
    pub fn new(shape: ModelShape, pool: HybridMemoryPool, threads: &'a ThreadPool) -> Self {
        Self { shape, config: shape.config(), pool, threads }
    }

    fn shape_of(&self, part: Part) -> [usize; 2] {
        match part {
            Part::Weight(_, projection) => projection.shape(&self.config),
            _ => [self.config.vocab, self.config.hidden],
        }
    }

    /// Trits of uniform chance, the same for the same part.
    fn trits(&self, part: Part) -> Result<TernaryMatrix, ModelError> {
        let [rows, cols] = self.shape_of(part);
        // A trit's variance is 2/3.
        let scale = 1.0 / (cols as f32 * (2.0 / 3.0)).sqrt();
        let scales = match self.shape.group {
            None => Scales::Tensor(scale),
            Some(size) => Scales::Group { size, scales: vec![scale; rows * cols.div_ceil(size)] },
        };
        let codes = codes(rows * cols.div_ceil(4), seed(part));
        TernaryMatrix::new(rows, cols, codes, scales).map_err(ModelError::quant(&self.name(part)))
    }

    /// Nearly Gaussian floats, the same for the same part.
    fn table(&self, part: Part) -> Result<Table, ModelError> {
        let [rows, cols] = self.shape_of(part);
        let mut buffer: Buffer<u8> = self.pool.allocate(Purpose::Weights, 2 * rows * cols)?;
        let values = gaussian(deviation(cols));
        self.threads.for_each_chunk_mut(&mut buffer, PIECE, |index, piece| {
            let mut random = Random(seed(part) ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            for pair in piece.chunks_mut(4) {
                let bits = random.next().to_le_bytes();
                for (value, four) in pair.chunks_mut(2).zip(bits.as_chunks::<4>().0) {
                    let sum: usize = four.iter().map(|&b| usize::from(b)).sum();
                    value.copy_from_slice(&values[sum]);
                }
            }
        });
        Ok(Table::Dense(DenseMatrix::new(DType::F16, rows, cols, buffer.into())?))
    }
}

impl PartSource for Synthetic<'_> {
    fn config(&self) -> &Config {
        &self.config
    }

    fn name(&self, part: Part) -> String {
        format!("{part:?}")
    }

    fn byte_len(&self, part: Part) -> u64 {
        let [rows, cols] = self.shape_of(part);
        let weights = (rows * cols) as u64;
        if matches!(part, Part::Weight(..)) { weights / 4 } else { 2 * weights }
    }

    fn weight(&self, part: Part) -> Result<Weight, ModelError> {
        match part {
            Part::Weight(..) => self.trits(part).map(Weight::Ternary),
            _ => self.table(part).map(Weight::Table),
        }
    }

    fn vector(&self, part: Part) -> Result<Option<Vec<f32>>, ModelError> {
        Ok(match part {
            Part::FinalNorm => Some(vec![1.0; self.config.hidden]),
            Part::Norm(_, norm) => Some(vec![1.0; norm.len(&self.config)]),
            Part::Convolution(_) | Part::DecayRate(_) | Part::DecayBias(_) => self.recurrent(part),
            _ => None,
        })
    }
}

impl Synthetic<'_> {
    /// A vector of a recurrent block: a convolution that takes the mean of what it sees, and heads that forget slowly.
    fn recurrent(&self, part: Part) -> Option<Vec<f32>> {
        let sizes = self.config.recurrent.as_ref()?.sizes;
        Some(match part {
            Part::Convolution(_) => vec![1.0 / sizes.taps as f32; sizes.taps * sizes.channels()],
            Part::DecayRate(_) => vec![-0.1; sizes.value_heads],
            _ => vec![0.0; sizes.value_heads],
        })
    }
}

/// A number of its own for every part.
pub(crate) fn seed(part: Part) -> u64 {
    let number = match part {
        Part::Embedding => 0,
        Part::Head => 1,
        Part::FinalNorm => 2,
        Part::Weight(layer, p) => 16 * (layer + 1) + place(p),
        Part::Norm(layer, Norm::Attention) => 16 * (layer + 1) + 8,
        Part::Norm(layer, _)
        | Part::Bias(layer, _)
        | Part::InputNorm(layer, _)
        | Part::Convolution(layer)
        | Part::DecayRate(layer)
        | Part::DecayBias(layer) => 16 * (layer + 1) + 9,
    };
    (number as u64 + 1).wrapping_mul(0xd129_0d3a_55b1_74b9)
}

/// The number of a projection within its block.
fn place(projection: Projection) -> usize {
    match projection {
        Projection::Query => 0,
        Projection::Key => 1,
        Projection::Value => 2,
        Projection::Output => 3,
        Projection::Gate => 4,
        Projection::Up => 5,
        Projection::Down => 6,
        Projection::AttentionGate => 10,
        Projection::DeltaInput => 11,
        Projection::DeltaGate => 12,
        Projection::DeltaBeta => 13,
        Projection::DeltaDecay => 14,
        Projection::DeltaOutput => 15,
    }
}

/// splitmix64 (Steele, Lea, Flood, 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// `len` bytes of four trits each.
fn codes(len: usize, seed: u64) -> Vec<u8> {
    let four: [u8; 81] = std::array::from_fn(|n| {
        let digit = |place: usize| (n / place % 3) as u8;
        digit(1) | digit(3) << 2 | digit(9) << 4 | digit(27) << 6
    });
    let mut random = Random(seed);
    let mut codes = Vec::with_capacity(len.next_multiple_of(4));
    while codes.len() < len {
        let bits = random.next();
        let pick = |i: u32| four[(((bits >> (16 * i) & 0xffff) * 81) >> 16) as usize];
        codes.extend([pick(0), pick(1), pick(2), pick(3)]);
    }
    codes.truncate(len);
    codes
}

/// `len` bytes of random trits; as strips they are as good as any.
pub(crate) fn strips(len: usize) -> Vec<u8> {
    codes(len, 1)
}

/// Standard deviation of an embedding's elements, so that logits have theirs.
pub(crate) fn deviation(hidden: usize) -> f32 {
    LOGITS / (hidden as f32).sqrt()
}

/// The bytes of an f16 for every sum of four bytes: nearly a normal distribution of this standard deviation.
fn gaussian(deviation: f32) -> [[u8; 2]; 1021] {
    // The variance of a uniform byte is (256^2 - 1) / 12.
    let unit = (4.0f32 * 65_535.0 / 12.0).sqrt();
    std::array::from_fn(|sum| f16::from_f32((sum as f32 - 510.0) / unit * deviation).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trits_are_uniform_and_repeatable() {
        let all = codes(30_000, 7);
        assert_eq!(all, codes(30_000, 7));
        assert_ne!(all, codes(30_000, 8));
        let m = TernaryMatrix::new(300, 400, all, Scales::Tensor(1.0)).unwrap();
        let counts = m.counts();
        for count in [counts.minus, counts.zero, counts.plus] {
            assert!((39_000..41_000).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn embeddings_have_the_deviation_asked_for() {
        let (pool, threads) = (HybridMemoryPool::new(), ThreadPool::new(2));
        let source = Synthetic::new(ModelShape::named("tiny").unwrap(), pool, &threads);
        let table = source.table(Part::Embedding).unwrap();
        let mut row = vec![0.0; table.cols()];
        let mut squares = 0.0;
        for r in 0..table.rows() {
            table.row_to_f32(r, &mut row);
            squares += row.iter().map(|x| f64::from(x * x)).sum::<f64>();
        }
        let deviation = (squares / (table.rows() * table.cols()) as f64).sqrt();
        let expected = f64::from(LOGITS) / (table.cols() as f64).sqrt();
        assert!((deviation / expected - 1.0).abs() < 0.02, "{deviation} for {expected}");
    }
}
