//! Dense rows (heads, unquantized projections, keys) times float vectors.

use bitnet_core::threads::ColumnsMut;
use half::{bf16, f16};

use crate::{
    isa::{Block, Isa, Lanes, Op, array},
    simd::Floats,
};

/// How stored elements become f32, exactly.
pub(crate) trait Element: bytemuck::NoUninit {
    /// What pads a tail; it widens to 0.
    const ZERO: Self;
    /// Whether elements are f32 as stored, so that nothing need be widened.
    const IS_F32: bool = false;

    /// Loads sixteen neighbours and widens them, exactly.
    fn load<I: Isa>(isa: I, x: &[Self; 16]) -> I::Floats;
}

impl Element for f32 {
    const ZERO: Self = 0.0;
    const IS_F32: bool = true;

    #[inline(always)]
    fn load<I: Isa>(isa: I, x: &[Self; 16]) -> I::Floats {
        isa.load(x)
    }
}

impl Element for f16 {
    const ZERO: Self = f16::ZERO;

    #[inline(always)]
    fn load<I: Isa>(isa: I, x: &[Self; 16]) -> I::Floats {
        isa.load_f16(bytemuck::must_cast_ref(x))
    }
}

impl Element for bf16 {
    const ZERO: Self = bf16::ZERO;

    #[inline(always)]
    fn load<I: Isa>(isa: I, x: &[Self; 16]) -> I::Floats {
        isa.load_bf16(bytemuck::must_cast_ref(x))
    }
}

impl Element for i8 {
    const ZERO: Self = 0;

    #[inline(always)]
    fn load<I: Isa>(isa: I, x: &[Self; 16]) -> I::Floats {
        isa.load_i8(x)
    }
}

/// The last elements of a row, padded with zeros. (A lane is never -0, so adding 0 * 0 to it changes nothing.)
#[inline(always)]
pub(crate) fn pad<E: Element>(tail: &[E]) -> [E; 16] {
    let mut out = [E::ZERO; 16];
    out[..tail.len()].copy_from_slice(tail);
    out
}

/// The lanes of `Q` vectors times `P` rows, before they are added up. Meanwhile `ahead` is fetched, as many bytes as are used.
#[inline(always)]
fn lanes_of<I: Isa, E: Element, const Q: usize, const P: usize>(
    isa: I,
    rows: [&[E]; P],
    x: [&[f32]; Q],
    ahead: &[Block],
) -> [[I::Floats; P]; Q] {
    let len = x[0].len();
    assert!(x.iter().all(|x| x.len() == len) && rows.iter().all(|row| row.len() == len));
    let row_chunks: [_; P] = array(|p| rows[p].as_chunks::<16>());
    let x_chunks: [_; Q] = array(|q| x[q].as_chunks::<16>());
    let mut acc = [[isa.splat(0.0); P]; Q];
    let lines = (16 * P * size_of::<E>()).div_ceil(size_of::<Block>());
    for i in 0..len / 16 {
        for line in 0..lines {
            if let Some(block) = ahead.get(i * lines + line) {
                isa.prefetch(block);
            }
        }
        // No bounds checks: with a way to panic inside the loop the sums are kept in memory.
        // SAFETY: all slices have `len` elements, hence `len / 16` chunks.
        let rows = array(|p| unsafe { row_chunks[p].0.get_unchecked(i) });
        // SAFETY: as above.
        let x = array(|q| unsafe { x_chunks[q].0.get_unchecked(i) });
        accumulate(isa, &mut acc, rows, x);
    }
    if !len.is_multiple_of(16) {
        let (rows, x) = (row_chunks.map(|row| pad(row.1)), x_chunks.map(|x| pad(x.1)));
        accumulate(isa, &mut acc, rows.each_ref(), x.each_ref());
    }
    acc
}

/// `acc[q][p] += rows[p] * x[q]`. A function, since a closure is only inlined when the compiler likes, and what is not
/// inlined is not compiled for the instruction set.
#[inline(always)]
fn accumulate<I: Isa, E: Element, const Q: usize, const P: usize>(
    isa: I,
    acc: &mut [[I::Floats; P]; Q],
    rows: [&[E; 16]; P],
    x: [&Lanes<f32>; Q],
) {
    let mut w = [isa.splat(0.0); P];
    for p in 0..P {
        w[p] = E::load(isa, rows[p]);
    }
    for q in 0..Q {
        let x = isa.load(x[q]);
        for p in 0..P {
            acc[q][p] = acc[q][p].add(w[p].mul(x));
        }
    }
}

/// `Q` vectors times `count` (at most 16) rows: `out[q][i] = dot(row(i), x[q])` in lane order. What lies behind `count`
/// has no meaning.
#[inline(always)]
pub(crate) fn dots<'a, I: Isa, E: Element + 'a, const Q: usize>(
    isa: I,
    count: usize,
    row: impl Fn(usize) -> &'a [E],
    x: [&[f32]; Q],
) -> [Lanes<f32>; Q] {
    dots_with::<I, E, Q, 4>(isa, count, row, x, |_| &[])
}

