//! Whole small models, step by step, beside the CPU.

use bitnet_core::ThreadPool;
use bitnet_decoder::{DecoderError, Model, Runner, RunnerOptions};
use bitnet_device::{Choose, Device, Need, Output, PAGE, Span, Support};
use bitnet_model::{
    ActivationChoice, Config, DeltaNet, GateActivation, HadamardFold, Layout, ModelError, Norm, Part,
    PartSource, Projection, Recurrent, Rope, RopeScaling, Sparsity, Weight, Wishes,
};
use bitnet_quant::Granularity;

use crate::{
    bench::{dense, numbers},
    products::trits,
    suite::{Suite, both},
};

const VOCAB: usize = 40;

/// In what a small model differs from the others.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The gate's nonlinearity.
    pub activation: GateActivation,
    /// Norms before the output and the down projection.
    pub sub_norms: bool,
    /// Norms of query and key heads.
    pub qk_norms: bool,
    /// A norm before every projection of its own.
    pub input_norms: bool,
    /// Biases on queries, keys and values.
    pub biases: bool,
    /// Side paths beside gate and output.
    pub sides: bool,
    /// A head of its own.
    pub own_head: bool,
    /// Gated DeltaNet in the first block, and gated attention that rotates half of each head in the second.
    pub hybrid: bool,
    /// Weights in the basis of a Walsh-Hadamard transform.
    pub folded: bool,
    /// Runs of weights with a scale.
    pub granularity: Granularity,
}

impl Shape {
    /// Models of the families that the engine runs.
    pub const ALL: [Self; 7] = {
        let plain = Self {
            activation: GateActivation::SquaredRelu,
            sub_norms: true,
            qk_norms: false,
            input_norms: false,
            biases: false,
            sides: false,
            own_head: false,
            hybrid: false,
            folded: false,
            granularity: Granularity::Tensor,
        };
        let silu = Self { activation: GateActivation::Silu, sub_norms: false, own_head: true, ..plain };
        [
            plain,
            Self { qk_norms: true, granularity: Granularity::Group(32), ..silu },
            Self { input_norms: true, granularity: Granularity::Row, ..silu },
            Self { biases: true, ..silu },
            Self { sides: true, biases: true, ..plain },
            Self { hybrid: true, qk_norms: true, granularity: Granularity::Group(64), ..silu },
            Self { hybrid: true, folded: true, granularity: Granularity::Group(128), ..silu },
        ]
    };

    fn config(self) -> Config {
        Config {
            family: "made",
            hidden: 128,
            ffn: 256,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 32,
            rotary_dim: if self.hybrid { 16 } else { 32 },
            gated_attention: self.hybrid,
            recurrent: self.hybrid.then(|| Recurrent { sizes: DELTA_NET, blocks: vec![true, false] }),
            fold: self
                .folded
                .then(|| HadamardFold { block: 32, signs: vec![(128, signs(128)), (256, signs(256))] }),
            vocab: VOCAB,
            context: 4 * PAGE,
            norm_eps: 1e-5,
            rope: Rope { theta: 10_000.0, scaling: RopeScaling::None },
            activation: self.activation,
            sub_norms: self.sub_norms,
            qk_norms: self.qk_norms,
            input_norm_eps: self.input_norms.then_some(1e-6),
            tied_head: !self.own_head,
            trained_int8: !self.hybrid,
            bos: None,
            eos: Vec::new(),
        }
    }
}

/// The sizes of its recurrent block.
const DELTA_NET: DeltaNet = DeltaNet { key_heads: 2, value_heads: 4, key_dim: 24, value_dim: 32, taps: 4 };

fn signs(width: usize) -> Vec<f32> {
    numbers(width, 19).iter().map(|x| if *x < 0.0 { -1.0 } else { 1.0 }).collect()
}

/// A model whose numbers follow from its shape.
#[derive(Clone, Debug)]
pub struct Made {
    shape: Shape,
    config: Config,
}

impl Made {
    /// The model of a shape.
    pub fn new(shape: Shape) -> Self {
        Self { shape, config: shape.config() }
    }
}

