//! A quantization job as a TOML file, every value of which is explained where it stands.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    args::{QuantizeArgs, bits, group, size},
    failure::{Failure, Result},
    files::{self, Draft},
    terminal,
};

/// The job that `--init` writes, with a word on each key.
const TEMPLATE: &str = include_str!("job.toml");

/// The keys of a job file that take the place of options.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    model: String,
    output: PathBuf,
    method: Method,
    budget: Budget,
    text: Text,
    run: Run,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Method {
    name: String,
    group: String,
    tables: String,
    damping: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    size: String,
    bits_per_weight: f64,
    sensitivity: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    calibration: PathBuf,
    held_out: PathBuf,
    window: u32,
    tokens: u32,
    held_out_tokens: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    threads: u16,
}

/// Writes a job with every value's default and meaning.
pub fn init(path: &Path) -> Result<()> {
    let mut draft = Draft::of_output(path, false)?;
    draft.write(TEMPLATE.as_bytes())?;
    draft.publish()?;
    terminal::print_line(format_args!("{} is written: name your model in it", path.display()))
}

/// The arguments, with the values of the job at `path` where nothing was given.
pub fn filled(mut args: QuantizeArgs, path: &Path) -> Result<QuantizeArgs> {
    let text = files::read_text(path)?;
    let wrong = |what: String| Failure::new(format_args!("{}: {what}", path.display()));
    let job: Job = toml::from_str(&text).map_err(|e| wrong(e.to_string().trim().replace('\n', " ")))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let named = |path: &Path| (!path.as_os_str().is_empty()).then(|| folder.join(path));
    if args.model.name().is_none() && !job.model.is_empty() {
        let beside = folder.join(&job.model);
        let found = fs::exists(&beside).unwrap_or(false);
        args.model.word = Some(if found { beside.into() } else { job.model.clone().into() });
    }
    args.output = args.output.or_else(|| named(&job.output));
    args.calibration = args.calibration.or_else(|| named(&job.text.calibration));
    args.held_out = args.held_out.or_else(|| named(&job.text.held_out));
    args.method = args.method.or(Some(job.method.name)).filter(|name| !name.is_empty());
    if args.group.is_none() {
        let found = group(&job.method.group).map_err(|e| wrong(format!("method.group takes {e}")))?;
        args.group = Some(found);
    }
    if !["keep", "int8", "int4"].contains(&job.method.tables.as_str()) {
        return Err(wrong("method.tables takes keep, int8 or int4".into()));
    }
    args.tables.get_or_insert(job.method.tables);
    args.damping = args.damping.or(Some(job.method.damping).filter(|&x| x != 0.0));
    let budget = job.budget;
    if !budget.size.is_empty() && budget.bits_per_weight != 0.0 {
        return Err(wrong("budget.size and budget.bits_per_weight are two budgets".into()));
    }
    if args.budget.is_none() && args.bits_per_weight.is_none() {
        if !budget.size.is_empty() {
            args.budget = Some(size(&budget.size).map_err(|e| wrong(format!("budget.size takes {e}")))?);
        }
        args.bits_per_weight = match budget.bits_per_weight {
            0.0 => None,
            x => Some(bits(&x.to_string()).map_err(|e| wrong(format!("budget.bits_per_weight: {e}")))?),
        };
    }
    args.sensitivity |= budget.sensitivity;
    if job.text.window < 2 || job.text.tokens == 0 || job.text.held_out_tokens == 0 {
        return Err(wrong(
            "text.window is 2 or more, text.tokens and text.held_out_tokens are 1 or more".into(),
        ));
    }
    args.window.get_or_insert(job.text.window);
    args.tokens.get_or_insert(job.text.tokens);
    args.held_out_tokens.get_or_insert(job.text.held_out_tokens);
    args.threads = args.threads.or(Some(job.run.threads)).filter(|&n| n > 0);
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_job() {
        let job: Job = toml::from_str(TEMPLATE).unwrap();
        assert_eq!((job.text.window, job.run.threads, job.method.damping), (256, 0, 0.0));
        let unknown = TEMPLATE.replace("tables = ", "tabels = ");
        assert!(toml::from_str::<Job>(&unknown).unwrap_err().to_string().contains("tabels"));
    }
}
