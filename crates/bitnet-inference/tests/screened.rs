//! The screened head gives the tokens of the full head: for 10,000 hidden states and heads made to break it, every chain
//! of the sampler, every kernel; and for whole generations of real models.

// A test that cannot read its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bitnet_core::{DType, DenseMatrix, HybridMemoryPool, SharedBytes, ThreadPool};
use bitnet_cpu::Cpu;
use bitnet_device::{Batch, Device, Job, KvShape, Pass, Pending, Screening, SequenceShape};
use bitnet_inference::{
    GenerateOptions, HeadChoice, InferenceEngine, LoadOptions, Sampler, SamplingMemory, SamplingOptions,
    ScreenCounts,
};
use bitnet_kernels::Kernel;
use bitnet_model::{MatrixForm, Part, Table, Weight};
use bitnet_quant::Activations;

mod support;
use support::oracle;

const VOCAB: usize = 603;
const HIDDEN: usize = 96;

/// Deterministic noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    /// About normal, variance 1.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| (self.next() & 0xffff) as f32 / 65536.0 - 0.5).sum::<f32>() * 1.414
    }

    fn vector(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| scale * self.normal()).collect()
    }
}

/// A head full of near-ties: duplicates, rows that differ by one bit in one weight, negated rows, huge and tiny ones.
fn head(noise: &mut Noise, round: usize) -> Vec<f32> {
    let mut rows: Vec<Vec<f32>> = (0..VOCAB).map(|_| noise.vector(HIDDEN, 0.05)).collect();
    for i in 0..VOCAB {
        let other = noise.below(VOCAB);
        match (noise.below(8), round % 4) {
            (0, _) => rows[i] = rows[other].clone(),
            (1, _) => {
                rows[i] = rows[other].clone();
                let j = noise.below(HIDDEN);
                rows[i][j] = if i % 2 == 0 { rows[i][j].next_up() } else { rows[i][j].next_down() };
            }
            (2, _) => rows[i] = rows[other].iter().map(|w| -w).collect(),
            (3, 1) => rows[i].iter_mut().for_each(|w| *w *= 1e3),
            (3, 2) => rows[i].iter_mut().for_each(|w| *w *= 1e-12),
            (3, 3) => rows[i].fill(0.0),
            // Nearly all rows alike: nothing can be screened out.
            (4.., 3) if round % 8 == 7 => rows[i] = rows[0].clone(),
            _ => {}
        }
    }
    rows.concat()
}

/// Hidden states: plain, with outliers, along a row, sparse, of extreme scales, zero.
fn hidden(noise: &mut Noise, head: &[f32], i: usize) -> Vec<f32> {
    let mut h = noise.vector(HIDDEN, 1.0);
    match i % 10 {
        0 => h[i / 10 % HIDDEN] = 200.0,
        1 => h.iter_mut().zip(&head[i % VOCAB * HIDDEN..]).for_each(|(h, w)| *h = 30.0 * w),
        2 => h.iter_mut().for_each(|x| *x = if *x > 1.0 { *x } else { 0.0 }),
        3 => h.iter_mut().for_each(|x| *x *= [1e-30, 1e12, 1e-3, 1e30][i / 10 % 4]),
        4 if i % 100 == 4 => h.fill(0.0),
        _ => {}
    }
    h
}

/// Every kind of chain that a support may answer, and some that it may not.
fn chain(noise: &mut Noise, i: usize) -> SamplingOptions {
    let greedy = || SamplingOptions { seed: i as u64, ..Default::default() };
    let warm = || SamplingOptions { temperature: [0.3, 0.8, 1.0, 1.7][i / 12 % 4], ..greedy() };
    let ids = |noise: &mut Noise, sign: f32| {
        (0..5).map(|_| (noise.below(VOCAB) as u32, sign * noise.normal())).collect()
    };
    match i % 12 {
        0 | 1 => greedy(),
        2 => SamplingOptions { top_k: [1, 2, 5, 40][i / 12 % 4], ..warm() },
        3 => SamplingOptions { min_p: [0.9, 0.3, 0.05, 0.5][i / 12 % 4], ..warm() },
        4 => SamplingOptions { top_k: 20, top_p: 0.9, min_p: 0.02, ..warm() },
        5 => SamplingOptions { logit_bias: ids(noise, 3.0), repetition_penalty: 1.2, ..greedy() },
        6 => SamplingOptions { frequency_penalty: 0.4, presence_penalty: 0.2, top_k: 8, ..warm() },
        7 => SamplingOptions { repetition_penalty: 0.7, logit_bias: ids(noise, 1.0), ..greedy() },
        8 => SamplingOptions { frequency_penalty: -0.6, penalty_window: 9, min_p: 0.2, ..warm() },
        9 => SamplingOptions {
            logit_bias: vec![(noise.below(VOCAB) as u32, f32::NEG_INFINITY), (2_000, 1.0)],
            ..greedy()
        },
        10 => SamplingOptions { top_p: [0.2, 0.6, 0.95, 0.999][i / 12 % 4], ..warm() },
        _ => {
            SamplingOptions { repetition_penalty: 1.3, top_k: 40, top_p: 0.95, penalty_window: 16, ..warm() }
        }
    }
}

