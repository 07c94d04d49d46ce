//! Every kernel that this machine can run against one naive reference: equality, never tolerance.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bitnet_core::{HybridMemoryPool, ThreadPool, threads::ColumnsMut};
use bitnet_kernels::{Kernel, available};
use bitnet_quant::{Activations, PackedTernary, QuantizedRows, Scales, TernaryMatrix, activations::BLOCK};
use proptest::prelude::*;

/// A small deterministic generator for contents; shapes come from proptest.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }
}

/// What the weights of a test are.
#[derive(Clone, Copy, Debug)]
enum Trits {
    Random,
    All(i8),
    SomeZeroRows,
}

/// What the activations of a test are.
#[derive(Clone, Copy, Debug)]
enum Tokens {
    Random,
    /// Every code is +127 or -127.
    Extreme(bool),
    Zero,
}

#[derive(Clone, Copy, Debug)]
enum Scaling {
    Tensor,
    Row,
    Group(usize),
}

#[derive(Clone, Debug)]
struct Case {
    rows: usize,
    cols: usize,
    tokens: usize,
    trits: Trits,
    x: Tokens,
    scaling: Scaling,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let rows = prop_oneof![Just(1), Just(3), Just(7), Just(15), Just(16), Just(17), Just(33), 1usize..80];
    let cols = prop_oneof![Just(1), Just(16), Just(17), Just(64), Just(256), Just(1040), 1usize..600];
    let tokens = prop_oneof![Just(1), Just(2), Just(12), Just(13), 1usize..40];
    let trits = prop_oneof![
        4 => Just(Trits::Random),
        3 => (-1i8..=1).prop_map(Trits::All),
        1 => Just(Trits::SomeZeroRows)
    ];
    let x = prop_oneof![4 => Just(Tokens::Random), 3 => any::<bool>().prop_map(Tokens::Extreme), 1 => Just(Tokens::Zero)];
    let group = prop_oneof![Just(32), Just(64), Just(128), 1usize..100];
    let scaling = prop_oneof![Just(Scaling::Tensor), Just(Scaling::Row), group.prop_map(Scaling::Group)];
    (rows, cols, tokens, trits, x, scaling, 1..u64::MAX).prop_map(
        |(rows, cols, tokens, trits, x, scaling, seed)| Case { rows, cols, tokens, trits, x, scaling, seed },
    )
}

struct Problem {
    trits: Vec<i8>,
    matrix: TernaryMatrix,
    packed: PackedTernary,
    x: Vec<f32>,
    rows: QuantizedRows,
}

impl Case {
    fn build(&self, form: Activations) -> Problem {
        let mut random = Random(self.seed);
        let mut trit = |row: usize| match self.trits {
            Trits::Random => (random.next() % 3) as i8 - 1,
            Trits::All(t) => t,
            Trits::SomeZeroRows if row.is_multiple_of(2) => 0,
            Trits::SomeZeroRows => (random.next() % 3) as i8 - 1,
        };
        let trits: Vec<i8> = (0..self.rows * self.cols).map(|i| trit(i / self.cols)).collect();
        let mut random = Random(self.seed ^ 0x5555);
        let mut scale = || (random.next() % 4000) as f32 / 997.0 - 2.0;
        let scales = match self.scaling {
            Scaling::Tensor => Scales::Tensor(scale()),
            Scaling::Row => Scales::Row((0..self.rows).map(|_| scale()).collect()),
            Scaling::Group(size) => Scales::Group {
                size,
                scales: (0..self.rows * self.cols.div_ceil(size)).map(|_| scale()).collect(),
            },
        };
        let matrix = TernaryMatrix::from_trits(self.rows, self.cols, &trits, scales).unwrap();
        let pool = HybridMemoryPool::new();
        let packed = PackedTernary::pack(&matrix, &pool, &ThreadPool::new(1)).unwrap();
        let mut random = Random(self.seed ^ 0xaaaa);
        let mut value = || match self.x {
            Tokens::Random => random.next() as i32 as f32 / 1e8,
            Tokens::Extreme(true) => 3.5,
            Tokens::Extreme(false) if random.next().is_multiple_of(9) => 3.5,
            Tokens::Extreme(false) => -3.5,
            Tokens::Zero => 0.0,
        };
        let x: Vec<f32> = (0..self.tokens * self.cols).map(|_| value()).collect();
        let mut rows = QuantizedRows::new(&pool, self.tokens, self.cols).unwrap();
        for (t, x) in x.chunks(self.cols).enumerate() {
            match form {
                Activations::Int8PerBlock => rows.quantize_blocks(t, x),
                _ => rows.quantize_token(t, x),
            }
        }
        Problem { trits, matrix, packed, x, rows }
    }
}