const RANK: usize = 4;

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
        match part {
            Part::Weight(layer, projection) => {
                let seed = 20 + layer * 31 + projection as usize;
                let shape = projection.shape(&self.config);
                Ok(Weight::Ternary(trits(shape, self.shape.granularity, seed)?))
            }
            Part::Head => dense(VOCAB, self.config.hidden, &numbers(VOCAB * self.config.hidden, 11)),
            _ => dense(VOCAB, self.config.hidden, &numbers(VOCAB * self.config.hidden, 12)),
        }
    }

    fn vector(&self, part: Part) -> Result<Option<Vec<f32>>, ModelError> {
        let near_one = |len: usize, seed: usize| numbers(len, seed).iter().map(|x| 1.0 + x * 0.01).collect();
        Ok(match part {
            Part::FinalNorm => Some(near_one(self.config.hidden, 13)),
            Part::Norm(layer, norm) => Some(near_one(Norm::len(norm, &self.config), 14 + layer)),
            Part::Convolution(layer) => Some(numbers(DELTA_NET.taps * DELTA_NET.channels(), 21 + layer)),
            Part::DecayRate(_) => Some(vec![-0.5, -1.0, -0.01, -3.0]),
            Part::DecayBias(layer) => Some(numbers(DELTA_NET.value_heads, 22 + layer)),
            Part::InputNorm(layer, projection) => {
                Some(near_one(projection.shape(&self.config)[1], 15 + layer))
            }
            Part::Bias(layer, projection @ (Projection::Query | Projection::Key | Projection::Value))
                if self.shape.biases =>
            {
                Some(numbers(projection.shape(&self.config)[0], 16 + layer))
            }
            _ => None,
        })
    }

    fn is_folded(&self, part: Part) -> bool {
        let plain = [Projection::DeltaBeta, Projection::DeltaDecay];
        self.shape.folded && !matches!(part, Part::Weight(_, projection) if plain.contains(&projection))
    }

    fn side_rank(&self) -> usize {
        if self.shape.sides { RANK } else { 0 }
    }

    fn side_path(&self, layer: usize, projection: Projection) -> Option<[Weight; 2]> {
        let wanted = self.shape.sides && matches!(projection, Projection::Gate | Projection::Output);
        let [rows, cols] = projection.shape(&self.config);
        let down = dense(RANK, cols, &numbers(RANK * cols, 17 + layer)).ok()?;
        let up = dense(rows, RANK, &numbers(rows * RANK, 18 + layer)).ok()?;
        wanted.then_some([down, up])
    }
}

pub(crate) fn check<D: Device + Clone>(suite: &mut Suite<'_, D>) -> Result<(), DecoderError> {
    for shape in Shape::ALL {
        let source = Made::new(shape);
        for wishes in
            [Wishes::default(), Wishes { layout: Layout::Base3, sparsity: Sparsity::On, ..Wishes::default() }]
        {
            let case =
                format!("a model of {shape:?}, {:?}, zeros left out: {:?}", wishes.layout, wishes.sparsity);
            both!(suite, case, VOCAB, |device| logits(&source, device, &wishes));
            let case = format!("the best tokens of a model of {shape:?}, {:?}", wishes.layout);
            both!(suite, case, 2, |device| best(&source, device, &wishes));
        }
    }
    Ok(())
}

/// The logits of [`steps`].
fn logits<D: Device + Clone>(source: &Made, device: &D, wishes: &Wishes) -> Result<Vec<f32>, DecoderError> {
    let threads = ThreadPool::new(1);
    let model = Model::load(source, device.clone(), &threads, ActivationChoice::Auto, wishes, &|_, _| {})?;
    let mut runner = Runner::new(model, RunnerOptions { tokens: 16, context: 2 * PAGE, kv_bytes: None })?;
    steps(&mut runner)
}

/// The largest logit of each position and its id, as far as a screened head proves them.
struct Best(Vec<f32>);

