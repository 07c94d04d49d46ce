//! The plan of layouts by table, and whole models in every form: forms decide time and memory, never a result.

// A test that cannot make its data has nothing better to do than to stop.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bitnet_core::{DType, HybridMemoryPool, ThreadPool, tensor::DenseMatrix};
use bitnet_cpu::Cpu;
use bitnet_decoder::{Model, Runner, RunnerOptions};
use bitnet_device::{Output, Span};
use bitnet_model::{
    ActivationChoice, Config, Facts, GateActivation, Layout, LayoutPlan, MatrixForm, ModelError, Norm, Part,
    PartSource, Projection, Rope, RopeScaling, Sparsity, Table, Weight, Wishes,
};
use bitnet_quant::{Activations, Granularity, Scales, TernaryMatrix};

const VOCAB: usize = 16;
const RANK: usize = 4;

/// More outputs of `down` than a thread takes at a time, so that a piece of them begins inside a block of columns.
fn config(activation: GateActivation) -> Config {
    Config {
        family: "test",
        hidden: 384,
        ffn: 512,
        layers: 2,
        heads: 3,
        kv_heads: 1,
        head_dim: 128,
        rotary_dim: 128,
        gated_attention: false,
        recurrent: None,
        fold: None,
        vocab: VOCAB,
        context: 64,
        norm_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None },
        activation,
        sub_norms: true,
        qk_norms: false,
        input_norm_eps: None,
        tied_head: true,
        trained_int8: true,
        bos: None,
        eos: Vec::new(),
    }
}

/// A model whose numbers follow from its sizes.
struct Made {
    config: Config,
    bias: &'static [Projection],
    side: &'static [Projection],
    /// What every trit is times.
    scale: f32,
    /// A matrix that is said to be in another basis.
    folded: Option<Part>,
}

fn floats(rows: usize, cols: usize, seed: usize) -> Vec<f32> {
    (0..rows * cols).map(|i| (((i + seed) * 2_654_435_761 % 1009) as f32 - 504.0) / 504.0).collect()
}

fn dense(rows: usize, cols: usize, seed: usize) -> Weight {
    let bytes: Vec<u8> = floats(rows, cols, seed).iter().flat_map(|v| v.to_le_bytes()).collect();
    Weight::Table(Table::Dense(DenseMatrix::new(DType::F32, rows, cols, bytes.into()).unwrap()))
}

impl PartSource for Made {
    fn config(&self) -> &Config {
        &self.config
    }

    fn name(&self, part: Part) -> String {
        format!("{part:?}")
    }

    fn byte_len(&self, _: Part) -> u64 {
        0
    }

    fn weight(&self, part: Part) -> Result<Weight, ModelError> {
        let Part::Weight(layer, projection) = part else { return Ok(dense(VOCAB, self.config.hidden, 7)) };
        let [rows, cols] = projection.shape(&self.config);
        let trits: Vec<i8> = floats(rows, cols, layer * 31 + projection as usize)
            .iter()
            .map(|v| (v * 1.4).round() as i8)
            .collect();
        Ok(Weight::Ternary(
            TernaryMatrix::from_trits(rows, cols, &trits, Scales::Tensor(self.scale)).unwrap(),
        ))
    }

    fn vector(&self, part: Part) -> Result<Option<Vec<f32>>, ModelError> {
        Ok(match part {
            Part::FinalNorm => Some(vec![1.0; self.config.hidden]),
            Part::Norm(_, norm) => Some(vec![1.0; Norm::len(norm, &self.config)]),
            Part::Bias(layer, p) if self.bias.contains(&p) => {
                Some(floats(1, p.shape(&self.config)[0], layer))
            }
            _ => None,
        })
    }

    fn is_folded(&self, part: Part) -> bool {
        self.folded == Some(part)
    }

    fn side_rank(&self) -> usize {
        if self.side.is_empty() { 0 } else { RANK }
    }

