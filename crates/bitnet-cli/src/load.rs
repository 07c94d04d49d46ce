//! From arguments to a loaded model.

use std::sync::Arc;

use bitnet_evaluation::EvaluationError;
use bitnet_format::{Checkpoint, OpenOptions, TensorType};
use bitnet_inference::{
    InferenceEngine, KvType, LoadOptions, LoadProgress, SamplingDefaults, SamplingOptions, Sparsity,
};

use bitnet_model::GateActivation;
use bitnet_source::Source;
use bitnet_text::{Message, encode_chat};

pub use crate::engine::{choice, failure, kv_type, layout};
use crate::{
    args::{ActivationsArg, EngineArgs, LayoutArg, ModelName, SamplingArgs, SparsityArg},
    failure::{Failure, Result, sentence},
    gates, machine,
    progress::{ProgressMeter, Unit},
    resolve, terminal, tuning,
};

/// Loads the model that the user calls `name`, to generate with.
pub fn engine(name: &ModelName, args: &EngineArgs) -> Result<InferenceEngine> {
    with_kv(name, args, KvType::default())
}

/// Loads the model that the user calls `name`, to look at its logits: keys and values are not rounded unless asked for.
pub fn for_evaluation(name: &ModelName, args: &EngineArgs) -> Result<InferenceEngine> {
    with_kv(name, args, KvType::F32)
}

fn with_kv(name: &ModelName, args: &EngineArgs, default: KvType) -> Result<InferenceEngine> {
    let source = source(name, args.i2s_64)?;
    let made_for = source.config().context;
    if let Some(asked) = args.context.filter(|&asked| asked as usize > made_for) {
        terminal::warning(format_args!(
            "--context {asked} is more than the {made_for} tokens that {name} was made for: what comes behind them is a guess"
        ));
    }
    warn_of_settings(&source, args);
    let tuning = tuning::of(source.config(), args)?;
    let gates = gates::of(&resolve::model(name)?, &source, args);
    tracing::debug!(family = source.config().family, context = made_for, ?tuning, "how it will run");
    let progress = ProgressMeter::new("loading", 0, Unit::Bytes);
    let options = LoadOptions {
        threads: args.threads.map(machine::threads),
        kernel: args.kernel.clone(),
        activations: choice(args.activations),
        context: args.context.map(|n| n as usize),
        kv: kv(args, default),
        i2s_64: args.i2s_64,
        adapter: args.adapter.clone(),
        sparsity: match args.sparsity {
            SparsityArg::Auto => Sparsity::Auto,
            SparsityArg::On => Sparsity::On,
            SparsityArg::Off => Sparsity::Off,
        },
        open_gates: gates.as_ref().and_then(gates::Asked::known),
        layout: layout(args.layout),
        tuning,
        progress: Some(Arc::new(move |LoadProgress { done, total }| progress.set(done, total))),
        ..LoadOptions::default()
    };
    let engine = InferenceEngine::from_source(source, &options).map_err(failure)?;
    if args.activations != ActivationsArg::Auto && !engine.info().rounds_activations {
        idle("--activations", "no matrix of this model is ternary, and others are multiplied with floats");
    }
    if let Some(gates) = gates {
        gates.measure(&engine)?;
    }
    Ok(engine)
}

/// Reads what the model that the user calls `name` is, and says once what of its file is left out or doubtful.
pub fn source(name: &ModelName, i2s_64: bool) -> Result<Source> {
    let source = Source::new(checkpoint(name, i2s_64)?).map_err(|e| failure(e.into()))?;
    for warning in source.warnings() {
        terminal::warning(format_args!("{warning}"));
    }
    Ok(source)
}

/// What of the engine's settings does nothing to this model.
fn warn_of_settings(source: &Source, args: &EngineArgs) {
    if args.sparsity == SparsityArg::On && source.config().activation != GateActivation::SquaredRelu {
        idle("--sparsity on", "the model's gates are not squared ReLU, so none of them is exactly zero");
    }
    let rounded = source.config().activations(choice(args.activations));
    if args.layout == LayoutArg::Base3 && rounded != bitnet_quant::Activations::Int8PerToken {
        idle("--layout base3", "it needs activations that are rounded with one step per token");
    }
}

/// Says that something was given for nothing.
pub fn idle(flag: &str, why: &str) {
    terminal::warning(format_args!("{flag} does nothing here: {why}"));
}

/// Says which sampling flags were given for nothing.
pub fn warn_of_idle(args: &SamplingArgs) {
    args.idle().into_iter().for_each(|(flag, why)| idle(flag, why));
}

