//! `bitnet tokenize MODEL [TEXT]`.

use std::{
    fs,
    io::{self, IsTerminal},
    path::Path,
};

use bitnet_inference::{EngineError, vocabulary};
use bitnet_text::{AroundText, EncodeOptions, Tokenizer};

use crate::{
    args::{ModelName, TokenizeArgs},
    failure::{Failure, Result},
    files,
    human::TextTable,
    load, resolve,
    terminal::{self, TextOut},
};

pub fn run(args: &TokenizeArgs) -> Result<()> {
    let (model, words) = model_and_text(args)?;
    let (text, place) = input(args, words)?;
    let tokenizer = tokenizer(model)?;
    if args.decode {
        let ids = files::parse_ids(&text, &place)?;
        let size = tokenizer.vocab_size();
        if let Some(id) = ids.iter().find(|&&id| id as usize >= size) {
            return Err(Failure::new(format_args!("token id {id} is outside the vocabulary of {size}")));
        }
        let mut out = TextOut::new();
        return out.push(&format!("{}\n", tokenizer.decode(&ids, args.no_special)));
    }
    let options = EncodeOptions { add_special: !args.no_special, parse_special: !args.plain };
    let ids = tokenizer.encode(&text, options).map_err(|e| load::failure(e.into()))?;
    if !args.pieces {
        return terminal::print_line(format_args!("{}", serde_json::json!(ids)));
    }
    let mut table = TextTable::new(&["id", "token"]);
    for id in ids {
        let token = tokenizer.token_bytes(id).unwrap_or_default();
        table.row(vec![id.to_string(), format!("{:?}", String::from_utf8_lossy(token))]);
    }
    terminal::print(&table.text())
}

/// Which word is the model, and which is the text.
fn model_and_text(args: &TokenizeArgs) -> Result<(&ModelName, Option<String>)> {
    let second = args.second.clone();
    let (model, text, more) = match (&args.model, &args.first) {
        (Some(model), text) => (model, text.as_ref().map(ModelName::as_text).transpose()?, second),
        (None, Some(model)) => (model, second, None),
        (None, None) => return Err(Failure::usage("there is no model").cure("bitnet tokenize MODEL 'text'")),
    };
    match more.or(text.clone().filter(|_| args.file.is_some())) {
        Some(extra) => Err(Failure::usage(format_args!(
            "'{extra}' is one word too many: model and text are given already"
        ))
        .cure("put a text of several words in quotes")),
        None => Ok((model, text)),
    }
}

/// The text and where it came from.
fn input(args: &TokenizeArgs, words: Option<String>) -> Result<(String, String)> {
    if let Some(text) = words {
        return Ok((text, "the argument".into()));
    }
    if let Some(path) = &args.file {
        return Ok((files::read_text(path)?, path.display().to_string()));
    }
    let none = |what: &str| {
        Failure::usage(what).cure("bitnet tokenize MODEL 'text', --file FILE, or a pipe into it")
    };
    if io::stdin().is_terminal() {
        return Err(none("there is no text"));
    }
    let text = files::read_text(Path::new("-"))?;
    if text.is_empty() {
        return Err(none("there is no text: standard input is empty"));
    }
    Ok((text, "standard input".into()))
}

/// The tokenizer of a model, or a tokenizer.json or tokenizer.model itself; the weights are not needed.
fn tokenizer(model: &ModelName) -> Result<Tokenizer> {
    let path = resolve::model(model)?;
    let alone = |name: &str| {
        path.is_dir() && path.join(name).is_file() && fs::metadata(path.join("config.json")).is_err()
    };
    let file = match ["tokenizer.json", "tokenizer.model"].into_iter().find(|name| alone(name)) {
        Some(name) => path.join(name),
        None => path,
    };
    if file.extension().is_some_and(|e| e == "model") {
        // As LLaMA reads texts, since the file alone does not say.
        let around = AroundText { bos: true, eos: false };
        let bytes = bitnet_format::read_sentencepiece(&file).map_err(|e| load::failure(e.into()))?;
        return Tokenizer::from_sentencepiece(&bytes, around).map_err(|e| load::failure(e.into()));
    }
    if file.extension().is_some_and(|e| e == "json") {
        let json = files::read_text(&file)?;
        return Tokenizer::from_json(json).map_err(|e| load::failure(e.into()));
    }
    let checkpoint = load::checkpoint(model, false)?;
    let tokenizer = vocabulary::tokenizer(&checkpoint).map_err(load::failure)?;
    tokenizer.ok_or_else(|| {
        Failure::new(EngineError::NoTokenizer).cure("put the model's tokenizer.json beside it")
    })
}
