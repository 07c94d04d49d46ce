//! An instruction set that does one thing wrong, to see that the self-test sees it.

use std::ops::Range;

use super::self_test;
use crate::{
    Kernel, KernelError,
    float::attention::wide::Wide,
    isa::{Block, Four, Isa, Lanes, Op, Plane, Word, line_dots, line_sums},
    scalar::Scalar,
    screen::{ByteDots, Query},
    simd::bytes::Sixteen,
    ternary::definitions::Lines,
};

/// The one operation that a faulty kernel does wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    Dot,
    Tile,
    PlaneTile,
    Unpack,
    DotBase3,
    UnpackBase3,
    Finish,
    Transpose,
    ListOpen,
    ListNonzero,
    LineDots,
    LineSums,
    WideDots,
    Widen,
    Soften,
    Integers,
    Load,
    LoadF16,
    LoadBf16,
    SplatF16,
    LoadBytes,
    SpreadBits,
    LowNibbles,
    HighNibbles,
    ByteDots,
}

/// The scalar set but for one fault.
#[derive(Clone, Copy)]
pub(crate) struct Faulty(Fault);

/// Compiles `op` for the set with `fault`.
pub(crate) fn run<O: Op>(fault: Fault, op: O) -> O::Output {
    op.eval(Faulty(fault))
}

impl Faulty {
    fn has(self, fault: Fault) -> bool {
        self.0 == fault
    }

    /// The sums, the last of which is one too large if that is the fault.
    fn lanes(self, fault: Fault, mut sums: Lanes<i32>) -> Lanes<i32> {
        sums[15] = sums[15].wrapping_add(i32::from(self.has(fault)));
        // The second strip is used in part: rows of both halves are looked at.
        sums[2] = sums[2].wrapping_add(i32::from(self.has(fault)));
        sums
    }
}

impl ByteDots for Faulty {
    const QUERIES: usize = 8;

    fn byte_dots<const T: usize>(self, blocks: &[Block], x: [Query<'_>; T]) -> [Lanes<i32>; T] {
        let mut sums = Scalar.byte_dots(blocks, x);
        if T == 8 {
            sums[7] = self.lanes(Fault::ByteDots, sums[7]);
        }
        sums
    }
}

impl Isa for Faulty {
    type Floats = crate::simd::Array;
    const WIDE_FLOATS: bool = false;
    const STRIPS: usize = 2;
    const TOKENS: usize = 4;
    const PLANE_TOKENS: usize = 6;
    const PLANES_FROM: usize = 8;

    fn dot(self, blocks: &[Block], x: &[Word]) -> Lanes<i32> {
        self.lanes(Fault::Dot, Scalar.dot(blocks, x))
    }

    fn tile<const S: usize, const T: usize>(
        self,
        strips: [&[Block]; S],
        x: [&[Word]; T],
        out: &mut [[Lanes<i32>; T]; S],
    ) {
        Scalar.tile(strips, x, out);
        out[S - 1][T - 1] = self.lanes(Fault::Tile, out[S - 1][T - 1]);
    }

    fn unpack(self, blocks: &[Block], planes: &mut [Plane]) {
        Scalar.unpack(blocks, planes);
        if self.has(Fault::Unpack) {
            planes.iter_mut().for_each(|plane| plane[9] ^= 1);
        }
    }

    fn plane_tile<const T: usize>(self, planes: &[Plane], x: [&[Four]; T], sums: &mut [Lanes<i32>; T]) {
        Scalar.plane_tile(planes, x, sums);
        sums[T - 1] = self.lanes(Fault::PlaneTile, sums[T - 1]);
    }

    fn dot_base3(self, blocks: &[Block], x: &[i8]) -> Lanes<i32> {
        self.lanes(Fault::DotBase3, Scalar.dot_base3(blocks, x))
    }

    fn unpack_base3(self, blocks: [&Block; 4]) -> [Block; 5] {
        let mut made = Scalar.unpack_base3(blocks);
        made[4][3] ^= u8::from(self.has(Fault::UnpackBase3));
        made
    }

    fn finish(self, sums: &Lanes<i32>, x_sum: i32, step: f32, scales: &Lanes<f32>) -> Lanes<f32> {
        Scalar.finish(&self.lanes(Fault::Finish, *sums), x_sum, step, scales)
    }

    fn transpose<const TURN: bool>(self, lines: [&Block; 16]) -> [Block; 16] {
        let mut made = Scalar.transpose::<TURN>(lines);
        made[1][8] ^= u8::from(self.has(Fault::Transpose));
        made
    }

    fn list_open(self, x: &[f32], first: u32, ids: &mut [u32]) -> usize {
        Scalar.list_open(x, first, ids) - usize::from(self.has(Fault::ListOpen))
    }

