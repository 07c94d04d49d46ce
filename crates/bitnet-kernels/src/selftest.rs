//! A quick executed proof that a kernel does on this CPU what the scalar one does: virtual machines have been seen
//! to report instructions that they do not carry out as they should.

use crate::{
    Kernel, KernelError,
    isa::{Block, Isa, Lanes, Op, Word},
    scalar,
    simd::Floats as _,
};

/// Enough blocks to pass every unrolled loop and i16 flush of the kernels, with a remainder.
const BLOCKS: usize = 37;

/// Compares integer sums and a few float operations with the scalar kernel's.
pub(crate) fn self_test(kernel: &'static Kernel) -> Result<(), KernelError> {
    let failed = |what| KernelError::SelfTest { name: kernel.name(), what };
    let (strips, x) = inputs();
    let (dots, tiles_agree) = kernel.run(Integers { strips: &strips, x: &x });
    if dots != scalar::run(Integers { strips: &strips, x: &x }).0 {
        return Err(failed("the integer product of one token"));
    }
    if !tiles_agree {
        return Err(failed("the integer product of several tokens"));
    }
    let floats: [f32; 96] = std::array::from_fn(|i| (i as f32 - 40.3) * 0.37);
    if kernel.run(Floats(&floats)) != scalar::run(Floats(&floats)) {
        return Err(failed("a float operation"));
    }
    Ok(())
}

/// Codes and activations from a small generator, extremes first.
fn inputs() -> ([[Block; BLOCKS]; 2], [[Word; BLOCKS]; 2]) {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    };
    let mut strips = [[[0xaa; 64]; BLOCKS]; 2];
    let mut x = [[[-127; 16]; BLOCKS]; 2];
    // The first blocks keep the largest code against the largest activation.
    for block in strips.iter_mut().flat_map(|s| &mut s[18..]) {
        let code = |r: u32| (r >> 8) as u8 % 3;
        *block =
            std::array::from_fn(|_| code(next()) | code(next()) << 2 | code(next()) << 4 | code(next()) << 6);
    }
    for word in x.iter_mut().flat_map(|x| &mut x[18..]) {
        *word = std::array::from_fn(|_| next() as u8 as i8);
    }
    (strips, x)
}

struct Integers<'a> {
    strips: &'a [[Block; BLOCKS]; 2],
    x: &'a [[Word; BLOCKS]; 2],
}

impl Op for Integers<'_> {
    /// Both strips times both tokens as the single-token form gives them, and whether all tiles agree with that.
    type Output = ([[Lanes<i32>; 2]; 2], bool);

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> Self::Output {
        let want = [0, 1].map(|s| [0, 1].map(|t| isa.dot(&self.strips[s], &self.x[t])));
        let mut agree = true;
        if I::TOKENS >= 2 {
            agree &= self.tile::<I, 1, 2>(isa, &want);
        }
        if I::TOKENS >= 4 {
            agree &= self.tile::<I, 1, 4>(isa, &want);
        }
        if I::STRIPS >= 4 {
            agree &= self.tile::<I, 4, 4>(isa, &want);
        }
        if I::STRIPS >= 2 && I::TOKENS >= 12 {
            agree &= self.tile::<I, 2, 12>(isa, &want);
        }
        (want, agree)
    }
}

impl Integers<'_> {
    /// Whether a tile of alternating strips and tokens gives the sums in `want`.
    #[inline(always)]
    fn tile<I: Isa, const S: usize, const T: usize>(&self, isa: I, want: &[[Lanes<i32>; 2]; 2]) -> bool {
        let mut out = [[[0; 16]; T]; S];
        let strips = std::array::from_fn(|s| self.strips[s % 2].as_slice());
        isa.tile::<S, T>(strips, std::array::from_fn(|t| self.x[t % 2].as_slice()), &mut out);
        (0..S).all(|s| (0..T).all(|t| out[s][t] == want[s % 2][t % 2]))
    }
}

struct Floats<'a>(&'a [f32; 96]);

impl Op for Floats<'_> {
    type Output = ([u32; 2], [u16; 16], [u32; 16]);

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) -> Self::Output {
        let (lanes, _) = self.0.as_chunks::<16>();
        let sum = crate::float::lanes::sum_of(self.0, |x| x * x);
        let exp = crate::float::lanes::sum_of(self.0, crate::float::exp::exp);
        let halves = isa.load(&lanes[1]).to_f16();
        ([sum.to_bits(), exp.to_bits()], halves, isa.load_f16(&halves).store().map(f32::to_bits))
    }
}
