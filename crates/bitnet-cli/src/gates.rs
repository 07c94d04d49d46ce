//! Which models open how many of their gates, kept for each model in the cache folder.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use bitnet_format::Metadata;
use bitnet_inference::{InferenceEngine, WORTH_SKIPPING};
use bitnet_model::GateActivation;
use bitnet_source::Source;
use serde::{Deserialize, Serialize};

use crate::{
    args::{EngineArgs, SparsityArg, Tune},
    engine,
    failure::{Failure, Result},
    hub, measured, terminal, tuning,
};

/// The shares of one model, as they are kept.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Where it lies, how large it is, and when it was written.
    pub model: String,
    /// Share of open gates, block by block.
    pub open: Vec<f32>,
}

/// A model whose shares matter here.
pub struct Asked {
    model: String,
    path: PathBuf,
    /// The shares that an earlier run measured and kept.
    known: Option<Shares>,
}

/// What is known of the model at `path`, unless nobody needs to know.
pub fn of(path: &Path, source: &Source, args: &EngineArgs) -> Option<Asked> {
    let config = source.config();
    let wanted = args.sparsity == SparsityArg::Auto
        && args.tune != Tune::Never
        && config.activation == GateActivation::SquaredRelu
        // What is mapped stays as it lies.
        && !matches!(source.checkpoint().metadata(), Metadata::Bitnet(_))
        && tuning::is_large(config);
    if !wanted {
        return None;
    }
    let model = identity(path, source.checkpoint().file_bytes())?;
    let path = folder()?.join(format!("{}.json", &hub::sha256(model.as_bytes())[..16]));
    let known = read(&path).filter(|shares| shares.model == model && shares.open.len() == config.layers);
    let known = known.filter(|_| args.tune == Tune::Auto);
    Some(Asked { model, path, known })
}

impl Asked {
    /// What was measured when the model was first run.
    pub fn known(&self) -> Option<Arc<[f32]>> {
        Some(self.known.as_ref()?.open.as_slice().into())
    }

    /// Measures and keeps the shares of a model that is run for the first time; the next run goes by them.
    pub fn measure(self, engine: &InferenceEngine) -> Result<()> {
        if self.known.is_some() {
            return Ok(());
        }
        let Some(open) = engine.open_gates().map_err(engine::failure)? else { return Ok(()) };
        let shares = Shares { model: self.model, open };
        match shares.keep(&self.path) {
            Err(Failure::Told { what, .. }) => {
                terminal::warning(format_args!("how many gates are open is not kept: {what}"));
            }
            Err(signal) => return Err(signal),
            Ok(()) if shares.skipping() > 0 => terminal::note(format_args!(
                "{} of this model's {} blocks will leave out zeros from the next run on; results are the same",
                shares.skipping(),
                shares.open.len()
            )),
            Ok(()) => {}
        }
        Ok(())
    }
}

/// Everything that was ever found, for `bitnet doctor`.
pub fn all() -> Vec<Shares> {
    let Some(entries) = folder().and_then(|folder| fs::read_dir(folder).ok()) else { return Vec::new() };
    let mut found: Vec<Shares> = entries.filter_map(|entry| read(&entry.ok()?.path())).collect();
    found.sort_by(|a, b| a.model.cmp(&b.model));
    found
}

impl Shares {
    /// Blocks in which leaving out zeros pays.
    pub fn skipping(&self) -> usize {
        self.open.iter().filter(|&&share| share < WORTH_SKIPPING).count()
    }

    /// The smallest and the largest share.
    pub fn range(&self) -> (f32, f32) {
        self.open.iter().fold((1.0, 0.0), |(low, high), &share| (share.min(low), share.max(high)))
    }

    /// Whether every value is a share: the file may be damaged.
    fn is_sane(&self) -> bool {
        self.open.iter().all(|share| (0.0..=1.0).contains(share))
    }

    fn keep(&self, path: &Path) -> Result<()> {
        measured::keep(self, path)
    }
}

/// Shares, unless the file is missing or damaged.
fn read(path: &Path) -> Option<Shares> {
    measured::read(path).filter(Shares::is_sane)
}

fn folder() -> Option<PathBuf> {
    measured::folder("gates")
}

/// A model that has been written again is another one.
fn identity(path: &Path, bytes: u64) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let written = fs::metadata(&path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!(
        "{}, {bytes} bytes, written {}.{:09}",
        path.display(),
        written.as_secs(),
        written.subsec_nanos()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_damaged_ones_are_not_believed() {
        let folder = std::env::temp_dir().join(format!("bitnet-gates-{}", std::process::id()));
        let path = folder.join("a.json");
        let shares = Shares { model: "a model".into(), open: vec![0.25, 0.5, 0.125] };
        assert_eq!((shares.skipping(), shares.range()), (2, (0.125, 0.5)));
        shares.keep(&path).unwrap();
        assert_eq!(read(&path), Some(shares));
        let text = fs::read_to_string(&path).unwrap();
        for damaged in
            [text[..text.len() / 2].to_owned(), text.replace("0.25", "1.25"), text.replace("0.5", "-1")]
        {
            assert_ne!(damaged, text);
            fs::write(&path, damaged).unwrap();
            assert_eq!(read(&path), None);
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_model_written_again_is_another_one() {
        let path = std::env::temp_dir().join(format!("bitnet-gates-model-{}", std::process::id()));
        fs::write(&path, "a").unwrap();
        let first = identity(&path, 1).unwrap();
        assert_eq!(identity(&path, 1).unwrap(), first);
        assert_ne!(identity(&path, 2).unwrap(), first);
        let later = UNIX_EPOCH + std::time::Duration::from_secs(5);
        fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert_ne!(identity(&path, 1).unwrap(), first);
        fs::remove_file(&path).unwrap();
    }
}
