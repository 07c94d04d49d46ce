//! `bitnet inspect MODEL`: what a file holds, without running it.

use bitnet_evaluation::{Inspection, MatrixReport, inspect};
use bitnet_format::Checkpoint;
use bitnet_inference::{DEFAULT_CONTEXT, KvType};
use bitnet_model::{Config, GateActivation, RopeScaling};
use bitnet_quant::{Granularity, TritCounts};
use serde::Serialize;

use crate::{
    args::InspectArgs,
    boxed,
    failure::{Failure, Result},
    human::{self, Pairs, TextTable},
    load,
    machine::MachineMemory,
    progress::{ProgressMeter, Unit},
    terminal::{self, Style},
};

mod page;
mod quality;
mod rows;

/// Damaged tensors that an error names.
const NAMED: usize = 5;

#[derive(Serialize)]
struct Report {
    path: String,
    config: ConfigReport,
    parameters: u64,
    ternary_parameters: u64,
    projections: usize,
    /// Of them; they take float activations.
    dense_projections: usize,
    trits: Trits,
    file_bytes: u64,
    /// Of the file, over all parameters.
    bits_per_parameter: f64,
    memory: MemoryReport,
    kernel: &'static str,
    /// The tokens that end a generation.
    stop_tokens: Vec<StopToken>,
    /// Whether digests agree; only with `--verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    digests: Option<&'static str>,
    warnings: Vec<String>,
    tensors: Vec<TensorReport>,
}

#[derive(Serialize)]
struct StopToken {
    id: u32,
    text: String,
}

#[derive(Serialize)]
struct ConfigReport {
    family: &'static str,
    hidden: usize,
    ffn: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    context: usize,
    norm_eps: f32,
    rope_theta: f32,
    rope_scaling: String,
    activation: &'static str,
    tied_head: bool,
    trained_with_int8: bool,
    bos: Option<u32>,
    eos: Vec<u32>,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Trits {
    minus: u64,
    zero: u64,
    plus: u64,
}

#[derive(Serialize)]
struct MemoryReport {
    weights_bytes: u64,
    kv_bytes_per_token: u64,
    context: usize,
    kv_bytes: u64,
    /// What recurrent blocks keep of a sequence, whatever its length.
    recurrent_state_bytes: u64,
    free_bytes: Option<u64>,
}

#[derive(Serialize)]
struct TensorReport {
    name: String,
    shape: [usize; 2],
    stored: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trits: Option<Trits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scales: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale_range: Option<(f32, f32)>,
}

pub fn run(args: &InspectArgs) -> Result<()> {
    let kernel =
        bitnet_kernels::select(args.engine.kernel.as_deref()).map_err(|e| load::failure(e.into()))?;
    if args.calibration.is_none() {
        for flag in args.engine.for_running() {
            load::idle(flag, "`inspect` runs the model only with --quality --calibration");
        }
    }
    if args.quality {
        return quality::run(args);
    }
    let checkpoint = load::checkpoint(&args.model, args.engine.i2s_64)?;
    let path = checkpoint.path().display().to_string();
    let digests = if args.verify { Some(verify(&checkpoint)?) } else { None };
    let progress = ProgressMeter::new("reading", 0, Unit::Items);
    let inspection = inspect(checkpoint, |done, total| progress.set(done as u64, total as u64));
    drop(progress);
    let context = args.engine.context.map(|n| n as usize);
    let kv = load::kv(&args.engine, KvType::default());
    let report = report(path, inspection.map_err(load::evaluation_failure)?, context, kv, kernel.name());
    let report = Report { digests, ..report };
    if args.json {
        return terminal::print_json(&report);
    }
    let unpacked =
        args.model.text() == Some(boxed::NAME) && boxed::directory()?.display().to_string() == report.path;
    let place = if unpacked {
        format!("the model in the box, unpacked in {}", report.path)
    } else {
        report.path.clone()
    };
    terminal::print(&words(&report, &place, args.tensors))
}

/// What the file's digests say of its tensors; damage is an error that names them.
fn verify(checkpoint: &Checkpoint) -> Result<&'static str> {
    match checkpoint.damaged().as_deref() {
        None => Ok("this file carries none; `bitnet convert` writes them into .bitnet files"),
        Some([]) => Ok("every tensor is what was written"),
        Some(damaged) => {
            let (count, of) = (damaged.len(), checkpoint.tensors().len());
            let names: Vec<String> = damaged.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
            let more = if count > NAMED { ", ..." } else { "" };
            Err(Failure::new(format_args!(
                "{}: {count} of {of} tensors are not what was written: {}{more}",
                checkpoint.path().display(),
                names.join(", ")
            ))
            .cure("fetch the file again, or convert the model anew"))
        }
    }
}