fn dense(values: &[f32], cols: usize, dtype: DType) -> DenseMatrix {
    let rows = values.len() / cols;
    let bytes: Vec<u8> = match dtype {
        DType::F32 => return DenseMatrix::from_f32(rows, cols, values).unwrap(),
        DType::F16 => values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
        DType::Bf16 => values.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
    };
    // Halves need an even address, which a pool's buffer has.
    let mut buffer =
        HybridMemoryPool::new().allocate::<u8>(bitnet_core::Purpose::Weights, bytes.len()).unwrap();
    buffer.copy_from_slice(&bytes);
    DenseMatrix::new(dtype, rows, cols, SharedBytes::from(buffer)).unwrap()
}

/// `states` hidden states of one head, `tokens` at a time; returns the counts and how many tokens were proven.
fn compare(kernel: &'static Kernel, round: usize, states: usize, tokens: usize) -> (ScreenCounts, usize) {
    let noise = &mut Noise(1 + round as u64);
    let pool = HybridMemoryPool::new();
    let cpu =
        Cpu::new(kernel, Arc::new(ThreadPool::new(1 + round % 3)), pool).with_head(HeadChoice::Screened);
    let values = head(noise, round);
    let hiddens: Vec<f32> = (0..states).flat_map(|i| hidden(noise, &values, i)).collect();
    let dtype = [DType::F32, DType::F16, DType::Bf16][round % 3];
    let matrix = |values: &[f32], dtype| {
        let table = Table::Dense(dense(values, HIDDEN, dtype));
        cpu.matrix(Part::Head, "head", Weight::Table(table), MatrixForm::Strips).unwrap()
    };
    let (weights, states_table) = (matrix(&values, dtype), matrix(&hiddens, DType::F32));
    let screen = <Cpu as Device>::Screen::of(&cpu, &weights, None).unwrap().unwrap();
    let mut room = screen.room(&cpu, tokens).unwrap();
    let kv = KvShape { layers: 1, heads: 1, head_dim: 8 };
    let shape = SequenceShape { kv, recurrent: None };
    let mut pages = cpu.pages(shape, 1).unwrap();
    let mut memory = SamplingMemory::new(VOCAB);
    let (mut x, mut logits) = (cpu.rows(tokens, HIDDEN).unwrap(), cpu.rows(tokens, VOCAB).unwrap());
    let codes = cpu.codes(tokens, HIDDEN).unwrap();
    let mut proven = 0;
    for first in (0..states).step_by(tokens) {
        let ids: Vec<u32> = (first..(first + tokens).min(states)).map(|i| i as u32).collect();
        let mut pass = cpu.begin(Batch { ids: &ids, ..Batch::default() }, &mut pages, None).unwrap();
        pass.embed(&states_table, &mut x);
        let mut pairs: Vec<[Sampler; 2]> = ids
            .iter()
            .map(|&i| {
                let options = chain(noise, i as usize);
                let history: Vec<u32> = (0..30).map(|_| noise.below(VOCAB) as u32).collect();
                let accepted: Vec<u32> = (0..20).map(|_| noise.below(VOCAB) as u32).collect();
                [(); 2].map(|()| {
                    let mut sampler = Sampler::new(options.clone(), VOCAB, &history, 64);
                    accepted.iter().for_each(|&id| sampler.accept(id));
                    sampler
                })
            })
            .collect();
        // A chain that needs every logit still goes through the screen here: its choice must never be proven wrongly.
        let needs = |i: usize| pairs[i][0].need().unwrap_or_default();
        screen.find(&mut pass, &weights, &x, (ids.len(), &needs), &mut room);
        pass.project(
            &x,
            &codes,
            Activations::Float,
            ids.len(),
            &mut [Job { weight: &weights, bias: None, out: &mut logits }],
        );
        pass.fetch(&mut logits, ids.len());
        pass.submit().unwrap().wait().unwrap();
        let all = cpu.read(&logits, ids.len());
        for (t, pair) in pairs.iter_mut().enumerate() {
            let all = &all[t * VOCAB..][..VOCAB];
            let Some(support) = screen.found(&room, t) else { continue };
            for (&id, logit) in support.ids.iter().zip(support.logits) {
                assert_eq!(
                    logit.to_bits(),
                    all[id as usize].to_bits(),
                    "round {round} state {}: id {id}",
                    ids[t]
                );
            }
            let listed = |id: usize| support.ids.binary_search(&(id as u32)).is_ok();
            assert!(
                (0..VOCAB).all(|id| listed(id) || all[id] < support.floor),
                "round {round} state {}: floor",
                ids[t]
            );
            // Several draws, since one may agree by chance.
            for _ in 0..4 {
                let Some(got) = pair[0].sample_support(kernel, &support, &mut memory) else { break };
                assert_eq!(
                    got,
                    pair[1].sample(kernel, all, &mut memory),
                    "round {round} state {} chain {}",
                    ids[t],
                    ids[t] % 12
                );
                proven += 1;
            }
        }
    }
    (screen.counts(&room), proven)
}