    fn list_nonzero(self, x: &[i8], first: u32, ids: &mut [u32]) -> usize {
        Scalar.list_nonzero(x, first, ids) - usize::from(self.has(Fault::ListNonzero))
    }

    fn line_dots(self, lines: Lines<'_>, ids: &[u32], x: &[Word], sums: &mut [i32]) {
        line_dots(self, lines, ids, x, sums);
        sums[0] += i32::from(self.has(Fault::LineDots));
    }

    fn line_sums(self, lines: Lines<'_>, codes: &[i8], blocks: Range<usize>, sums: &mut [Lanes<i32>]) {
        line_sums(self, lines, codes, blocks, sums);
        sums[0] = self.lanes(Fault::LineSums, sums[0]);
    }

    fn wide_dots<const S: usize, const N: usize>(
        self,
        blocks: [&[Block]; S],
        x: &[Wide; N],
    ) -> [[Lanes<i32>; N]; S] {
        let mut sums = Scalar.wide_dots(blocks, x);
        sums[S - 1][N - 1] = self.lanes(Fault::WideDots, sums[S - 1][N - 1]);
        sums
    }

    fn widen(self, x: &[f32], wide: &mut Wide) -> f32 {
        let step = Scalar.widen(x, wide);
        wide.full[0][3] += i16::from(self.has(Fault::Widen));
        step
    }

    fn soften(self, x: &mut [f32]) -> [f32; 2] {
        let [max, sum] = Scalar.soften(x);
        [max, if self.has(Fault::Soften) { sum.next_up() } else { sum }]
    }

    fn floats(self, x: &Lanes<i32>) -> Self::Floats {
        Scalar.floats(&self.lanes(Fault::Integers, *x))
    }

    fn call<O: Op>(self, part: O) -> O::Output {
        part.eval(self)
    }

    fn multiply(self, rounds: u64) -> (u64, i32) {
        Scalar.multiply(rounds)
    }

    fn load(self, x: &Lanes<f32>) -> Self::Floats {
        let mut x = *x;
        if self.has(Fault::Load) {
            x[15] = x[15].next_up();
        }
        Scalar.load(&x)
    }

    fn load_f16(self, x: &[u16; 16]) -> Self::Floats {
        let mut x = *x;
        x[15] ^= u16::from(self.has(Fault::LoadF16));
        Scalar.load_f16(&x)
    }

    fn load_bf16(self, x: &[u16; 16]) -> Self::Floats {
        let mut x = *x;
        x[15] ^= u16::from(self.has(Fault::LoadBf16));
        Scalar.load_bf16(&x)
    }

    fn splat_f16(self, x: u16) -> Self::Floats {
        Scalar.splat_f16(x ^ u16::from(self.has(Fault::SplatF16)))
    }

    fn load_bytes(self, x: &[u8; 16]) -> Sixteen {
        let mut x = *x;
        x[15] ^= u8::from(self.has(Fault::LoadBytes));
        Scalar.load_bytes(&x)
    }

    fn spread_bits(self, x: u16) -> Sixteen {
        Scalar.spread_bits(x ^ u16::from(self.has(Fault::SpreadBits)) << 15)
    }

    fn nibbles<const HIGH: bool>(
        self,
        codes: &[u8; 16],
        levels: &[i8; 16],
        scale: Self::Floats,
        offset: Option<Self::Floats>,
    ) -> Self::Floats {
        let mut codes = *codes;
        let fault = if HIGH { Fault::HighNibbles } else { Fault::LowNibbles };
        codes[15] ^= u8::from(self.has(fault)) << if HIGH { 4 } else { 0 };
        Scalar.nibbles::<HIGH>(&codes, levels, scale, offset)
    }
}

#[test]
fn a_kernel_with_any_fault_fails_its_self_test() {
    use Fault::*;
    let faults = [
        Dot,
        Tile,
        PlaneTile,
        Unpack,
        DotBase3,
        UnpackBase3,
        Finish,
        Transpose,
        ListOpen,
        ListNonzero,
        LineDots,
        LineSums,
        WideDots,
        Widen,
        Soften,
        Integers,
        Load,
        LoadF16,
        LoadBf16,
        SplatF16,
        LoadBytes,
        SpreadBits,
        LowNibbles,
        HighNibbles,
        ByteDots,
    ];
    assert_eq!(self_test(&Kernel::faulty(Nothing)), Ok(()));
    for fault in faults {
        let outcome = self_test(&Kernel::faulty(fault));
        assert!(matches!(outcome, Err(KernelError::SelfTest { .. })), "{fault:?} was not seen: {outcome:?}");
    }
}
