//! A job becomes a run: the tokenizer, the ids, masters.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bitnet_kernels::Kernel;
use bitnet_text::{ChatTemplate, Tokenizer};
use burn_tensor::Device;
use serde_json::Value;

use crate::{
    Corpus, Parameters, TrainError, Trainer, Transformer,
    corpus::{BOS, EOS, read_text, read_within},
    distill::Teacher,
    examples::Reader,
    export::TokenizerFiles,
    found::Found,
    job::{Data, TrainingJob},
    lessons::Lessons,
    train_tokenizer,
};

/// Calls `work` with so many threads to share; 0 are all that the machine grants.
///
/// # Errors
/// When the system refuses the threads.
pub fn on_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> Result<R, TrainError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    Ok(pool.map_err(|e| TrainError::Threads(e.to_string()))?.install(work))
}

/// Reads texts or examples and the tokenizer of `job`, or trains one, and makes a run on the CPU: of fresh masters, or of those
/// of the model that the job begins with.
///
/// # Errors
/// Whatever is wrong with texts, tokenizer, model or sizes, before the first step.
pub fn start(job: &TrainingJob, kernel: &'static Kernel) -> Result<(Trainer, TokenizerFiles), TrainError> {
    let found = job.start_model().map(Found::open).transpose()?;
    let (tokenizer, files) = tokenizer(job, found.as_ref())?;
    let template = match &found {
        Some(found) => found.chat_template(&tokenizer)?,
        None => None,
    };
    let (config, quantization) = match &found {
        Some(found) => job.meet(found)?,
        None => {
            (job.config(tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos())?, job.quantization(None)?)
        }
    };
    if tokenizer.vocab_size() > config.vocab {
        return Err(TrainError::Vocabulary { tokenizer: tokenizer.vocab_size(), model: config.vocab });
    }
    let eos = config.eos.first().copied().or(tokenizer.eos());
    let lessons = lessons(job, &tokenizer, template.as_ref(), eos)?;
    let device = Device::flex();
    let begin = match &found {
        Some(found) => found.parameters(quantization.weights, &device)?,
        None => {
            let deviation = job.model.as_ref().map_or(0.02, |m| m.deviation);
            Parameters::random(&config, job.training.seed, deviation, &device)
        }
    };
    let mut identity = job.identity(lessons.digest())?;
    if found.is_some() {
        identity.push(("start.model".into(), format!("{:016x}", begin.digest())));
    }
    let mut model = Transformer::new(config.clone(), quantization, kernel)?
        .recomputing(job.training.gradient_checkpointing);
    let mut parameters = begin;
    if let Some(side) = job.side_path()? {
        parameters = parameters.with_side_paths(&config, &side, job.training.seed);
        model = model.with_side_factor(side.factor());
    }
    let teacher = teacher(job, &tokenizer, &config, kernel)?;
    if let Some((_, digest)) = &teacher {
        identity.push(("distillation.teacher".into(), format!("{digest:016x}")));
    }
    let examples = if let Lessons::Examples(e) = &lessons { e.train.len() } else { 0 };
    let options = job.trainer_options(examples)?;
    let trainer = Trainer::new(model, parameters, lessons, options, identity)?;
    Ok(match teacher {
        Some((teacher, _)) => (trainer.with_teacher(teacher), files),
        None => (trainer, files),
    })
}

fn lessons(
    job: &TrainingJob,
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    eos: Option<u32>,
) -> Result<Lessons, TrainError> {
    if let Some(data) = &job.data {
        let corpus = Corpus::read(&data.files, tokenizer, data.division(), job.training.positions)?;
        return Ok(Arc::new(corpus).into());
    }
    let Some(examples) = &job.examples else {
        return Err(TrainError::Job("the job has neither [data] nor [examples]".into()));
    };
    let reader = Reader { tokenizer, template, eos };
    Ok(Arc::new(reader.read(&examples.files, examples.validation)?).into())
}