fn report(
    path: String,
    inspection: Inspection,
    context: Option<usize>,
    kv: KvType,
    kernel: &'static str,
) -> Report {
    let (projections, dense_projections) = (inspection.projections, inspection.dense_projections);
    let Inspection {
        config,
        matrices,
        vector_parameters,
        file_bytes,
        weight_bytes,
        stop_tokens,
        mut warnings,
        ..
    } = inspection;
    let size = |m: &MatrixReport| m.shape[0] as u64 * m.shape[1] as u64;
    let parameters = matrices.iter().map(size).sum::<u64>() + vector_parameters as u64;
    let ternary_parameters = matrices.iter().filter(|m| m.trits.is_some()).map(size).sum();
    let counts = matrices.iter().filter_map(|m| m.trits.as_ref());
    let trits = counts.fold(Trits::default(), |sum, t| sum.plus(trits(&t.counts)));
    let context = context.unwrap_or(config.context.min(DEFAULT_CONTEXT));
    if context > config.context {
        warnings.push(format!(
            "--context {context} is more than the {} tokens that the model was made for",
            config.context
        ));
    }
    let kv_bytes_per_token = kv.bytes_per_position(&config) as u64;
    let kv_bytes = kv_bytes_per_token.saturating_mul(context as u64);
    let recurrent_state_bytes = (config.recurrent_state() * size_of::<f32>()) as u64;
    let free_bytes = MachineMemory::detect().free();
    // A step reads one state and writes another.
    let states = recurrent_state_bytes.saturating_mul(2);
    let needed = weight_bytes.saturating_add(kv_bytes).saturating_add(states);
    if let Some(free) = free_bytes.filter(|&free| free < needed) {
        warnings
            .push(format!("{} of memory is free, which is less than running it takes", human::bytes(free)));
    }
    Report {
        path,
        parameters,
        projections,
        dense_projections,
        ternary_parameters,
        trits,
        file_bytes,
        bits_per_parameter: file_bytes as f64 * 8.0 / parameters.max(1) as f64,
        memory: MemoryReport {
            weights_bytes: weight_bytes,
            kv_bytes_per_token,
            context,
            kv_bytes,
            recurrent_state_bytes,
            free_bytes,
        },
        kernel,
        digests: None,
        warnings,
        tensors: matrices.into_iter().map(tensor).collect(),
        config: config_report(config, &stop_tokens),
        stop_tokens: stop_tokens.into_iter().map(|(id, text)| StopToken { id, text }).collect(),
    }
}

impl Trits {
    fn plus(self, other: Self) -> Self {
        Self { minus: self.minus + other.minus, zero: self.zero + other.zero, plus: self.plus + other.plus }
    }
}

fn trits(counts: &TritCounts) -> Trits {
    Trits { minus: counts.minus, zero: counts.zero, plus: counts.plus }
}