impl Problem {
    fn trit(&self, row: usize, col: usize) -> i8 {
        self.trits[row * self.matrix.cols() + col]
    }

    /// The specification, one element at a time.
    fn naive(&self, form: Activations, token: usize, row: usize) -> f32 {
        let cols = self.matrix.cols();
        let (group, grouped) = match self.matrix.scales() {
            Scales::Group { size, .. } => (*size, true),
            _ => (cols, false),
        };
        let dot = |columns: std::ops::Range<usize>| -> i32 {
            columns.map(|c| i32::from(self.trit(row, c)) * i32::from(self.rows.codes(token)[c])).sum()
        };
        if form == Activations::Int8PerToken && !grouped {
            return (dot(0..cols) as f32 * self.rows.step(token)) * self.matrix.scale(row, 0);
        }
        let mut acc = 0.0f32;
        for start in (0..cols).step_by(group) {
            let end = (start + group).min(cols);
            let mut sum = 0.0f32;
            match form {
                Activations::Int8PerToken => sum += dot(start..end) as f32 * self.rows.step(token),
                Activations::Int8PerBlock => {
                    for block in start / BLOCK..end.div_ceil(BLOCK) {
                        let columns = start.max(block * BLOCK)..end.min((block + 1) * BLOCK);
                        sum += dot(columns) as f32 * self.rows.block_steps(token)[block];
                    }
                }
                Activations::Float => {
                    for col in start..end {
                        sum += f32::from(self.trit(row, col)) * self.x[token * cols + col];
                    }
                }
            }
            acc += sum * self.matrix.scale(row, start);
        }
        acc
    }

    fn run(&self, kernel: &Kernel, form: Activations, first_row: usize, out: &mut ColumnsMut<'_, f32>) {
        match form {
            Activations::Float => kernel.matmul_float(&self.packed, &self.x, first_row, out),
            _ => kernel.matmul(&self.packed, &self.rows, form, first_row, out),
        }
    }

    fn check(&self, form: Activations) {
        let (rows, tokens) = (self.matrix.rows(), self.rows.capacity());
        let want: Vec<u32> =
            (0..tokens * rows).map(|i| self.naive(form, i / rows, i % rows).to_bits()).collect();
        for kernel in available() {
            let mut out = vec![f32::NAN; tokens * rows];
            self.run(kernel, form, 0, &mut ColumnsMut::whole(&mut out, rows));
            let got: Vec<u32> = out.iter().map(|y| y.to_bits()).collect();
            assert_eq!(got, want, "{} {form:?}", kernel.name());
        }
    }
}

fn config() -> ProptestConfig {
    let cases = if cfg!(debug_assertions) { 24 } else { 160 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_kernel_equals_the_definition(case in cases()) {
        for form in [Activations::Int8PerToken, Activations::Int8PerBlock, Activations::Float] {
            case.build(form).check(form);
        }
    }

    #[test]
    fn any_cut_by_strips_gives_the_same(case in cases(), width in 1usize..4) {
        let form = Activations::Int8PerToken;
        let problem = case.build(form);
        let rows = case.rows;
        for kernel in available() {
            let mut whole = vec![0.0; case.tokens * rows];
            problem.run(kernel, form, 0, &mut ColumnsMut::whole(&mut whole, rows));
            let mut cut = vec![f32::NAN; case.tokens * rows];
            ThreadPool::new(2).for_each_columns_mut(&mut cut, rows, 16 * width, |_, mut out| {
                let first = out.start();
                problem.run(kernel, form, first, &mut out);
            });
            prop_assert_eq!(&whole, &cut);
        }
    }
}

/// The widest sums: a long row of the largest code against the largest activation, as long as a model's widest.
#[test]
fn the_longest_rows_of_extremes_are_exact() {
    for (trits, sign) in [(1, true), (-1, true), (1, false)] {
        let case = Case {
            rows: 33,
            cols: 28_672,
            tokens: 14,
            trits: Trits::All(trits),
            x: Tokens::Extreme(sign),
            scaling: Scaling::Tensor,
            seed: 7,
        };
        case.build(Activations::Int8PerToken).check(Activations::Int8PerToken);
    }
}

/// More strips than a group, more tokens than pass together, more columns than are unpacked at a time, and a rest of each.
#[test]
fn large_products_with_rests_are_exact() {
    for (trits, x) in [(Trits::Random, Tokens::Random), (Trits::All(-1), Tokens::Extreme(false))] {
        let case = Case { rows: 147, cols: 1030, tokens: 131, trits, x, scaling: Scaling::Row, seed: 11 };
        case.build(Activations::Int8PerToken).check(Activations::Int8PerToken);
    }
}
