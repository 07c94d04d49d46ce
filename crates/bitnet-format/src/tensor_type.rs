//! How the elements of a tensor are stored, and how many bytes that takes.

use std::fmt;

/// How the elements of a tensor are stored.
///
/// The block layouts are those of ggml; "group" and "block" run along a row. Sources: llama.cpp `ggml-common.h`,
/// the fork in microsoft/BitNet (I2_S), ik_llama.cpp (IQ*_BN), PrismML's fork (PTQ1_0, Q1_0), OxiBonsai (TQ2_0_G128).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TensorType {
    /// IEEE 754 binary64, eight bytes.
    F64,
    /// IEEE 754 binary32, four bytes.
    F32,
    /// IEEE 754 binary16, two bytes.
    F16,
    /// The upper half of a binary32 (bfloat16), two bytes.
    Bf16,
    /// Eight-bit float, four exponent bits; listed, not decoded.
    F8E4M3,
    /// Eight-bit float, five exponent bits; listed, not decoded.
    F8E5M2,
    /// Signed integers of 64 bits.
    I64,
    /// Signed integers of 32 bits.
    I32,
    /// Signed integers of 16 bits.
    I16,
    /// Signed integers of 8 bits, without a scale.
    I8,
    /// Unsigned integers of 64 bits.
    U64,
    /// Unsigned integers of 32 bits.
    U32,
    /// Unsigned integers of 16 bits.
    U16,
    /// Unsigned, 8 bits: in Hugging Face models four trits of one column, packed along rows.
    U8,
    /// Booleans, a byte each, 0 or 1.
    Bool,
    /// 32 weights in 18 bytes: f16 scale, 4-bit codes less 8.
    Q4_0,
    /// 32 weights in 20 bytes: f16 scale, f16 least value, 4-bit codes.
    Q4_1,
    /// 32 weights in 22 bytes: f16 scale, 5-bit codes less 16.
    Q5_0,
    /// 32 weights in 24 bytes: f16 scale, f16 least value, 5-bit codes.
    Q5_1,
    /// 32 weights in 34 bytes: f16 scale, i8 codes.
    Q8_0,
    /// 256 weights in 84 bytes: 2-bit codes with 4-bit scales and minima.
    Q2K,
    /// 256 weights in 110 bytes: 3-bit codes with 6-bit scales.
    Q3K,
    /// 256 weights in 144 bytes: 4-bit codes with 6-bit scales and minima.
    Q4K,
    /// 256 weights in 176 bytes: 5-bit codes with 6-bit scales and minima.
    Q5K,
    /// 256 weights in 210 bytes: 6-bit codes with i8 scales.
    Q6K,
    /// 32 weights in 18 bytes: f16 scale, 4-bit codes that stand for sixteen unequal steps.
    Iq4Nl,
    /// 256 weights in 136 bytes: the codes of [`TensorType::Iq4Nl`] with 6-bit scales.
    Iq4Xs,
    /// 32 weights in 17 bytes: a power of two, floats of four bits.
    Mxfp4,
    /// 256 trits in 54 bytes: five to a byte in base 3, f16 scale.
    Tq1_0,
    /// 256 trits in 66 bytes: two bits each, f16 scale.
    Tq2_0,
    /// 128 trits in 32 bytes, one f32 scale after all of them (bitnet.cpp on x86, the published files).
    I2S,
    /// 64 trits in 16 bytes, one f32 scale after all of them (bitnet.cpp built for ARM); chosen only by
    /// [`OpenOptions::i2s_64`](crate::OpenOptions), since nothing in a file tells it from [`TensorType::I2S`].
    I2S64,
    /// Trits of two bits in plain order with an f16 scale per group of 64 or 128.
    Q2_0 {
        /// Weights that share a scale: 64 or 128.
        group: usize,
    },
    /// 128 trits in 34 bytes: the codes of [`TensorType::Q2_0`], the f16 scale behind them; a code of 3 is another 0. Told
    /// from Q2_0 only by its bytes.
    Tq2_0G128,
    /// 128 trits in 28 bytes: five to a byte in base 3, the f16 scale behind them.
    Ptq1_0,
    /// 128 weights in 18 bytes: f16 scale, a bit for each sign; none is 0.
    Q1_0,
    /// 64 trits in 13 bytes, an f16 scale per row.
    Iq1Bn,
    /// 64 trits in 16 bytes, an f32 scale per row.
    Iq2Bn,
    /// [`TensorType::Iq2Bn`] with four rows interleaved.
    Iq2BnR4,
    /// Lookup-table layout of bitnet.cpp for ARM, tiled for one build; recognized, not decoded.
    Tl1,
    /// Lookup-table layout of bitnet.cpp for x86, tiled for one build; recognized, not decoded.
    Tl2,
    /// A GGUF type number that is unknown, or that fits several types.
    Unknown(u32),
}

impl TensorType {
    /// Weights in a block and bytes of a block, for types made of equal blocks along rows.
    pub fn block(self) -> Option<(usize, usize)> {
        use TensorType as T;
        Some(match self {
            T::F64 | T::I64 | T::U64 => (1, 8),
            T::F32 | T::I32 | T::U32 => (1, 4),
            T::F16 | T::Bf16 | T::I16 | T::U16 => (1, 2),
            T::I8 | T::U8 | T::Bool | T::F8E4M3 | T::F8E5M2 => (1, 1),
            T::Q4_0 | T::Iq4Nl => (32, 18),
            T::Q4_1 => (32, 20),
            T::Q5_0 => (32, 22),
            T::Q5_1 => (32, 24),
            T::Q8_0 => (32, 34),
            T::Mxfp4 => (32, 17),
            T::Q2K => (256, 84),
            T::Q3K => (256, 110),
            T::Q4K => (256, 144),
            T::Q5K => (256, 176),
            T::Iq4Xs => (256, 136),
            T::Q6K => (256, 210),
            T::Tq1_0 => (256, 54),
            T::Tq2_0 => (256, 66),
            T::Q2_0 { group } => (group, 2 + group / 4),
            T::Tq2_0G128 => (128, 34),
            T::Ptq1_0 => (128, 28),
            T::Q1_0 => (128, 18),
            _ => return None,
        })
    }