#[test]
fn ten_thousand_hidden_states() {
    let kernel = bitnet_kernels::select(None).unwrap();
    let (mut counts, mut proven) = (ScreenCounts::default(), 0);
    for round in 0..20 {
        let (more, tokens) = compare(kernel, round, 500, [1, 1, 3, 16][round % 4]);
        println!("round {round}: {more:?}, {tokens} tokens proven");
        counts.screened += more.screened;
        counts.full += more.full;
        proven += tokens;
    }
    assert_eq!(counts.screened, 10_000);
    // A screen that always gives up would be right as well.
    assert!(counts.full < counts.screened / 3, "{counts:?}");
    assert!(proven > 20_000, "{proven}");
}

#[test]
fn on_every_kernel() {
    for kernel in bitnet_kernels::available() {
        let results: Vec<_> = (0..4).map(|round| compare(kernel, round, 120, [1, 2, 7, 16][round])).collect();
        let best: Vec<_> = (0..4)
            .map(|round| compare(bitnet_kernels::select(None).unwrap(), round, 120, [1, 2, 7, 16][round]))
            .collect();
        assert_eq!(results, best, "{}", kernel.name());
    }
}

fn generate(engine: &InferenceEngine, sampling: &SamplingOptions) -> (Vec<u32>, ScreenCounts) {
    let before = engine.screen_counts();
    let mut session = engine.session().unwrap();
    let options = GenerateOptions {
        max_new_tokens: 60,
        sampling: sampling.clone(),
        ignore_eos: true,
        ..Default::default()
    };
    let ids =
        session.generate_ids(&[2043, 10, 20, 30], &options).unwrap().filter_map(|p| p.unwrap().id).collect();
    let counts = engine.screen_counts();
    let of_this_one = ScreenCounts {
        screened: counts.screened - before.screened,
        full: counts.full - before.full,
        rescored: counts.rescored - before.rescored,
    };
    (ids, of_this_one)
}

#[test]
fn real_models_say_the_same() {
    let models = [
        "bitnet-a-offline-packed",
        "bitnet-c-silu-online-bf16",
        "llama-b-bitlinear-packed",
        "gguf/bitnet-a-I2_S-embdQ6_K.gguf",
        "gguf/bitnet-c-embdQ8_0-TQ2_0.gguf",
    ];
    let warm = || SamplingOptions { temperature: 0.9, seed: 7, ..Default::default() };
    let chains = [
        SamplingOptions::default(),
        SamplingOptions {
            repetition_penalty: 1.3,
            logit_bias: vec![(7, 1.5), (8, -2.0)],
            ..Default::default()
        },
        SamplingOptions { top_k: 40, top_p: 0.9, ..warm() },
        SamplingOptions { min_p: 0.1, ..warm() },
        SamplingOptions { top_k: 5, frequency_penalty: 0.5, ..warm() },
        SamplingOptions { top_p: 0.5, ..warm() },
        warm(),
    ];
    for model in models {
        let [screened, full] = [HeadChoice::Screened, HeadChoice::Full].map(|head| {
            let options = LoadOptions { threads: Some(2), context: Some(128), head, ..Default::default() };
            InferenceEngine::load(oracle(model), &options).unwrap()
        });
        for (i, sampling) in chains.iter().enumerate() {
            let ((got, counts), (want, none)) = (generate(&screened, sampling), generate(&full, sampling));
            println!("{model} chain {i}: {counts:?}");
            assert_eq!(got, want, "{model} chain {i}");
            assert_eq!(none, ScreenCounts::default());
            // The first chains are answered by the screen, most of the time.
            assert!(i >= 5 || counts.full * 4 < counts.screened, "{model} chain {i}: {counts:?}");
        }
    }
}