impl Best {
    fn take(&mut self, output: usize, best: Option<(u32, f32)>) {
        let (id, logit) = best.unwrap_or((u32::MAX, f32::NAN));
        self.0.resize(self.0.len().max(2 * output + 2), f32::NAN);
        self.0[2 * output..][..2].copy_from_slice(&[id as f32, logit]);
    }
}

impl Choose for Best {
    fn need(&self, output: usize) -> Option<Need<'_>> {
        // Some outputs of a step want all logits.
        (output % 3 != 2).then_some(Need { best: 1, within: 0.0, lowered: &[3], raised: &[5] })
    }

    fn some(&mut self, output: usize, found: &Support<'_>) -> bool {
        let pairs = found.ids.iter().copied().zip(found.logits.iter().copied());
        let best = pairs.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
        let proven = best.is_some_and(|(_, logit)| logit >= found.floor);
        if proven {
            self.take(output, best);
        }
        proven
    }

    fn all(&mut self, output: usize, logits: &[f32]) {
        let pairs = logits.iter().enumerate().map(|(id, &logit)| (id as u32, logit));
        self.take(output, pairs.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))));
    }
}

/// The best tokens behind every position of a prompt.
fn best<D: Device + Clone>(source: &Made, device: &D, wishes: &Wishes) -> Result<Vec<f32>, DecoderError> {
    let threads = ThreadPool::new(1);
    let model = Model::load(source, device.clone(), &threads, ActivationChoice::Auto, wishes, &|_, _| {})?;
    let mut runner = Runner::new(model, RunnerOptions { tokens: 4, context: PAGE, kv_bytes: None })?;
    let (sequence, mut all) = (runner.sequences().open(), Vec::new());
    // More outputs than logits are made at once, and few.
    for tokens in [40, 1, 5] {
        let ids: Vec<u32> = (0..tokens).map(|i| (i * 11 % VOCAB) as u32).collect();
        let mut best = Best(Vec::new());
        runner.step(&ids, &[Span { sequence, tokens, output: Output::All }], &mut best, None)?;
        all.extend(best.0);
    }
    Ok(all)
}

/// Steps of prompts and tokens of three sequences, one of them a fork that goes its own way, across the edge of a page.
pub(crate) fn steps<D: Device>(runner: &mut Runner<D>) -> Result<Vec<f32>, DecoderError> {
    let [a, b] = [(); 2].map(|()| runner.sequences().open());
    let ids = |from: usize, count: usize| (from..from + count).map(|i| (i * 7 % VOCAB) as u32);
    let mut all = Vec::new();
    let mut step = |runner: &mut Runner<D>, spans: &[Span], seed: usize| {
        let batch: Vec<u32> = spans.iter().flat_map(|span| ids(seed, span.tokens)).collect();
        runner.step(&batch, spans, &mut |_: usize, row: &[f32]| all.extend_from_slice(row), None)
    };
    let span = |sequence, tokens, output| Span { sequence, tokens, output };
    step(runner, &[span(a, PAGE - 1, Output::None), span(b, 3, Output::All)], 1)?;
    step(runner, &[span(b, 1, Output::Last), span(a, 1, Output::Last)], 2)?;
    // A model with recurrent blocks goes back to what was kept, or to the beginning.
    runner.sequences().keep(a)?;
    let (fork, twin) = (runner.sequences().fork(a, PAGE - 5)?, runner.sequences().fork(a, PAGE)?);
    let spans = [
        span(fork, 2, Output::All),
        span(a, 2, Output::All),
        span(b, 0, Output::None),
        span(twin, 1, Output::Last),
    ];
    step(runner, &spans, 3)?;
    runner.sequences().truncate(a, PAGE)?;
    let spans = [
        span(a, 19, Output::All),
        span(fork, 1, Output::Last),
        span(b, 1, Output::Last),
        span(twin, 3, Output::All),
    ];
    step(runner, &spans, 4)?;
    for sequence in [a, b, fork, twin] {
        runner.sequences().close(sequence);
    }
    Ok(all)
}
