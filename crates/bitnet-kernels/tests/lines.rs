//! Products that leave out rows and columns against the ones that leave out nothing: equality, on every kernel.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use bitnet_core::{HybridMemoryPool, ThreadPool, threads::ColumnsMut};
use bitnet_kernels::{Kernel, available};
use bitnet_quant::{Activations, Axis, PackedTernary, QuantizedRows, Scales, TernaryLines, TernaryMatrix};
use proptest::prelude::*;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    fn float(&mut self) -> f32 {
        self.next() as i32 as f32 / 1e8
    }
}

/// Which values are left alive.
#[derive(Clone, Copy, Debug)]
enum Sparsity {
    AllDead,
    OneLive,
    AllLive,
    /// Percent.
    Live(u32),
    /// Whole runs live and dead.
    Runs,
}

impl Sparsity {
    fn alive(self, random: &mut Random, i: usize, len: usize) -> bool {
        match self {
            Self::AllDead => false,
            Self::OneLive => i == len / 2,
            Self::AllLive => true,
            Self::Live(percent) => random.next() % 100 < percent,
            Self::Runs => i / 37 % 2 == 1,
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    rows: usize,
    cols: usize,
    tokens: usize,
    sparsity: Sparsity,
    by_row: bool,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let size =
        || prop_oneof![Just(1usize), Just(16), Just(255), Just(256), Just(257), Just(2600), 1usize..700];
    let sparsity = prop_oneof![
        Just(Sparsity::AllDead),
        Just(Sparsity::OneLive),
        Just(Sparsity::AllLive),
        Just(Sparsity::Runs),
        (1u32..100).prop_map(Sparsity::Live)
    ];
    (size(), size(), 1usize..6, sparsity, any::<bool>(), 1..u64::MAX).prop_map(
        |(rows, cols, tokens, sparsity, by_row, seed)| Case { rows, cols, tokens, sparsity, by_row, seed },
    )
}

impl Case {
    fn matrix(&self, random: &mut Random) -> PackedTernary {
        let trits: Vec<i8> = (0..self.rows * self.cols).map(|_| (random.next() % 3) as i8 - 1).collect();
        let scales = match self.by_row {
            true => Scales::Row((0..self.rows).map(|_| random.float()).collect()),
            false => Scales::Tensor(random.float()),
        };
        let matrix = TernaryMatrix::from_trits(self.rows, self.cols, &trits, scales).unwrap();
        PackedTernary::pack(&matrix, &HybridMemoryPool::new(), &ThreadPool::new(1)).unwrap()
    }

    fn quantized(&self, x: &[f32]) -> QuantizedRows {
        let mut rows = QuantizedRows::new(&HybridMemoryPool::new(), self.tokens, self.cols).unwrap();
        x.chunks(self.cols).enumerate().for_each(|(t, x)| rows.quantize_token(t, x));
        rows
    }
}

fn lines(packed: &PackedTernary, axis: Axis) -> TernaryLines {
    TernaryLines::new(packed, axis, &HybridMemoryPool::new(), &ThreadPool::new(1)).unwrap()
}

fn dense(kernel: &Kernel, w: &PackedTernary, x: &QuantizedRows, tokens: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; tokens * w.rows()];
    kernel.matmul(w, x, Activations::Int8PerToken, 0, &mut ColumnsMut::whole(&mut out, w.rows()));
    out
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Bits, but zeros have no sign.
fn values(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if *x == 0.0 { 0 } else { x.to_bits() }).collect()
}

fn config() -> ProptestConfig {
    let cases = if cfg!(debug_assertions) { 12 } else { 80 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn live_columns_give_the_dense_product(case in cases(), width in 1usize..4) {
        let mut random = Random(case.seed);
        let packed = case.matrix(&mut random);
        let (rows, columns) = (lines(&packed, Axis::Rows), lines(&packed, Axis::Columns));
        let x: Vec<f32> = (0..case.tokens * case.cols)
            .map(|i| if case.sparsity.alive(&mut random, i % case.cols, case.cols) { random.float() } else { 0.0 })
            .collect();
        let x = case.quantized(&x);
        for kernel in available() {
            let want = bits(&dense(kernel, &packed, &x, case.tokens));
            let mut out = vec![f32::NAN; case.tokens * case.rows];
            for (w, width) in [(&columns, width * 256), (&rows, width * 100)] {
                ThreadPool::new(2).for_each_columns_mut(&mut out, case.rows, width, |_, mut out| {
                    kernel.matmul_live(w, &x, &mut out);
                });
                prop_assert_eq!(&bits(&out), &want, "{}", kernel.name());
            }
        }
    }

    #[test]
    fn live_rows_give_the_dense_gate(case in cases(), width in 1usize..400) {
        let mut random = Random(case.seed);
        let packed = case.matrix(&mut random);
        let rows = lines(&packed, Axis::Rows);
        let x: Vec<f32> = (0..case.tokens * case.cols).map(|_| random.float()).collect();
        let x = case.quantized(&x);
        let gate: Vec<f32> = (0..case.tokens * case.rows)
            .map(|i| match case.sparsity.alive(&mut random, i % case.rows, case.rows) {
                true => random.float().abs() + 0.001,
                false => [-0.0, 0.0, -1.5, f32::NEG_INFINITY][random.next() as usize % 4],
            })
            .collect();
        for kernel in available() {
            let mut want = gate.clone();
            kernel.relu2_mul(&mut want, &dense(kernel, &packed, &x, case.tokens));
            let mut got = gate.clone();
            ThreadPool::new(2).for_each_columns_mut(&mut got, case.rows, width, |_, mut gate| {
                kernel.gate_live(&rows, &x, &mut gate);
            });
            prop_assert_eq!(&values(&got), &values(&want), "{}", kernel.name());
        }
    }

    #[test]
    fn strips_made_of_lines_give_the_dense_product(case in cases(), width in 1usize..3) {
        let mut random = Random(case.seed);
        let packed = case.matrix(&mut random);
        let x: Vec<f32> = (0..case.tokens * case.cols).map(|_| random.float()).collect();
        let x = case.quantized(&x);
        for kernel in available() {
            let want = bits(&dense(kernel, &packed, &x, case.tokens));
            for axis in [Axis::Rows, Axis::Columns] {
                let w = lines(&packed, axis);
                let mut out = vec![f32::NAN; case.tokens * case.rows];
                ThreadPool::new(2).for_each_columns_mut(&mut out, case.rows, width * 256, |_, mut out| {
                    let mut scratch = vec![0; PackedTernary::byte_len(out.width(), case.cols).unwrap()];
                    kernel.matmul_lines(&w, &x, &mut scratch, &mut out);
                });
                prop_assert_eq!(&bits(&out), &want, "{} {:?}", kernel.name(), axis);
            }
        }
    }
}

/// The widest sums, and gates that must not hide an infinity.
#[test]
fn extremes_are_exact() {
    let (rows, cols) = (300, 28_672);
    let pool = HybridMemoryPool::new();
    let matrix = TernaryMatrix::from_trits(rows, cols, &vec![1; rows * cols], Scales::Tensor(2.0)).unwrap();
    let packed = PackedTernary::pack(&matrix, &pool, &ThreadPool::new(1)).unwrap();
    for value in [3.5, -3.5, f32::MAX] {
        let mut x = QuantizedRows::new(&pool, 1, cols).unwrap();
        x.quantize_token(0, &vec![value; cols]);
        for kernel in available() {
            let want = dense(kernel, &packed, &x, 1);
            let mut got = vec![f32::NAN; rows];
            kernel.matmul_live(&lines(&packed, Axis::Columns), &x, &mut ColumnsMut::whole(&mut got, rows));
            assert_eq!(bits(&got), bits(&want), "{}", kernel.name());
            let gate: Vec<f32> = (0..rows).map(|i| i as f32 - 150.0).collect();
            let (mut want_gate, mut got_gate) = (gate.clone(), gate);
            kernel.relu2_mul(&mut want_gate, &want);
            kernel.gate_live(&lines(&packed, Axis::Rows), &x, &mut ColumnsMut::whole(&mut got_gate, rows));
            let nan = |x: &[f32]| x.iter().map(|x| x.is_nan()).collect::<Vec<_>>();
            assert_eq!(nan(&got_gate), nan(&want_gate), "{}", kernel.name());
            if value != f32::MAX {
                assert_eq!(values(&got_gate), values(&want_gate), "{}", kernel.name());
            }
        }
    }
}