fn tensor(matrix: MatrixReport) -> TensorReport {
    let MatrixReport { name, shape, stored, bytes, trits: report } = matrix;
    let scales = report.as_ref().map(|t| match t.granularity {
        Granularity::Tensor => "one".into(),
        Granularity::Row => "per row".into(),
        Granularity::Group(size) => format!("per {size}"),
    });
    let scale_range = report.as_ref().map(|t| t.scale_range);
    TensorReport { name, shape, stored, bytes, trits: report.map(|t| trits(&t.counts)), scales, scale_range }
}

fn config_report(config: Config, stops: &[(u32, String)]) -> ConfigReport {
    let rope_scaling = match &config.rope.scaling {
        RopeScaling::None => "none".into(),
        RopeScaling::Linear { factor } => format!("linear, factor {factor}"),
        RopeScaling::Llama3 { factor, .. } => format!("llama3, factor {factor}"),
        RopeScaling::Yarn(yarn) => format!(
            "yarn, factor {} over {}, attention times {:.4}",
            yarn.factor, yarn.original_context, yarn.attention_factor
        ),
        RopeScaling::Divisors(_) => "by frequency, as the file says".into(),
    };
    ConfigReport {
        family: config.family,
        hidden: config.hidden,
        ffn: config.ffn,
        layers: config.layers,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        vocabulary: config.vocab,
        context: config.context,
        norm_eps: config.norm_eps,
        rope_theta: config.rope.theta,
        rope_scaling,
        activation: match config.activation {
            GateActivation::Silu => "silu",
            GateActivation::SquaredRelu => "relu2",
        },
        tied_head: config.tied_head,
        trained_with_int8: config.trained_int8,
        bos: config.bos,
        eos: stops.iter().map(|(id, _)| *id).collect(),
    }
}

fn words(report: &Report, place: &str, tensors: bool) -> String {
    let heading = |text: &str| terminal::paint_output(Style::Heading, text);
    let mut text = format!("{}\n{}", heading("Model"), model_words(report, place));
    text += &format!("\n{}\n{}", heading("Memory to run it"), memory_words(report));
    let table = if tensors { tensor_table(&report.tensors) } else { kind_table(&report.tensors) };
    text += &format!("\n{}\n{table}", heading("Matrices"));
    text += &format!("\n{}\n", heading("What looks wrong"));
    if report.warnings.is_empty() {
        text += "nothing\n";
    }
    for warning in &report.warnings {
        text += &format!("- {}\n", terminal::sentence(warning));
    }
    text
}

fn model_words(report: &Report, place: &str) -> String {
    let c = &report.config;
    let mut pairs = Pairs::new();
    pairs.row("path", place);
    pairs.row("family", format_args!("{} ({})", c.family, c.activation));
    pairs.row(
        "parameters",
        format_args!(
            "{}, {} of them ternary",
            human::count(report.parameters),
            human::count(report.ternary_parameters)
        ),
    );
    pairs.row(
        "file",
        format_args!(
            "{}, {:.2} bits per parameter",
            human::bytes(report.file_bytes),
            report.bits_per_parameter
        ),
    );
    if let Some(digests) = report.digests {
        pairs.row("digests", digests);
    }
    let Trits { minus, zero, plus } = report.trits;
    let share = |n: u64| 100.0 * n as f64 / (minus + zero + plus).max(1) as f64;
    if report.ternary_parameters > 0 {
        pairs.row(
            "trits",
            format_args!("-1: {:.1} %   0: {:.1} %   +1: {:.1} %", share(minus), share(zero), share(plus)),
        );
    }
    let (dense, all) = (report.dense_projections, report.projections);
    if dense == all {
        pairs.row("projections", "dense: a float model, not a ternary one");
    } else if dense > 0 {
        pairs.row("projections", format_args!("{} ternary, {dense} dense", all - dense));
    }
    pairs.row("layers", format_args!("{} of width {}, feed-forward {}", c.layers, c.hidden, c.ffn));
    pairs.row(
        "heads",
        format_args!("{} of {} dimensions, {} for keys and values", c.heads, c.head_dim, c.kv_heads),
    );
    let head = if c.tied_head { "tied head" } else { "head of its own" };
    pairs.row("vocabulary", format_args!("{}, {head}", human::count(c.vocabulary as u64)));
    pairs.row(
        "context",
        format_args!(
            "{} (rope theta {}, scaling {})",
            human::count(c.context as u64),
            c.rope_theta,
            c.rope_scaling
        ),
    );
    let stops: Vec<String> = report.stop_tokens.iter().map(|s| format!("{} {:?}", s.id, s.text)).collect();
    pairs.row("stop tokens", if stops.is_empty() { "none".to_owned() } else { stops.join(", ") });
    pairs.row(
        "activations",
        if dense == all {
            "float, as dense projections take them"
        } else if c.trained_with_int8 {
            "int8 per token, as trained"
        } else {
            "trained with float; int8 per block of 32 by default"
        },
    );
    pairs.text()
}

