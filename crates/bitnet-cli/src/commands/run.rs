//! `bitnet run [MODEL] [PROMPT]`.

use std::path::PathBuf;

use bitnet_inference::{EngineError, GenerateOptions, InferenceEngine, Step, TokenLogprobs};
use bitnet_text::{Message, encode_chat};
use serde::Serialize;

use crate::{
    args::{ModelName, Print, RunArgs},
    boxed,
    failure::{Failure, Result},
    files,
    generate::{self, Outcome, Speed},
    load, resolve,
    terminal::{self, TextOut},
};

/// Tokens when nobody says how many.
const NEW_TOKENS: usize = 256;
/// A story of the model in the box ends by itself, and its context has 512.
const NEW_TOKENS_OF_BOX: usize = 480;

/// What is asked for, with no word left unexplained.
struct Plan {
    model: ModelName,
    input: Input,
}

#[derive(Debug, PartialEq)]
enum Input {
    Text(String),
    File(PathBuf),
    IdsFile(PathBuf),
}

#[derive(Serialize)]
struct Report<'a> {
    text: &'a str,
    ids: &'a [u32],
    prompt_ids: &'a [u32],
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<TokenReport>>,
    seed: u64,
    kernel: &'static str,
    threads: usize,
    speed: Speed,
}

#[derive(Serialize)]
struct TokenReport {
    id: u32,
    token: Option<String>,
    logprob: f32,
    top: Vec<Rival>,
}

#[derive(Serialize)]
struct Rival {
    id: u32,
    token: Option<String>,
    logprob: f32,
}

pub fn run(args: &RunArgs) -> Result<()> {
    let plan = plan(args)?;
    // A prompt that cannot be read is told before a model is loaded.
    let prompt = Prompt::read(plan.input)?;
    load::warn_of_idle(&args.sampling);
    let engine = load::engine(&plan.model, &args.engine)?;
    let ids = prompt_ids(&engine, prompt, args)?;
    let options = options(args, &engine);
    load::check_biases(&engine, &options.sampling)?;
    let mut session = engine.session().map_err(load::failure)?;
    let mut out = TextOut::new();
    let streams = !args.json && args.print == Print::Text;
    if streams && engine.tokenizer().is_none() {
        return Err(load::failure(EngineError::NoTokenizer));
    }
    let show = |step: &Step<'_>| if streams { out.push(step.text) } else { Ok(()) };
    let outcome = generate::generate(&mut session, &ids, &options, show)?;
    if streams {
        out.finish()?;
    }
    if outcome.finish.is_none() {
        return Err(Failure::Interrupted);
    }
    if args.json {
        terminal::print_json(&report(&engine, &ids, &outcome, &options))?;
    } else {
        if args.print == Print::Ids {
            terminal::print_line(format_args!("{}", serde_json::json!(outcome.ids)))?;
        }
        tell_logprobs(&engine, &outcome);
        generate::note_end(&engine, &outcome);
    }
    if args.stats {
        tell_stats(&engine, &outcome, &options);
    }
    Ok(())
}

/// Sorts out which word is the model and which is the prompt.
fn plan(args: &RunArgs) -> Result<Plan> {
    let mut words = args.first.iter().cloned().chain(args.second.as_deref().map(ModelName::from));
    let by_flag = (args.ids_file.clone().map(Input::IdsFile))
        .or_else(|| args.file.clone().map(Input::File))
        .or_else(|| args.prompt.clone().map(Input::Text));
    let (model, input) = match (args.model.clone(), by_flag) {
        (Some(model), Some(input)) => (model, input),
        (Some(model), None) => (model, Input::word(words.next().ok_or_else(no_prompt)?.as_text()?)),
        (None, Some(input)) => (words.next().unwrap_or_else(|| boxed::NAME.into()), input),
        (None, None) => match (words.next(), words.next()) {
            (Some(model), Some(prompt)) => (model, Input::word(prompt.as_text()?)),
            (Some(only), None) => return Err(only_one(&only)),
            _ => {
                terminal::note(format_args!("no model named: the one in the box tells a story"));
                (boxed::NAME.into(), Input::Text(String::new()))
            }
        },
    };
    match words.next() {
        Some(extra) => Err(Failure::usage(format_args!(
            "'{extra}' is one word too many: model and prompt are given already"
        ))
        .cure("put a prompt of several words in quotes")),
        None => Ok(Plan { model, input }),
    }
}

fn no_prompt() -> Failure {
    Failure::usage("there is no prompt")
        .cure("bitnet run MODEL 'the text to continue', or - to read it from standard input")
}

impl Input {
    /// What a word in the prompt's place means.
    fn word(word: String) -> Self {
        if word == "-" { Self::File(PathBuf::from(word)) } else { Self::Text(word) }
    }
}

/// The text or the ids that are to be continued.
enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

impl Prompt {
    fn read(input: Input) -> Result<Self> {
        match input {
            Input::IdsFile(path) => Ok(Self::Ids(files::read_ids(&path)?)),
            Input::Text(text) => Ok(Self::Text(text)),
            Input::File(path) => {
                let text = files::read_text(&path)?;
                // The line end that `echo` and editors put last belongs to them, not to the prompt.
                let text =
                    text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t));
                if text.is_empty() {
                    return Err(Failure::usage(format_args!(
                        "there is no prompt: {} is empty",
                        files::shown(&path)
                    ))
                    .cure("--prompt '' begins a text from nothing"));
                }
                Ok(Self::Text(text.to_owned()))
            }
        }
    }
}