/// Warns when the model's chat form leaves out the instructions that come before a conversation.
pub fn warn_of_instructions(engine: &InferenceEngine, system: Option<&str>) -> Result<()> {
    let (Some(template), Some(tokenizer), Some(system)) =
        (engine.chat_template(), engine.tokenizer(), system)
    else {
        return Ok(());
    };
    let form = |system: Option<&str>| {
        let system = system.map(|text| Message::new("system", text));
        let messages: Vec<_> = system.into_iter().chain([Message::new("user", "?")]).collect();
        encode_chat(tokenizer, template, &messages, true).map_err(|e| failure(e.into()))
    };
    if !system.is_empty() && form(Some(system))? == form(None)? {
        idle("--system", "the model's chat form has no place for instructions");
    }
    Ok(())
}

/// Refuses biases of tokens that the model does not have.
pub fn check_biases(engine: &InferenceEngine, options: &SamplingOptions) -> Result<()> {
    let vocabulary = engine.config().vocab;
    match options.logit_bias.iter().find(|(id, _)| *id as usize >= vocabulary) {
        Some((id, _)) => Err(Failure::usage(format_args!(
            "--logit-bias names token {id}, which is outside the vocabulary of {vocabulary}"
        ))
        .cure("`bitnet tokenize MODEL TEXT` tells the ids of a text")),
        None => Ok(()),
    }
}

/// A prompt of `tokens` that does not fit into the `room` that is left.
pub fn too_long(engine: &InferenceEngine, tokens: usize, room: usize) -> Failure {
    /// Tokens that an answer should have room for.
    const ANSWER: usize = 256;
    let told =
        Failure::new(format_args!("the prompt has {tokens} tokens, but the context has room for {room}"));
    let made_for = engine.config().context;
    if tokens < made_for {
        told.cure(format_args!("--context {}", tokens.saturating_add(ANSWER).min(made_for)))
    } else {
        told.cure(format_args!(
            "a shorter prompt: the model was made for {made_for} tokens, the answer included"
        ))
    }
}

/// How keys and values are kept, `default` when nobody says.
pub fn kv(args: &EngineArgs, default: KvType) -> KvType {
    args.kv.map_or(default, kv_type)
}

/// Opens the files of the model that the user calls `name`, without loading it.
pub fn checkpoint(name: &ModelName, i2s_64: bool) -> Result<Checkpoint> {
    let opened = bitnet_source::open(resolve::model(name)?, &OpenOptions::default().i2s_64(i2s_64));
    let checkpoint = opened.map_err(|e| failure(e.into()))?;
    if i2s_64 && checkpoint.tensors().all(|tensor| tensor.ty() != TensorType::I2S64) {
        idle("--i2s-64", &format!("no tensor of {name} is I2_S"));
    }
    tracing::debug!(
        path = %checkpoint.path().display(),
        files = checkpoint.files().len(),
        tensors = checkpoint.tensors().len(),
        bytes = checkpoint.file_bytes(),
        "opened"
    );
    Ok(checkpoint)
}

/// The error of an evaluation in words; the engine's own keep their cures.
pub fn evaluation_failure(error: EvaluationError) -> Failure {
    match error {
        EvaluationError::Engine(error) => failure(error),
        other => Failure::new(sentence(&other)),
    }
}

/// What a person wants who says nothing: lively, but not wild. (The library's own default is greedy.)
const TEMPERATURE: f32 = 0.6;
const TOP_P: f32 = 0.9;
/// With a limit, the head need not be computed in full; `TOP_P` mostly cuts earlier.
const TOP_K: usize = 40;
const PENALTY_WINDOW: usize = 64;

/// The sampler's options: what the flags say, else the model's files, else this program. What the files decide is told.
pub fn sampling(args: &SamplingArgs, engine: &InferenceEngine) -> SamplingOptions {
    let nothing = SamplingDefaults::default();
    let wish = engine.sampling_defaults().unwrap_or_else(|error| {
        terminal::warning(format_args!("{error}; what its files say of sampling is passed over"));
        nothing
    });
    let options = chosen(args, wish);
    let told = suggested(&options, &chosen(args, nothing));
    if !told.is_empty() {
        terminal::note(format_args!("{} by the model's own files; flags override", told.join(", ")));
    }
    options
}

/// A seed is made up where none is given.
fn chosen(args: &SamplingArgs, model: SamplingDefaults) -> SamplingOptions {
    let default = SamplingOptions::default();
    let said = |flag: Option<f32>, model: Option<f32>, otherwise| flag.or(model).unwrap_or(otherwise);
    let count = |flag: Option<u32>, model: Option<usize>, otherwise| {
        flag.map(|n| n as usize).or(model).unwrap_or(otherwise)
    };
    SamplingOptions {
        temperature: if args.greedy { 0.0 } else { said(args.temperature, model.temperature, TEMPERATURE) },
        top_k: count(args.top_k, model.top_k, TOP_K),
        top_p: said(args.top_p, model.top_p, TOP_P),
        min_p: said(args.min_p, model.min_p, default.min_p),
        repetition_penalty: said(
            args.repetition_penalty,
            model.repetition_penalty,
            default.repetition_penalty,
        ),
        frequency_penalty: args.frequency_penalty.unwrap_or(default.frequency_penalty),
        presence_penalty: args.presence_penalty.unwrap_or(default.presence_penalty),
        penalty_window: count(args.penalty_window, model.penalty_window, PENALTY_WINDOW),
        logit_bias: args.logit_bias.iter().map(|b| (b.id, b.bias)).collect(),
        seed: args.seed.unwrap_or_else(new_seed),
    }
}

