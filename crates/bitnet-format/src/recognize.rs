//! Float weights that are exactly ternary: by tensor, by row, or by group.
//!
//! Magnitudes are compared as bits, which for finite floats is comparing them as numbers, without widening them.

use bitnet_quant::{QuantError, Scales, TernaryMatrix};
use half::{bf16, f16};

use crate::{FormatError, TensorType, TensorView, blocks::gather::plane};

/// The smallest power of two of columns for which a scale is looked for, and the smallest equal part of a row.
const MIN_GROUP: usize = 32;
const MIN_PART: usize = 8;
/// The most equal parts of a row that are tried: models trained in parallel shards have a scale for each shard.
const MAX_PARTS: usize = 16;

/// Trits and scales of an F32, F16 or BF16 matrix whose weights are exactly 0 or plus or minus one scale by tensor,
/// else by row, else by group (the largest that fits, of: equal parts of a row, and powers of two down to 32).
/// `None` when it is not ternary. Minus zero is zero.
///
/// # Errors
/// For other types, and when a weight is infinite or no number.
pub fn recognize_ternary(view: &TensorView<'_>) -> Result<Option<TernaryMatrix>, FormatError> {
    let info = view.info();
    let Some(float) = Float::of(info.ty()) else {
        return Err(view.unreadable("only F32, F16 and BF16 tensors can be looked at for exact trits"));
    };
    view.check_bytes()?;
    let (rows, cols) = (info.rows(), info.cols());
    if rows == 0 || cols == 0 {
        return Ok(None);
    }
    let stride = cols.div_ceil(4);
    let (mut words, mut row_codes) = (vec![0u32; cols], vec![0u8; cols]);
    // Grows with the rows that are ternary, so that a dense matrix costs nothing.
    let mut codes = Vec::new();
    let mut survey = Survey::new(cols);
    for (row, bytes) in view.bytes().chunks_exact(cols * float.size).enumerate() {
        float.read(bytes, &mut words);
        if let Some(col) = words.iter().position(|w| w & float.mask >= float.infinity) {
            return Err(view.quant(QuantError::NotFinite { row, col, value: float.value(words[col]) }));
        }
        row_codes.iter_mut().zip(&words).for_each(|(code, word)| *code = float.code(*word));
        words.iter_mut().for_each(|word| *word &= float.mask);
        if !survey.see(&words) {
            return Ok(None);
        }
        codes.resize(codes.len() + stride, 0);
        plane(&row_codes, 0, &mut codes[row * stride..]);
    }
    let Some(grain) = survey.coarsest() else { return Ok(None) };
    let scales = scales(view.bytes(), &float, cols, grain).coarsest(cols);
    TernaryMatrix::new(rows, cols, codes, scales).map(Some).map_err(|e| view.quant(e))
}

/// The magnitude of the nonzero weights of each row (no `grain`) or group, which are all equal; 0 where there are none.
fn scales(bytes: &[u8], float: &Float, cols: usize, grain: Option<usize>) -> Scales {
    let magnitude = |group: &[u8]| {
        let mut words = group.chunks_exact(float.size).map(|b| float.word(b) & float.mask);
        words.find(|w| *w != 0).map_or(0.0, |w| float.value(w))
    };
    let rows = bytes.chunks_exact(cols * float.size);
    match grain {
        None => Scales::Row(rows.map(magnitude).collect()),
        Some(size) => Scales::Group {
            size,
            scales: rows.flat_map(|row| row.chunks(size * float.size).map(magnitude)).collect(),
        },
    }
}

/// How a type of float is laid out.
struct Float {
    ty: TensorType,
    size: usize,
    /// All bits of an element but its sign.
    mask: u32,
    /// The bits of infinity: this and above is not finite.
    infinity: u32,
}

impl Float {
    fn of(ty: TensorType) -> Option<Self> {
        let (size, mask, infinity) = match ty {
            TensorType::F32 => (4, 0x7fff_ffff, 0x7f80_0000),
            TensorType::F16 => (2, 0x7fff, 0x7c00),
            TensorType::Bf16 => (2, 0x7fff, 0x7f80),
            _ => return None,
        };
        Some(Self { ty, size, mask, infinity })
    }

    fn read(&self, bytes: &[u8], words: &mut [u32]) {
        if self.size == 4 {
            words.iter_mut().zip(bytes.as_chunks::<4>().0).for_each(|(w, b)| *w = u32::from_le_bytes(*b));
        } else {
            words
                .iter_mut()
                .zip(bytes.as_chunks::<2>().0)
                .for_each(|(w, b)| *w = u16::from_le_bytes(*b).into());
        }
    }

    fn word(&self, bytes: &[u8]) -> u32 {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        u32::from_le_bytes(word)
    }

    /// The code of an element: trit + 1.
    fn code(&self, word: u32) -> u8 {
        let nonzero = u8::from(word & self.mask != 0);
        1 + nonzero - 2 * (nonzero & u8::from(word > self.mask))
    }

    fn value(&self, word: u32) -> f32 {
        match self.ty {
            TensorType::F16 => f16::from_bits(word as u16).to_f32(),
            TensorType::Bf16 => bf16::from_bits(word as u16).to_f32(),
            _ => f32::from_bits(word),
        }
    }
}

/// Which granularities are still possible.
struct Survey {
    row: bool,
    /// Sizes of groups that are tried, the largest first.
    groups: Vec<usize>,
}

impl Survey {
    fn new(cols: usize) -> Self {
        let parts = (2..=MAX_PARTS)
            .filter(|p| cols.is_multiple_of(*p))
            .map(|p| cols / p)
            .filter(|&part| part >= MIN_PART);
        let powers = (0..usize::BITS).map(|b| 1usize << b).take_while(|&size| size < cols);
        let mut groups: Vec<usize> = parts.chain(powers.filter(|&size| size >= MIN_GROUP)).collect();
        groups.sort_unstable_by(|a, b| b.cmp(a));
        groups.dedup();
        Self { row: true, groups }
    }

    /// Crosses out what a row of magnitudes forbids: a change from one nonzero weight to the next must be a change
    /// of group. Returns whether anything is left.
    fn see(&mut self, magnitudes: &[u32]) -> bool {
        let first = magnitudes.iter().copied().find(|m| *m != 0).unwrap_or(0);
        if magnitudes.iter().fold(true, |same, &m| same & ((m == first) | (m == 0))) {
            return true;
        }
        self.row = false;
        let mut last: Option<(usize, u32)> = None;
        for (col, &magnitude) in magnitudes.iter().enumerate().filter(|(_, m)| **m != 0) {
            if let Some((before, _)) = last.filter(|(_, m)| *m != magnitude) {
                self.groups.retain(|size| before / size != col / size);
                if self.groups.is_empty() {
                    return false;
                }
            }
            last = Some((col, magnitude));
        }
        true
    }

    /// `Some(None)` for rows, `Some(Some(size))` for groups.
    fn coarsest(&self) -> Option<Option<usize>> {
        if self.row { Some(None) } else { self.groups.first().map(|&size| Some(size)) }
    }
}
