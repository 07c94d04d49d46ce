//! What the tuner found, kept for each machine and shape of model in the cache folder.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use bitnet_inference::{TuneOptions, Tuned, Tuning, tune};
use bitnet_model::{Config, Projection};
use serde::{Deserialize, Serialize};

use crate::{
    args::{EngineArgs, Tune},
    engine,
    failure::{Failure, Result},
    hub,
    machine::{self, Processor},
    measured, terminal,
};

/// Bytes of trits below which a model runs from the caches, and there is nothing to choose.
const WORTHWHILE: usize = 64 << 20;

/// What the tuner found for one shape on one machine, as it is kept.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it holds for: processor, processors, kernel, and what was asked for.
    pub machine: String,
    /// The shape of the model, in a line.
    pub model: String,
    pub threads: Option<usize>,
    pub rows_per_chunk: usize,
    pub prefill: usize,
    pub base3: bool,
    pub huge_pages: bool,
    /// The comparisons that led to the finding.
    pub trials: Vec<KeptTrial>,
    /// Blocks of the model that were run.
    pub layers: usize,
    /// How long the comparisons took, in seconds.
    pub seconds: f64,
}

/// One way of running, and its speed.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptTrial {
    pub knob: String,
    pub value: String,
    pub tokens_per_second: f64,
    pub chosen: bool,
}

/// How a model of `config` is to be run: as was found before, or is found now.
pub fn of(config: &Config, args: &EngineArgs) -> Result<Tuning> {
    let kernel = bitnet_kernels::select(args.kernel.as_deref()).map_err(|e| engine::failure(e.into()))?;
    if args.tune == Tune::Never || (args.tune == Tune::Auto && !is_large(config)) {
        return Ok(Tuning::default());
    }
    let options = TuneOptions {
        kernel,
        threads: args.threads.map(machine::threads),
        activations: engine::choice(args.activations),
    };
    let (machine, model) = (machine(&options), model(config));
    let path = path(&machine, &model);
    if args.tune == Tune::Auto
        && let Some(kept) =
            path.as_deref().and_then(read).filter(|f| f.machine == machine && f.model == model)
    {
        return Ok(kept.tuning());
    }
    terminal::note(format_args!("measuring how this machine runs a model of this shape fastest, once"));
    let found = Finding::new(tune(config, &options).map_err(engine::failure)?, machine, model);
    match path.map_or(Ok(()), |path| found.keep(&path)) {
        // The model runs all the same; the next run measures again.
        Err(Failure::Told { what, .. }) => {
            terminal::warning(format_args!("what was measured is not kept: {what}"));
        }
        kept => kept?,
    }
    Ok(found.tuning())
}

/// Everything that was ever found on this machine, for `bitnet doctor`.
pub fn all() -> Vec<Finding> {
    let Some(folder) = folder() else { return Vec::new() };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let here = processor();
    let mut found: Vec<Finding> = entries
        .filter_map(|entry| read(&entry.ok()?.path()))
        .filter(|finding| finding.machine.starts_with(&here))
        .collect();
    found.sort_by(|a, b| (&a.model, &a.machine).cmp(&(&b.model, &b.machine)));
    found
}

impl Finding {
    fn new(tuned: Tuned, machine: String, model: String) -> Self {
        let Tuning { threads, rows_per_chunk, prefill, base3, huge_pages } = tuned.tuning;
        let trials = tuned.trials.into_iter().map(|t| KeptTrial {
            knob: t.knob.to_owned(),
            value: t.value,
            tokens_per_second: t.tokens_per_second,
            chosen: t.chosen,
        });
        Self {
            machine,
            model,
            threads,
            rows_per_chunk,
            prefill,
            base3,
            huge_pages,
            trials: trials.collect(),
            layers: tuned.layers,
            seconds: tuned.seconds,
        }
    }

    fn tuning(&self) -> Tuning {
        let Self { threads, rows_per_chunk, prefill, base3, huge_pages, .. } = *self;
        Tuning { threads, rows_per_chunk, prefill, base3, huge_pages }
    }

    /// Whether every value is one that the tuner could have found: the file may be damaged.
    fn is_sane(&self) -> bool {
        self.threads.is_none_or(|n| (1..=1024).contains(&n))
            && (16..=1 << 16).contains(&self.rows_per_chunk)
            && (1..=1024).contains(&self.prefill)
    }

    fn keep(&self, path: &Path) -> Result<()> {
        measured::keep(self, path)
    }
}

/// A finding, unless the file is missing or damaged.
fn read(path: &Path) -> Option<Finding> {
    measured::read(path).filter(Finding::is_sane)
}

fn folder() -> Option<PathBuf> {
    measured::folder("tuning")
}

fn path(machine: &str, model: &str) -> Option<PathBuf> {
    let name = hub::sha256(format!("{machine}\n{model}").as_bytes());
    Some(folder()?.join(format!("{}.json", &name[..16])))
}

fn processor() -> String {
    let usable = thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {usable} processors, ", Processor::detect().name)
}

fn machine(options: &TuneOptions) -> String {
    let threads = options.threads.map_or("any number of".into(), |n| n.to_string());
    format!("{}{}, {threads} threads", processor(), options.kernel.name())
}

fn model(config: &Config) -> String {
    format!(
        "{} blocks of {} by {}, {} heads of {} over {}, {:?}",
        config.layers,
        config.hidden,
        config.ffn,
        config.heads,
        config.head_dim,
        config.kv_heads,
        config.activations(bitnet_inference::ActivationChoice::Auto)
    )
}

/// Whether a model of `config` is read from memory rather than from the caches.
pub fn is_large(config: &Config) -> bool {
    ternary_bytes(config) >= WORTHWHILE
}

fn ternary_bytes(config: &Config) -> usize {
    let matrices = (0..config.layers).flat_map(|layer| Projection::of(config, layer));
    matrices.map(|p| p.shape(config).iter().product::<usize>() / 4).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Finding {
        let trial =
            KeptTrial { knob: "threads".into(), value: "2".into(), tokens_per_second: 30.5, chosen: true };
        let (machine, model) = ("a machine".into(), "a model".into());
        Finding {
            machine,
            model,
            threads: Some(2),
            rows_per_chunk: 128,
            prefill: 64,
            base3: true,
            huge_pages: true,
            trials: vec![trial],
            layers: 3,
            seconds: 1.5,
        }
    }

    #[test]
    fn a_finding_is_kept_and_a_damaged_one_is_not_believed() {
        let folder = std::env::temp_dir().join(format!("bitnet-tuning-{}", std::process::id()));
        let path = folder.join("a.json");
        finding().keep(&path).unwrap();
        assert_eq!(read(&path), Some(finding()));
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [
            text[..text.len() / 2].to_owned(),
            text.replace("\"rows_per_chunk\": 128", "\"rows_per_chunk\": 0"),
            text.replace("\"threads\": 2", "\"threads\": 100000"),
            text.replace("\"prefill\": 64", "\"prefill\": 1000000"),
        ] {
            assert_ne!(damaged, text);
            fs::write(&path, damaged).unwrap();
            assert_eq!(read(&path), None);
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