/// [`dots`], `P` rows side by side, that fetches `ahead(i)` while rows `i .. i + P` are read.
#[inline(always)]
fn dots_with<'a, I: Isa, E: Element + 'a, const Q: usize, const P: usize>(
    isa: I,
    count: usize,
    row: impl Fn(usize) -> &'a [E],
    x: [&[f32]; Q],
    ahead: impl Fn(usize) -> &'a [Block],
) -> [Lanes<f32>; Q] {
    let mut all = [[isa.splat(0.0); 16]; Q];
    let mut i = 0;
    while i + P <= count.min(16) {
        let several = lanes_of::<I, E, Q, P>(isa, array(|p| row(i + p)), x, ahead(i));
        for (all, several) in all.iter_mut().zip(&several) {
            all[i..i + P].copy_from_slice(several);
        }
        i += P;
    }
    while i < count.min(16) {
        let one = lanes_of(isa, [row(i)], x, &[]);
        for (all, one) in all.iter_mut().zip(&one) {
            all[i] = one[0];
        }
        i += 1;
    }
    let mut out = [[0.0; 16]; Q];
    for (out, all) in out.iter_mut().zip(&all) {
        *out = I::Floats::sums(all).store();
    }
    out
}

/// `out[t][r] = dot(w[r], x[t])`, `w` being `[rows, cols]` and `x` `[tokens, cols]`.
pub(crate) struct DenseMatmul<'a, 'b, E> {
    pub(crate) w: &'a [E],
    pub(crate) cols: usize,
    pub(crate) x: &'a [f32],
    pub(crate) out: &'a mut ColumnsMut<'b, f32>,
}

impl<E: Element> Op for DenseMatmul<'_, '_, E> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(mut self, isa: I) {
        let (rows, tokens) = (self.out.width(), self.out.rows());
        for first in (0..rows).step_by(16) {
            let mut token = 0;
            while token < tokens {
                if I::WIDE_FLOATS && token + 4 <= tokens {
                    self.tile::<I, 4, 4>(isa, first, token);
                    token += 4;
                } else if !I::WIDE_FLOATS && token + 2 <= tokens {
                    self.tile::<I, 2, 2>(isa, first, token);
                    token += 2;
                } else {
                    self.tile::<I, 1, 4>(isa, first, token);
                    token += 1;
                }
            }
        }
    }
}

impl<E: Element> DenseMatmul<'_, '_, E> {
    /// Up to 16 rows times `Q` tokens, `P` rows side by side: in them the memory sees as many streams and serves them at a third of its
    /// speed, so with one token the next `P` are asked for in the order in which they lie.
    #[inline(always)]
    fn tile<I: Isa, const Q: usize, const P: usize>(&mut self, isa: I, first: usize, token: usize) {
        let (w, cols) = (self.w, self.cols);
        let count = (self.out.width() - first).min(16);
        let row = |i: usize| &w[(first + i) * cols..(first + i + 1) * cols];
        let x = std::array::from_fn(|q| &self.x[(token + q) * cols..(token + q + 1) * cols]);
        let (lines, _) = bytemuck::cast_slice::<E, u8>(w).as_chunks::<64>();
        let bytes = cols * size_of::<E>();
        // A tile of several tokens is bound by arithmetic, and its later tokens find the rows in cache.
        let wanted = self.out.rows() == 1;
        let ahead = |i: usize| {
            let (from, to) = ((first + i + P) * bytes / 64, (first + i + 2 * P) * bytes / 64);
            let end = to.min(lines.len());
            if wanted && from < end { &lines[from..end] } else { &[] }
        };
        let dots = dots_with::<I, E, Q, P>(isa, count, row, x, ahead);
        for (q, dots) in dots.iter().enumerate() {
            self.out.row(token + q)[first..first + count].copy_from_slice(&dots[..count]);
        }
    }
}

/// Widens stored elements to f32: `out[i] = x[i]`.
pub(crate) struct Widen<'a, E> {
    pub(crate) x: &'a [E],
    pub(crate) out: &'a mut [f32],
}

impl<E: Element> Op for Widen<'_, E> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (chunks, tail) = self.x.as_chunks::<16>();
        let (out, last) = self.out.as_chunks_mut::<16>();
        for (x, out) in chunks.iter().zip(out) {
            *out = E::load(isa, x).store();
        }
        let padded = E::load(isa, &pad(tail)).store();
        last.copy_from_slice(&padded[..tail.len()]);
    }
}

/// `out[i] = dot(w[ids[i]], x)`, rows of `x.len()` elements.
pub(crate) struct DenseRows<'a, E> {
    pub(crate) w: &'a [E],
    pub(crate) x: &'a [f32],
    pub(crate) ids: &'a [u32],
    pub(crate) out: &'a mut [f32],
}

impl<E: Element> Op for DenseRows<'_, E> {
    type Output = ();
    const FLOATS: bool = true;

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let (w, x) = (self.w, self.x);
        for (ids, out) in self.ids.chunks(16).zip(self.out.chunks_mut(16)) {
            let row = |i: usize| &w[ids[i] as usize * x.len()..][..x.len()];
            let [dots] = dots::<I, E, 1>(isa, ids.len(), row, [x]);
            out.copy_from_slice(&dots[..ids.len()]);
        }
    }
}