    fn side_path(&self, layer: usize, projection: Projection) -> Option<[Weight; 2]> {
        let [rows, cols] = projection.shape(&self.config);
        self.side.contains(&projection).then(|| [dense(RANK, cols, layer), dense(rows, RANK, 5)])
    }
}

/// The logits of every position of a prompt of 11 tokens, cut in pieces of `tokens`.
fn logits(source: &Made, kernel: &str, threads: usize, wishes: &Wishes, tokens: usize) -> Vec<f32> {
    let threads = Arc::new(ThreadPool::new(threads));
    let kernel = bitnet_kernels::select(Some(kernel)).unwrap();
    let cpu = Cpu::new(kernel, threads.clone(), HybridMemoryPool::new());
    let model = Model::load(source, cpu, &threads, ActivationChoice::Auto, wishes, &|_, _| {}).unwrap();
    let mut runner = Runner::new(model, RunnerOptions { tokens: 11, context: 16, kv_bytes: None }).unwrap();
    let sequence = runner.sequences().open();
    let mut all = Vec::new();
    for ids in (0..11u32).collect::<Vec<_>>().chunks(tokens) {
        let span = Span { sequence, tokens: ids.len(), output: Output::All };
        runner.step(ids, &[span], &mut |_: usize, row: &[f32]| all.extend_from_slice(row), None).unwrap();
    }
    all
}

#[test]
fn no_form_changes_a_result() {
    let everywhere = Wishes { sparsity: Sparsity::On, ..Wishes::default() };
    let base3 = Wishes { layout: Layout::Base3, ..Wishes::default() };
    let both = Wishes { sparsity: Sparsity::On, ..base3.clone() };
    let cases: [(&[Projection], &[Projection]); 5] = [
        (&[], &[]),
        (&[Projection::Down], &[]),
        (&[Projection::Up], &[]),
        (&[], &[Projection::Up]),
        (&Projection::PLAIN, &[Projection::Down, Projection::Gate]),
    ];
    for (bias, side) in cases {
        let source =
            Made { config: config(GateActivation::SquaredRelu), bias, side, scale: 0.05, folded: None };
        let expected = logits(&source, "scalar", 1, &Wishes::default(), 11);
        assert!(expected.iter().all(|logit| logit.is_finite()));
        for wishes in [&everywhere, &base3, &both] {
            for (kernel, threads, tokens) in [("scalar", 2, 1), ("", 1, 1), ("", 3, 3), ("", 2, 11)] {
                let kernel =
                    if kernel.is_empty() { bitnet_kernels::select(None).unwrap().name() } else { kernel };
                let got = logits(&source, kernel, threads, wishes, tokens);
                assert!(
                    got == expected,
                    "biases {bias:?}, side paths {side:?}, {wishes:?}, {kernel}, {threads}, {tokens}"
                );
            }
        }
    }
}

/// Finite weights may make numbers that no f32 holds. The sub-norm makes NaN of them, and rounding to int8 once made 0 of that.
#[test]
fn what_overflows_shows_in_the_logits() {
    let source =
        Made { config: config(GateActivation::SquaredRelu), bias: &[], side: &[], scale: 1e30, folded: None };
    let base3 = Wishes { layout: Layout::Base3, ..Wishes::default() };
    for wishes in [Wishes::default(), Wishes { sparsity: Sparsity::On, ..Wishes::default() }, base3] {
        for kernel in bitnet_kernels::available() {
            let got = logits(&source, kernel.name(), 2, &wishes, 11);
            assert!(got.iter().all(|logit| logit.is_nan()), "{wishes:?}, {}", kernel.name());
        }
    }
}