/// The teacher of a job, and its digest.
fn teacher(
    job: &TrainingJob,
    tokenizer: &Tokenizer,
    student: &bitnet_model::Config,
    kernel: &'static Kernel,
) -> Result<Option<(Teacher, u64)>, TrainError> {
    let Some((path, options)) = job.distillation() else { return Ok(None) };
    let found = Found::open(path)?;
    if let Some((theirs, _)) = found.tokenizer()? {
        let ids = 0..theirs.vocab_size().max(tokenizer.vocab_size()) as u32;
        if let Some(id) = ids.into_iter().find(|&id| theirs.token_bytes(id) != tokenizer.token_bytes(id)) {
            let what = format!("in {} has another tokenizer: token {id} differs", path.display());
            return Err(TrainError::Teacher { what });
        }
    }
    let parameters = found.parameters(found.quantization().weights, &Device::flex())?;
    let digest = parameters.digest();
    let model = Transformer::new(found.config().clone(), found.quantization(), kernel)?;
    let teacher = Teacher::new(model, parameters, options, student, job.training.positions)?;
    let teacher = match job.relations() {
        Some(relations) => teacher.with_relations(relations, student)?,
        None => teacher,
    };
    Ok(Some((teacher, digest)))
}

/// The tokenizer of the model that the job begins with, else the given one, else one of the job's texts.
fn tokenizer(job: &TrainingJob, found: Option<&Found>) -> Result<(Tokenizer, TokenizerFiles), TrainError> {
    let given = job.data.as_ref().filter(|data| !data.tokenizer.as_os_str().is_empty());
    if let Some(found) = found
        && let Some((tokenizer, files)) = found.tokenizer()?
    {
        return match given {
            Some(data) if read(&data.tokenizer)? != files.json => Err(TrainError::Contradiction {
                key: "data.tokenizer".into(),
                job: data.tokenizer.display().to_string(),
                path: found.path().into(),
                model: "another tokenizer of its own".into(),
                cure: "leave data.tokenizer empty",
            }),
            _ => Ok((tokenizer, files)),
        };
    }
    let files = match (given, &job.data, found) {
        (Some(data), _, _) => given_tokenizer(&data.tokenizer)?,
        (None, Some(data), None) => own_tokenizer(data)?,
        (None, _, found) => {
            let path = found.map_or_else(Default::default, |f| f.path().to_path_buf());
            return Err(TrainError::Start { path, what: "the model has no tokenizer".into() });
        }
    };
    let tokenizer =
        Tokenizer::from_json(&files.json)?.with_bos_eos(files.bos.as_deref(), files.eos.as_deref())?;
    Ok((tokenizer, files))
}

fn own_tokenizer(data: &Data) -> Result<TokenizerFiles, TrainError> {
    // Validation text is not seen, by the tokenizer neither.
    let seen = |path: &PathBuf| -> Result<Vec<String>, TrainError> {
        let text = read_text(path)?;
        Ok(match data.division().documents(path, &text)? {
            Some([train, _]) => train,
            None => vec![beginning(&text, 1.0 - data.validation)],
        })
    };
    let seen = data.files.iter().map(seen).collect::<Result<Vec<_>, _>>()?.concat();
    let json = train_tokenizer(&seen, data.vocabulary)?;
    Ok(TokenizerFiles { json, bos: Some(BOS.to_owned()), eos: Some(EOS.to_owned()), chat_template: None })
}

fn given_tokenizer(path: &Path) -> Result<TokenizerFiles, TrainError> {
    let json = read(path)?;
    let beside = path.with_file_name("tokenizer_config.json");
    let config: Value = match beside.is_file() {
        true => serde_json::from_str(&read(&beside)?)
            .map_err(|e| TrainError::Damaged { path: beside.clone(), what: e.to_string() })?,
        false => Value::Null,
    };
    let token = |key: &str| match &config[key] {
        Value::String(token) => Some(token.clone()),
        Value::Object(token) => token.get("content").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let chat_template = config["chat_template"].as_str().map(str::to_owned);
    Ok(TokenizerFiles { json, bos: token("bos_token"), eos: token("eos_token"), chat_template })
}

/// The most bytes of a tokenizer's files; the largest of models that people share have some 30 MB.
const MOST_TOKENIZER: u64 = 256 << 20;

fn read(path: &Path) -> Result<String, TrainError> {
    let bytes = read_within(path, MOST_TOKENIZER)?;
    String::from_utf8(bytes)
        .map_err(|error| TrainError::NotUtf8 { path: path.into(), byte: error.utf8_error().valid_up_to() })
}

/// The first `share` of a text, up to the end of a line.
fn beginning(text: &str, share: f64) -> String {
    let end = text.floor_char_boundary((text.len() as f64 * share) as usize);
    let end = text[..end].rfind('\n').map_or(end, |at| at + 1);
    text[..end].to_owned()
}
