//! What a view of a tensor decodes to.

use bitnet_core::ThreadPool;
use bitnet_quant::{QuantError, Scales, TernaryMatrix};

use crate::{FormatError, FormatErrorKind as Kind, TensorType, TensorView};

use super::{
    dense,
    gather::{ZEROS, first_three},
    ternary::Rows,
};

impl TensorView<'_> {
    /// Decodes row `row` into `out`, `out.len() == cols`. Exact for every type; allocates nothing. Q2_0 and TQ2_0
    /// may hold weights of twice the scale (code 3), as ggml reads them.
    ///
    /// # Errors
    /// When the type cannot be read, the row or `out` does not fit, or a 2-bit code that engines disagree on occurs.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) -> Result<(), FormatError> {
        let info = self.info();
        self.check_row(row, out.len(), info.cols())?;
        if info.ty().is_ternary() {
            return self.dequantize_ternary_row(row, out);
        }
        let row_bytes = self.bytes().len() / info.rows();
        let bytes = &self.bytes()[row * row_bytes..][..row_bytes];
        if dense::dequantize(info.ty(), bytes, out) {
            Ok(())
        } else {
            Err(self.unreadable(advice(info.ty())))
        }
    }

    fn dequantize_ternary_row(&self, row: usize, out: &mut [f32]) -> Result<(), FormatError> {
        let info = self.info();
        let lenient = matches!(info.ty(), TensorType::Q2_0 { .. } | TensorType::Tq2_0);
        let (mut at, mut three) = (0, None);
        self.ternary_rows().runs(row, |codes, weights, scale| {
            if !lenient && let Some(first) = first_three(codes) {
                three.get_or_insert(at + first);
            }
            for (j, out) in out[at..at + weights].iter_mut().enumerate() {
                *out = f32::from((codes[j / 4] >> (2 * (j % 4)) & 3) as i8 - 1) * scale;
            }
            at += weights;
        });
        match three {
            Some(at) => Err(self.no_trit(row, at)),
            None => Ok(()),
        }
    }

    /// All weights, row by row.
    ///
    /// # Errors
    /// As [`TensorView::dequantize_row`].
    pub fn to_f32(&self) -> Result<Vec<f32>, FormatError> {
        let (rows, cols) = (self.info().rows(), self.info().cols());
        if !self.info().ty().is_readable() {
            return Err(self.unreadable(advice(self.info().ty())));
        }
        let mut out = vec![0.0; rows * cols];
        for (row, out) in out.chunks_exact_mut(cols.max(1)).enumerate() {
            self.dequantize_row(row, out)?;
        }
        Ok(out)
    }

    /// Row `row` as codes (trit + 1, four to a byte, first lowest), `codes.len() == ceil(cols / 4)`; returns
    /// nothing of the scales. A group whose scale is 0 has trits 0. Allocates nothing.
    ///
    /// # Errors
    /// When the type is not ternary, or the row or `codes` does not fit. Codes of 3 are passed on.
    pub fn ternary_row(&self, row: usize, codes: &mut [u8]) -> Result<(), FormatError> {
        self.check_ternary()?;
        self.check_row(row, codes.len(), self.info().cols().div_ceil(4))?;
        self.copy_codes(row, codes);
        Ok(())
    }

    /// The same for a type, row and length that have been checked.
    fn copy_codes(&self, row: usize, out: &mut [u8]) {
        let mut at = 0;
        self.ternary_rows().runs(row, |codes, _, scale| {
            let out = &mut out[at..at + codes.len()];
            // A weight that is 0 by its scale is trit 0, so that scales can be compared without looking at trits.
            if scale == 0.0 {
                out.fill(ZEROS)
            } else {
                out.copy_from_slice(codes)
            }
            at += codes.len();
        });
    }

    /// The scales as the file has them: of the tensor, of rows, or of groups.
    ///
    /// # Errors
    /// When the type is not ternary.
    pub fn ternary_scales(&self) -> Result<Scales, FormatError> {
        self.check_ternary()?;
        let rows = self.ternary_rows();
        let Some(size) = rows.scale_group() else {
            let mut scale = 0.0;
            rows.runs(0, |_, _, s| scale = s);
            return Ok(Scales::Tensor(scale));
        };
        let mut scales = Vec::with_capacity(rows.rows * rows.cols.div_ceil(size.max(1)));
        for row in 0..rows.rows {
            let mut seen = 0;
            rows.runs(row, |_, weights, scale| {
                if seen % size == 0 {
                    scales.push(scale);
                }
                seen += weights;
            });
        }
        Ok(if size == rows.cols { Scales::Row(scales) } else { Scales::Group { size, scales } })
    }

    /// Exact trits and scales, the scales at the coarsest granularity that holds them: equal groups become a
    /// row's scale, equal rows the tensor's.
    ///
    /// # Errors
    /// When the type is not ternary, a weight is no trit (code 3), or a scale is not finite. Weights of +2 are counted.
    pub fn to_ternary(&self) -> Result<TernaryMatrix, FormatError> {
        self.collect_ternary(|codes, stride| {
            codes.chunks_exact_mut(stride).enumerate().for_each(|(row, codes)| self.copy_codes(row, codes));
        })
    }

    /// [`TensorView::to_ternary`] on all threads of `threads`.
    ///
    /// # Errors
    /// As [`TensorView::to_ternary`].
    pub fn to_ternary_on(&self, threads: &ThreadPool) -> Result<TernaryMatrix, FormatError> {
        self.collect_ternary(|codes, stride| {
            threads.for_each_chunk_mut(codes, stride, |row, codes| self.copy_codes(row, codes));
        })
    }

    fn collect_ternary(&self, decode: impl FnOnce(&mut [u8], usize)) -> Result<TernaryMatrix, FormatError> {
        self.check_ternary()?;
        let (rows, cols) = (self.info().rows(), self.info().cols());
        let stride = cols.div_ceil(4);
        let mut codes = vec![0; rows * stride];
        decode(&mut codes, stride);
        let scales = self.ternary_scales()?.coarsest(cols);
        TernaryMatrix::new(rows, cols, codes, scales).map_err(|e| match e {
            QuantError::NotATrit { row, col } => self.no_trit(row, col),
            other => self.quant(other),
        })
    }

    /// Why the first code of 3, which is at `row` and `col`, is no trit.
    fn no_trit(&self, row: usize, col: usize) -> FormatError {
        let (tensor, ty) = (self.info().name().to_owned(), self.info().ty());
        match ty {
            TensorType::Q2_0 { .. } | TensorType::Tq2_0 => {
                self.error(Kind::PlusTwo { tensor, count: self.threes(), row, col })
            }
            TensorType::Ptq1_0 => self.error(Kind::Base3 { tensor, row, col }),
            _ => self.quant(QuantError::NotATrit { row, col }),
        }
    }

    /// The codes of 3 in groups whose scale is not 0.
    fn threes(&self) -> u64 {
        let rows = self.ternary_rows();
        let mut count = 0;
        for row in 0..rows.rows {
            rows.runs(row, |codes, _, scale| {
                let of = |codes: &u8| u64::from((codes & (codes >> 1) & 0x55).count_ones());
                count += if scale == 0.0 { 0 } else { codes.iter().map(of).sum() };
            });
        }
        count
    }

    fn ternary_rows(&self) -> Rows<'_> {
        let info = self.info();
        Rows { ty: info.ty(), bytes: self.bytes(), rows: info.rows(), cols: info.cols() }
    }

    fn check_ternary(&self) -> Result<(), FormatError> {
        let ty = self.info().ty();
        match ty {
            _ if ty.is_ternary() => self.check_bytes(),
            TensorType::Tl1 | TensorType::Tl2 | TensorType::Unknown(_) => Err(self.unreadable(advice(ty))),
            _ => Err(self.unreadable("this is not one of the ternary block types")),
        }
    }

    /// A view need not be of the bytes that its tensor has in the file.
    pub(crate) fn check_bytes(&self) -> Result<(), FormatError> {
        let (len, expected) = (self.bytes().len(), self.info().byte_len());
        if len == expected {
            Ok(())
        } else {
            Err(self.argument("the number of bytes", len, expected.to_string()))
        }
    }

    fn check_row(&self, row: usize, len: usize, expected: usize) -> Result<(), FormatError> {
        if row >= self.info().rows() {
            return Err(self.argument("the row", row, format!("less than {}", self.info().rows())));
        }
        if len != expected {
            return Err(self.argument("the length of the output", len, expected.to_string()));
        }
        self.check_bytes()
    }

    pub(crate) fn quant(&self, error: QuantError) -> FormatError {
        self.error(Kind::Quant { tensor: self.info().name().to_owned(), error })
    }
}

/// Why a type cannot be decoded, and what to do.
fn advice(ty: TensorType) -> &'static str {
    match ty {
        TensorType::Tl1 | TensorType::Tl2 => {
            "a lookup-table layout tiled for one build of bitnet.cpp, and the tile sizes are not in the file; \
             convert the original Hugging Face model anew, to I2_S, TQ1_0, TQ2_0 or .bitnet"
        }
        TensorType::Unknown(id) if crate::gguf::type_name(id).is_some() => {
            "this type is not read; a GGUF file of the same model in F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to \
             Q6_K, IQ4_NL, IQ4_XS or MXFP4 is, or in I2_S, TQ1_0, TQ2_0, Q2_0, PTQ1_0 or Q1_0 where it is ternary, and so is \
             the original Hugging Face model"
        }
        TensorType::Unknown(_) => {
            "no such type is known to this program; the original Hugging Face model can be read, or a GGUF file of the \
             same model in another type"
        }
        TensorType::F8E4M3 | TensorType::F8E5M2 => {
            "floats of eight bits are not read; the same model in bf16, f16 or f32 is"
        }
        _ => "this type holds no weights that can be read as floats",
    }
}