#[test]
fn each_form_follows_from_configuration_facts_and_wishes() {
    use MatrixForm::{Base3, Columns, Rows, Strips};
    let trits = Facts { scales: Some(Granularity::Row), ..Facts::default() };
    let (added, normed) = (Facts { added: true, ..trits }, Facts { input_norm: true, ..trits });
    let groups = Facts { scales: Some(Granularity::Group(64)), ..trits };
    let wish = |layout, sparsity| Wishes { layout, sparsity, ..Wishes::default() };
    let (nothing, base3) = (Wishes::default(), wish(Layout::Base3, Sparsity::Auto));
    let (skip, both) = (wish(Layout::Auto, Sparsity::On), wish(Layout::Base3, Sparsity::On));
    let measured = Wishes { open_gates: Some(vec![0.1, 0.9].into()), ..Wishes::default() };
    let faster = Wishes { base3_is_faster: true, ..Wishes::default() };
    let (relu, silu) = (GateActivation::SquaredRelu, GateActivation::Silu);
    // Activation, wishes, facts: the forms of query, up and down in block 0, then of up in block 1.
    let table = [
        (relu, &nothing, trits, [Strips, Strips, Strips, Strips]),
        (relu, &base3, trits, [Base3, Base3, Base3, Base3]),
        (relu, &base3, groups, [Strips, Strips, Strips, Strips]),
        (relu, &base3, Facts::default(), [Strips, Strips, Strips, Strips]),
        (relu, &skip, trits, [Strips, Rows, Columns, Rows]),
        (silu, &skip, trits, [Strips, Strips, Strips, Strips]),
        (relu, &skip, groups, [Strips, Strips, Strips, Strips]),
        (relu, &skip, added, [Strips, Strips, Columns, Strips]),
        (relu, &skip, normed, [Strips, Strips, Columns, Strips]),
        (relu, &both, trits, [Base3, Rows, Columns, Rows]),
        (relu, &both, added, [Base3, Base3, Columns, Base3]),
        (relu, &measured, trits, [Strips, Rows, Columns, Strips]),
        (relu, &Wishes { mapped: true, ..measured.clone() }, trits, [Strips, Strips, Strips, Strips]),
        (
            relu,
            &Wishes { sparsity: Sparsity::Off, ..measured.clone() },
            trits,
            [Strips, Strips, Strips, Strips],
        ),
        (relu, &faster, trits, [Base3, Base3, Base3, Base3]),
        (relu, &Wishes { mapped: true, ..faster.clone() }, trits, [Strips, Strips, Strips, Strips]),
        (relu, &Wishes { layout: Layout::TwoBit, ..faster.clone() }, trits, [Strips, Strips, Strips, Strips]),
        (relu, &Wishes { mapped: true, ..both.clone() }, trits, [Base3, Rows, Columns, Rows]),
    ];
    for (activation, wishes, facts, expected) in table {
        let config = config(activation);
        let plan = LayoutPlan::new(&config, Activations::Int8PerToken, wishes);
        let places =
            [(0, Projection::Query), (0, Projection::Up), (0, Projection::Down), (1, Projection::Up)];
        let got = places.map(|(layer, projection)| plan.form(layer, projection, facts));
        assert_eq!(got, expected, "{activation:?}, {wishes:?}, {facts:?}");
        // Activations of other forms take strips only.
        for form in [Activations::Float, Activations::Int8PerBlock] {
            let plan = LayoutPlan::new(&config, form, wishes);
            assert_eq!(places.map(|(layer, projection)| plan.form(layer, projection, facts)), [Strips; 4]);
        }
    }
}

/// What is in another basis cannot be taken for what it is when nobody says which basis that is.
#[test]
fn folded_matrices_of_a_model_without_a_fold_are_refused() {
    for part in [Part::Embedding, Part::Weight(1, Projection::Gate)] {
        let config = config(GateActivation::Silu);
        let source = Made { config, bias: &[], side: &[], scale: 0.3, folded: Some(part) };
        let threads = Arc::new(ThreadPool::new(1));
        let cpu = Cpu::new(bitnet_kernels::select(None).unwrap(), threads.clone(), HybridMemoryPool::new());
        let wishes = Wishes::default();
        let model = Model::load(&source, cpu, &threads, ActivationChoice::Auto, &wishes, &|_, _| {});
        let text = model.err().unwrap().to_string();
        assert!(text.contains(&source.name(part)) && text.contains("no fold"), "{text}");
    }
}