fn memory_words(report: &Report) -> String {
    let m = &report.memory;
    let mut pairs = Pairs::new();
    pairs.row("weights", human::bytes(m.weights_bytes));
    let (kv, each) = (human::bytes(m.kv_bytes), human::bytes(m.kv_bytes_per_token));
    pairs.row(
        "keys and values",
        format_args!("{kv} for {} tokens, {each} each", human::count(m.context as u64)),
    );
    if m.recurrent_state_bytes > 0 {
        let state = human::bytes(m.recurrent_state_bytes);
        pairs.row("recurrent state", format_args!("{state} for each text, whatever its length"));
    }
    pairs.row("free here", m.free_bytes.map_or("unknown".into(), human::bytes));
    pairs.row("kernel", report.kernel);
    pairs.text()
}

fn tensor_table(tensors: &[TensorReport]) -> String {
    let mut table = TextTable::new(&["name", "shape", "stored", "size", "zeros", "scales", "from", "to"]);
    for t in tensors {
        let zeros = t.trits.map_or("-".into(), |t| {
            format!("{:.1} %", 100.0 * t.zero as f64 / (t.minus + t.zero + t.plus).max(1) as f64)
        });
        let (low, high) = t
            .scale_range
            .map_or(("-".into(), "-".into()), |(low, high)| (format!("{low:.5}"), format!("{high:.5}")));
        let shape = format!("{} x {}", t.shape[0], t.shape[1]);
        let scales = t.scales.clone().unwrap_or_else(|| "-".into());
        table.row(vec![
            terminal::name(&t.name),
            shape,
            t.stored.clone(),
            human::bytes(t.bytes),
            zeros,
            scales,
            low,
            high,
        ]);
    }
    table.text()
}

/// Matrices that are stored alike, together.
fn kind_table(tensors: &[TensorReport]) -> String {
    let mut kinds: Vec<(String, String, u64, u64, Trits)> = Vec::new();
    for t in tensors {
        let scales = t.scales.clone().unwrap_or_else(|| "-".into());
        let at = kinds.iter().position(|k| (&k.0, &k.1) == (&t.stored, &scales)).unwrap_or_else(|| {
            kinds.push((t.stored.clone(), scales, 0, 0, Trits::default()));
            kinds.len() - 1
        });
        let kind = &mut kinds[at];
        (kind.2, kind.3, kind.4) = (kind.2 + 1, kind.3 + t.bytes, kind.4.plus(t.trits.unwrap_or_default()));
    }
    let mut table = TextTable::new(&["stored", "matrices", "size", "zeros", "scales"]);
    for (stored, scales, count, bytes, trits) in kinds {
        let all = trits.minus + trits.zero + trits.plus;
        let zeros =
            if all == 0 { "-".into() } else { format!("{:.1} %", 100.0 * trits.zero as f64 / all as f64) };
        table.row(vec![stored, count.to_string(), human::bytes(bytes), zeros, scales]);
    }
    table.text()
}