    /// Bytes of a `[rows, cols]` tensor of this type, or `None` when the type cannot hold the shape, its size is
    /// not known, or it overflows.
    pub fn byte_len(self, rows: usize, cols: usize) -> Option<usize> {
        use TensorType as T;
        let whole = |block: usize| cols.is_multiple_of(block).then_some(cols / block);
        if let Some((weights, bytes)) = self.block() {
            return rows.checked_mul(whole(weights)?)?.checked_mul(bytes);
        }
        let count = rows.checked_mul(cols)?;
        match self {
            // The quantizer runs over the whole tensor, so only the number of all weights must be whole blocks.
            T::I2S => count.is_multiple_of(128).then_some(())?,
            T::I2S64 => count.is_multiple_of(64).then_some(())?,
            T::Tl1 => count.is_multiple_of(4).then_some(())?,
            T::Iq1Bn => return rows.checked_mul(whole(64)?.checked_mul(13)?.checked_add(2)?),
            T::Iq2Bn => return rows.checked_mul(whole(64)?.checked_mul(16)?.checked_add(4)?),
            T::Iq2BnR4 if rows.is_multiple_of(4) => return T::Iq2Bn.byte_len(rows, cols),
            T::Tl2 => return tl2_len(rows, cols),
            _ => return None,
        }
        (count / 4).checked_add(32)
    }

    /// Whether [`to_ternary`](crate::TensorView::to_ternary) decodes this type.
    pub fn is_ternary(self) -> bool {
        use TensorType as T;
        let of_blocks =
            matches!(self, T::Tq1_0 | T::Tq2_0 | T::Q2_0 { .. } | T::Tq2_0G128 | T::Ptq1_0 | T::Q1_0);
        of_blocks || matches!(self, T::I2S | T::I2S64 | T::Iq1Bn | T::Iq2Bn | T::Iq2BnR4)
    }

    /// Whether this is F32, F16 or BF16.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Whether [`dequantize_row`](crate::TensorView::dequantize_row) decodes this type.
    pub fn is_readable(self) -> bool {
        self.is_float() || self.is_ternary() || self.is_dense_block()
    }

    /// Whether this is one of the block types that stand for floats of any value.
    fn is_dense_block(self) -> bool {
        use TensorType as T;
        let of_32 = matches!(self, T::Q4_0 | T::Q4_1 | T::Q5_0 | T::Q5_1 | T::Q8_0 | T::Iq4Nl | T::Mxfp4);
        of_32 || matches!(self, T::Q2K | T::Q3K | T::Q4K | T::Q5K | T::Q6K | T::Iq4Xs)
    }
}

/// All but the last 256 columns in triples of five bits, the rest in pairs of four (microsoft/BitNet's loader).
fn tl2_len(rows: usize, cols: usize) -> Option<usize> {
    let triples = cols.checked_sub(256)?.checked_mul(rows)?;
    let bytes = (triples / 3).checked_mul(5)?.div_ceil(8).checked_add(rows.checked_mul(128)?)?;
    bytes.checked_next_multiple_of(32)?.checked_add(32)
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TensorType as T;
        let name = match self {
            T::F64 => "F64",
            T::F32 => "F32",
            T::F16 => "F16",
            T::Bf16 => "BF16",
            T::F8E4M3 => "F8_E4M3",
            T::F8E5M2 => "F8_E5M2",
            T::I64 => "I64",
            T::I32 => "I32",
            T::I16 => "I16",
            T::I8 => "I8",
            T::U64 => "U64",
            T::U32 => "U32",
            T::U16 => "U16",
            T::U8 => "U8",
            T::Bool => "BOOL",
            T::Q4_0 => "Q4_0",
            T::Q4_1 => "Q4_1",
            T::Q5_0 => "Q5_0",
            T::Q5_1 => "Q5_1",
            T::Q8_0 => "Q8_0",
            T::Q2K => "Q2_K",
            T::Q3K => "Q3_K",
            T::Q4K => "Q4_K",
            T::Q5K => "Q5_K",
            T::Q6K => "Q6_K",
            T::Iq4Nl => "IQ4_NL",
            T::Iq4Xs => "IQ4_XS",
            T::Mxfp4 => "MXFP4",
            T::Tq1_0 => "TQ1_0",
            T::Tq2_0 => "TQ2_0",
            T::I2S => "I2_S",
            T::I2S64 => "I2_S (64/16)",
            T::Q2_0 { group } => return write!(f, "Q2_0 (groups of {group})"),
            T::Tq2_0G128 => "TQ2_0_G128",
            T::Ptq1_0 => "PTQ1_0",
            T::Q1_0 => "Q1_0",
            T::Iq1Bn => "IQ1_BN",
            T::Iq2Bn => "IQ2_BN",
            T::Iq2BnR4 => "IQ2_BN_R4",
            T::Tl1 => "TL1",
            T::Tl2 => "TL2",
            T::Unknown(id) => match crate::gguf::type_name(*id) {
                Some(name) => return write!(f, "of GGUF type {id} ({name})"),
                None => return write!(f, "of the unknown GGUF type {id}"),
            },
        };
        f.write_str(name)
    }
}
