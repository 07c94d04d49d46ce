//! A few blocks of a model with random trits.

use bitnet_core::{DenseMatrix, tensor::DType};
use bitnet_model::{Config, ModelError, Norm, Part, PartSource, Projection, Table, Weight};
use bitnet_quant::{Scales, TernaryMatrix};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

/// Rows of the sample's embedding: some, since tokens must be something.
pub(super) const VOCABULARY: usize = 64;
/// Bytes of trits that no cache holds.
const BYTES: usize = 96 << 20;

/// A source of a model like another one, but shorter.
pub(super) struct Sample {
    config: Config,
}

/// Larger blocks are no sample any more; those of models of 70 billion weights have a fifth of it.
const MOST: usize = 1 << 30;

impl Sample {
    /// Whether even one block of `config` would be too much to make up and to keep in several layouts.
    pub(super) fn is_too_large(config: &Config) -> bool {
        block(config) > MOST
    }

    /// As many blocks of `config` as exceed the caches, at most its own.
    pub(super) fn of(config: &Config) -> Result<Self, ModelError> {
        let layers = BYTES.div_ceil(block(config).max(1)).clamp(1, config.layers);
        // Blocks of plain attention also for hybrids: what is compared is how fast trits stream in one form or another.
        let config = Config {
            layers,
            vocab: VOCABULARY,
            tied_head: true,
            gated_attention: false,
            recurrent: None,
            fold: None,
            ..config.clone()
        };
        Ok(Self { config: config.check()? })
    }

    pub(super) fn layers(&self) -> usize {
        self.config.layers
    }
}

/// Bytes of a block's trits.
fn block(config: &Config) -> usize {
    Projection::PLAIN.map(|p| p.shape(config)).iter().map(|[rows, cols]| rows * cols / 4).sum()
}

impl PartSource for Sample {
    fn config(&self) -> &Config {
        &self.config
    }

    fn name(&self, part: Part) -> String {
        format!("{part:?} of the tuner's sample")
    }

    fn byte_len(&self, _: Part) -> u64 {
        0
    }

    fn weight(&self, part: Part) -> Result<Weight, ModelError> {
        let name = self.name(part);
        let Part::Weight(layer, projection) = part else {
            let (rows, cols) = (VOCABULARY, self.config.hidden);
            let ones = 1.0f32.to_le_bytes().repeat(rows * cols);
            return Ok(Weight::Table(Table::Dense(DenseMatrix::new(DType::F32, rows, cols, ones.into())?)));
        };
        let [rows, cols] = projection.shape(&self.config);
        let stride = cols.div_ceil(4);
        let mut codes = vec![0; rows * stride];
        let mut random = Pcg32::seed_from_u64((8 * layer + projection as usize) as u64);
        for row in codes.chunks_exact_mut(stride) {
            for bytes in row.chunks_mut(8) {
                bytes.copy_from_slice(&random.next_u64().to_le_bytes()[..bytes.len()]);
            }
            // Two random bits a trit, 3 made 1; the last byte, which may hold padding, is zeros.
            row.iter_mut().for_each(|byte| *byte ^= (*byte & (*byte >> 1) & 0x55) << 1);
            row[stride - 1] = 0x55;
        }
        let scale = 1.0 / (cols as f32).sqrt();
        let matrix = TernaryMatrix::new(rows, cols, codes, Scales::Tensor(scale));
        Ok(Weight::Ternary(matrix.map_err(ModelError::quant(&name))?))
    }

    fn vector(&self, part: Part) -> Result<Option<Vec<f32>>, ModelError> {
        Ok(match part {
            Part::FinalNorm => Some(vec![1.0; self.config.hidden]),
            Part::Norm(_, norm) => Some(vec![1.0; Norm::len(norm, &self.config)]),
            Part::InputNorm(_, projection) => Some(vec![1.0; projection.shape(&self.config)[1]]),
            _ => None,
        })
    }
}