/// One word alone: a model without a prompt, a mistyped model, or a prompt without a model.
fn only_one(name: &ModelName) -> Failure {
    if resolve::is_model(name) {
        return no_prompt();
    }
    let (path, word) = (name.path(), name.to_string());
    let known = ["gguf", "safetensors", "bitnet"];
    if path.extension().and_then(|e| e.to_str()).is_some_and(|e| known.contains(&e))
        || !word.contains(' ') && word.contains('/')
    {
        return resolve::model(name).err().unwrap_or_else(no_prompt);
    }
    Failure::usage(format_args!("'{word}' is no model, and a model without a prompt could not run either"))
        .cure(format_args!("bitnet run --prompt '{word}' to have it continued by the model in the box, or bitnet run MODEL '{word}'"))
}

fn prompt_ids(engine: &InferenceEngine, prompt: Prompt, args: &RunArgs) -> Result<Vec<u32>> {
    let text = match prompt {
        Prompt::Ids(ids) => return Ok(ids),
        Prompt::Text(text) => text,
    };
    let tokenizer = engine.tokenizer().ok_or_else(|| load::failure(EngineError::NoTokenizer))?;
    if !args.chat {
        let ids = engine.encode(&text).map_err(load::failure)?;
        // An empty prompt begins a text, where the model has a token for that.
        return Ok(if ids.is_empty() { engine.config().bos.into_iter().collect() } else { ids });
    }
    let (_, template) = engine.chat().map_err(|e| load::failure(e).cure("leave --chat out"))?;
    load::warn_of_instructions(engine, args.system.as_deref())?;
    let system = args.system.iter().map(|system| Message::new("system", system));
    let messages: Vec<_> = system.chain([Message::new("user", text)]).collect();
    encode_chat(tokenizer, template, &messages, true).map_err(|e| load::failure(e.into()))
}

fn options(args: &RunArgs, engine: &InferenceEngine) -> GenerateOptions {
    let first_look = args.first.is_none()
        && args.model.is_none()
        && args.prompt.is_none()
        && args.file.is_none()
        && args.ids_file.is_none();
    GenerateOptions {
        max_new_tokens: args
            .max_new_tokens
            .map_or(if first_look { NEW_TOKENS_OF_BOX } else { NEW_TOKENS }, |n| n as usize),
        sampling: load::sampling(&args.sampling, engine),
        stop: args.stop.clone(),
        ignore_eos: args.ignore_eos,
        logprobs: args.logprobs.map(usize::from),
    }
}

fn report<'a>(
    engine: &InferenceEngine,
    ids: &'a [u32],
    outcome: &'a Outcome,
    options: &GenerateOptions,
) -> Report<'a> {
    let info = engine.info();
    Report {
        text: &outcome.text,
        ids: &outcome.ids,
        prompt_ids: ids,
        finish_reason: generate::finish_word(outcome.finish),
        logprobs: options.logprobs.map(|_| token_reports(engine, outcome)),
        seed: options.sampling.seed,
        kernel: info.kernel,
        threads: info.threads,
        speed: outcome.speed,
    }
}

fn token_reports(engine: &InferenceEngine, outcome: &Outcome) -> Vec<TokenReport> {
    let token = |id| Some(engine.tokenizer()?.decode(&[id], false));
    let one = |(&id, logprobs): (&u32, &TokenLogprobs)| TokenReport {
        id,
        token: token(id),
        logprob: logprobs.chosen,
        top: logprobs.top.iter().map(|&(id, logprob)| Rival { id, token: token(id), logprob }).collect(),
    };
    outcome.ids.iter().zip(&outcome.logprobs).map(one).collect()
}

/// A line per token on standard error, when log-probabilities were asked for.
fn tell_logprobs(engine: &InferenceEngine, outcome: &Outcome) {
    let shown = |id: u32, token: &Option<String>, logprob: f32| {
        let token = token.as_ref().map_or(String::new(), |t| format!(" {t:?}"));
        format!("{id}{token} {logprob:.4}")
    };
    for token in token_reports(engine, outcome) {
        let rivals: Vec<_> = token.top.iter().map(|r| shown(r.id, &r.token, r.logprob)).collect();
        let rivals = if rivals.is_empty() { String::new() } else { format!("   [{}]", rivals.join(", ")) };
        terminal::error_line(format_args!("{}{rivals}", shown(token.id, &token.token, token.logprob)));
    }
}

fn tell_stats(engine: &InferenceEngine, outcome: &Outcome, options: &GenerateOptions) {
    let info = engine.info();
    let seed = if options.sampling.temperature == 0.0 {
        "greedy".into()
    } else {
        format!("seed {}", options.sampling.seed)
    };
    terminal::error_line(format_args!(
        "{}   {}   {} threads   {seed}",
        outcome.speed.words(),
        info.kernel,
        info.threads
    ));
}
