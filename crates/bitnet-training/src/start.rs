//! A job becomes a run: the tokenizer, the ids, fresh masters.

use std::{path::Path, sync::Arc};

use bitnet_kernels::Kernel;
use bitnet_text::Tokenizer;
use burn_tensor::Device;
use serde_json::Value;

use crate::{
    Corpus, Parameters, TrainError, Trainer, Transformer,
    corpus::{BOS, EOS, read_text},
    export::TokenizerFiles,
    job::Job,
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

/// Reads texts and tokenizer of `job`, or trains one, and makes a run of fresh masters on the CPU.
///
/// # Errors
/// Whatever is wrong with texts, tokenizer or sizes, before the first step.
pub fn start(job: &Job, kernel: &'static Kernel) -> Result<(Trainer, TokenizerFiles), TrainError> {
    let files = tokenizer_files(job)?;
    let tokenizer =
        Tokenizer::from_json(&files.json)?.with_bos_eos(files.bos.as_deref(), files.eos.as_deref());
    let corpus = Corpus::read(&job.data.files, &tokenizer, job.data.validation, job.training.positions)?;
    let config = job.config(tokenizer.vocab_size(), tokenizer.bos(), tokenizer.eos());
    let model = Transformer::new(config.clone(), job.quantization()?, kernel)?
        .recomputing(job.training.gradient_checkpointing);
    let parameters = Parameters::random(&config, job.training.seed, job.model.deviation, &Device::flex());
    let identity = job.identity(digest(&corpus))?;
    Ok((Trainer::new(model, parameters, Arc::new(corpus), job.trainer_options(), identity)?, files))
}

/// The given tokenizer, or one of the job's texts.
fn tokenizer_files(job: &Job) -> Result<TokenizerFiles, TrainError> {
    let path = &job.data.tokenizer;
    if path.as_os_str().is_empty() {
        let texts = job.data.files.iter().map(|path| read_text(path)).collect::<Result<Vec<_>, _>>()?;
        // Validation text is not seen, by the tokenizer neither.
        let seen: Vec<String> = texts.iter().map(|text| beginning(text, 1.0 - job.data.validation)).collect();
        let json = train_tokenizer(&seen, job.data.vocabulary)?;
        return Ok(TokenizerFiles { json, bos: Some(BOS.to_owned()), eos: Some(EOS.to_owned()) });
    }
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
    Ok(TokenizerFiles { json, bos: token("bos_token"), eos: token("eos_token") })
}

fn read(path: &Path) -> Result<String, TrainError> {
    std::fs::read_to_string(path).map_err(|error| TrainError::Io { path: path.into(), error })
}

/// The first `share` of a text, up to the end of a line.
fn beginning(text: &str, share: f64) -> String {
    let end = text.floor_char_boundary((text.len() as f64 * share) as usize);
    let end = text[..end].rfind('\n').map_or(end, |at| at + 1);
    text[..end].to_owned()
}

/// A number that another text, or another tokenizer, would hardly have.
fn digest(corpus: &Corpus) -> u64 {
    let ids = corpus.train.iter().chain(&corpus.validation);
    ids.fold(corpus.train.len() as u64, |sum, &id| {
        (sum.rotate_left(29) ^ u64::from(id)).wrapping_mul(0x9fb2_1c65_1e98_df25)
    })
}