/// What has an effect in `options` and is not what `otherwise` would be.
fn suggested(options: &SamplingOptions, otherwise: &SamplingOptions) -> Vec<String> {
    let greedy = options.temperature == 0.0;
    let penalizes = options.repetition_penalty != 1.0;
    let all = [
        ("temperature", true, options.temperature, otherwise.temperature),
        ("top-k", !greedy, options.top_k as f32, otherwise.top_k as f32),
        ("top-p", !greedy, options.top_p, otherwise.top_p),
        ("min-p", !greedy, options.min_p, otherwise.min_p),
        ("repetition penalty", true, options.repetition_penalty, otherwise.repetition_penalty),
        ("penalty window", penalizes, options.penalty_window as f32, otherwise.penalty_window as f32),
    ];
    let differs = all.into_iter().filter(|(_, counts, is, was)| *counts && is != was);
    let told = |name: &str, value: f32| match value {
        // What a file's -1 means: as many tokens as there are.
        value if value == usize::MAX as f32 => format!("{name} of all tokens"),
        value => format!("{name} {value}"),
    };
    differs.map(|(name, _, value, _)| told(name, value)).collect()
}

/// Six digits that differ from run to run, short enough to be typed again.
fn new_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mixed =
        (now.as_nanos() as u64 ^ u64::from(std::process::id()) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) % 1_000_000
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn asked(options: &str) -> SamplingOptions {
        beside(options, SamplingDefaults::default())
    }

    fn beside(options: &str, model: SamplingDefaults) -> SamplingOptions {
        let words = ["bitnet", "run"].into_iter().chain(options.split_whitespace());
        let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else { panic!("not run") };
        chosen(&args.sampling, model)
    }

    #[test]
    fn what_nobody_says_is_lively_but_not_wild() {
        let expected = SamplingOptions {
            temperature: 0.6,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            penalty_window: 64,
            logit_bias: Vec::new(),
            seed: 3,
        };
        assert_eq!(asked("--seed 3"), expected);
        assert_eq!(asked("--seed 3 --greedy"), SamplingOptions { temperature: 0.0, ..expected });
    }

    #[test]
    fn a_models_files_are_asked_before_this_program_and_after_the_flags() {
        let model = SamplingDefaults {
            temperature: Some(1.0),
            top_k: Some(20),
            top_p: Some(0.95),
            min_p: Some(0.1),
            repetition_penalty: Some(1.25),
            penalty_window: Some(7),
        };
        let said = beside("--seed 3", model);
        assert_eq!((said.temperature, said.top_k, said.top_p, said.min_p), (1.0, 20, 0.95, 0.1));
        assert_eq!((said.repetition_penalty, said.penalty_window), (1.25, 7));
        let told = [
            "temperature 1",
            "top-k 20",
            "top-p 0.95",
            "min-p 0.1",
            "repetition penalty 1.25",
            "penalty window 7",
        ];
        assert_eq!(suggested(&said, &asked("--seed 3")), told);
        let flags = "--seed 3 --temperature 0.5 --top-k 0 --top-p 0.5 --min-p 0 --repetition-penalty 1 --penalty-window 64";
        assert_eq!(beside(flags, model), asked(flags));
        let greedy = beside("--seed 3 --greedy", model);
        assert_eq!(
            suggested(&greedy, &asked("--seed 3 --greedy")),
            ["repetition penalty 1.25", "penalty window 7"]
        );
        let endless = SamplingDefaults { penalty_window: Some(usize::MAX), ..model };
        assert!(
            suggested(&beside("--seed 3", endless), &asked("--seed 3"))
                .contains(&"penalty window of all tokens".to_owned())
        );
        let some = SamplingDefaults { top_k: Some(40), penalty_window: Some(7), ..Default::default() };
        assert!(suggested(&beside("--seed 3", some), &asked("--seed 3")).is_empty());
    }

    #[test]
    fn every_option_has_its_own_place() {
        let expected = SamplingOptions {
            temperature: 1.25,
            top_k: 7,
            top_p: 0.8,
            min_p: 0.05,
            repetition_penalty: 1.5,
            frequency_penalty: 0.25,
            presence_penalty: -0.75,
            penalty_window: 9,
            logit_bias: vec![(5, -2.0), (6, 3.5)],
            seed: u64::MAX,
        };
        let options = "--temperature 1.25 --top-k 7 --top-p 0.8 --min-p 0.05 --repetition-penalty 1.5 --frequency-penalty 0.25 \
            --presence-penalty=-0.75 --penalty-window 9 --logit-bias 5=-2 --logit-bias 6=3.5 --seed 18446744073709551615";
        assert_eq!(asked(options), expected);
    }
}
