//! Float and ternary twins, pair by pair, and the table of what rounding costs.

use std::{f64::consts::LN_2, path::PathBuf, time::Instant};

use bitnet_kernels::Kernel;
use bitnet_training::{
    StepReport, TEMPLATE, TrainError, TrainingJob, on_threads,
    twins::{Kin, Pair, SETTINGS, Spread, pair, tokens_per_character},
};
use serde::Serialize;

use crate::{
    args::TwinsArgs,
    failure::{Failure, Result, sentence},
    human::TextTable,
    interrupt::Guard,
    load, terminal,
};

#[derive(Serialize)]
struct Told {
    text: Vec<PathBuf>,
    steps: u64,
    tokens: u64,
    pairs: Vec<Row>,
    rates: Vec<Summary>,
}

#[derive(Serialize)]
struct Row {
    rate: f64,
    seed: u64,
    float: f64,
    ternary: f64,
    gap: f64,
    zeros: f64,
    fingerprints: [String; 2],
}

/// Means and spreads over all pairs of one learning rate.
#[derive(Serialize)]
struct Summary {
    rate: f64,
    float: Spread,
    ternary: Spread,
    gap: Spread,
    zeros: Spread,
    /// Perplexity of the ternary over that of the float, at the mean gap.
    perplexity_ratio: f64,
    float_bits_per_character: f64,
    ternary_bits_per_character: f64,
}

impl Row {
    fn new(rate: f64, pair: &Pair) -> Self {
        Self {
            rate,
            seed: pair.seed,
            float: pair.float.validation,
            ternary: pair.ternary.validation,
            gap: pair.gap(),
            zeros: pair.ternary.trits.zeros,
            // As text: numbers of JSON lose the last bits in many readers.
            fingerprints: [pair.float, pair.ternary].map(|twin| format!("{:016x}", twin.fingerprint)),
        }
    }
}

impl Summary {
    fn new(rate: f64, pairs: &[Pair], tokens_per_character: f64) -> Self {
        let spread = |of: fn(&Pair) -> f64| Spread::of(pairs.iter().map(of));
        let (float, ternary) = (spread(|p| p.float.validation), spread(|p| p.ternary.validation));
        let gap = spread(Pair::gap);
        let bits = |loss: &Spread| loss.mean * tokens_per_character / LN_2;
        Self {
            rate,
            perplexity_ratio: gap.mean.exp(),
            float_bits_per_character: bits(&float),
            ternary_bits_per_character: bits(&ternary),
            float,
            ternary,
            gap,
            zeros: spread(|p| p.ternary.trits.zeros),
        }
    }
}

pub fn run(args: &TwinsArgs) -> Result<()> {
    let jobs = match args.rates.as_slice() {
        [] => vec![job(args, None)?],
        rates => rates.iter().map(|&rate| job(args, Some(rate))).collect::<Result<_>>()?,
    };
    let kernel = bitnet_kernels::select(None).map_err(|e| load::failure(e.into()))?;
    let work = || {
        let guard = Guard::new();
        let mut pairs = Vec::new();
        for job in &jobs {
            for seed in 1..=args.seeds {
                pairs.push((job.optimizer.learning_rate, trained(job, seed, kernel, &guard)?));
            }
        }
        tell(args, &jobs[0], kernel, &pairs)
    };
    on_threads(args.threads.map_or(0, usize::from), work).map_err(failure)?
}

/// The job of both twins with one learning rate.
fn job(args: &TwinsArgs, rate: Option<f64>) -> Result<TrainingJob> {
    let own = [
        format!("data.files={:?}", args.text),
        format!("training.steps={}", args.steps),
        format!("optimizer.warmup={}", args.steps / 20),
    ];
    let mut settings: Vec<String> = SETTINGS.iter().map(|&s| s.to_owned()).chain(own).collect();
    settings.extend(args.settings.iter().cloned());
    settings.extend(rate.map(|rate| format!("optimizer.learning_rate={rate:?}")));
    TrainingJob::read(TEMPLATE, &settings).map_err(|e| Failure::usage(sentence(&e)))
}

fn trained(job: &TrainingJob, seed: u64, kernel: &'static Kernel, guard: &Guard) -> Result<Pair> {
    let (mut begin, every) = (Instant::now(), job.run.report_every);
    let tell = |kin: Kin, report: &StepReport| {
        if report.step.is_multiple_of(every) {
            let speed = report.tokens as f64 * every as f64 / begin.elapsed().as_secs_f64();
            begin = Instant::now();
            let name = if kin == Kin::Float { "float" } else { "ternary" };
            terminal::note(format_args!(
                "seed {seed}, {name}: step {}/{}  loss {:.4}  {speed:.0} tokens/s",
                report.step, job.training.steps, report.loss,
            ));
        }
        !guard.pressed()
    };
    pair(job, seed, kernel, tell).map_err(failure)?.ok_or(Failure::Interrupted)
}

fn tell(args: &TwinsArgs, job: &TrainingJob, kernel: &'static Kernel, pairs: &[(f64, Pair)]) -> Result<()> {
    let per_character = tokens_per_character(job, kernel).map_err(failure)?;
    let mut rates: Vec<f64> = pairs.iter().map(|(rate, _)| *rate).collect();
    rates.dedup();
    let summaries: Vec<Summary> = rates
        .iter()
        .map(|rate| {
            let of: Vec<Pair> = pairs.iter().filter(|(r, _)| r == rate).map(|(_, p)| *p).collect();
            Summary::new(*rate, &of, per_character)
        })
        .collect();
    if args.json {
        let t = &job.training;
        return terminal::print_json(&Told {
            text: args.text.clone(),
            steps: t.steps,
            tokens: t.steps * (t.batch * t.accumulate * t.positions) as u64,
            pairs: pairs.iter().map(|(rate, pair)| Row::new(*rate, pair)).collect(),
            rates: summaries,
        });
    }
    let mut table = TextTable::new(&["rate", "seed", "float", "ternary", "gap", "zeros %"]);
    for (rate, pair) in pairs {
        let cells = [pair.float.validation, pair.ternary.validation, pair.gap()].map(|x| format!("{x:.4}"));
        let [float, ternary, gap] = cells;
        let zeros = format!("{:.1}", 100.0 * pair.ternary.trits.zeros);
        table.row(vec![format!("{rate:e}"), pair.seed.to_string(), float, ternary, gap, zeros]);
    }
    let mut text = table.text();
    for s in &summaries {
        text += &format!(
            "\nrate {:e}: float {:.4} +- {:.4}, ternary {:.4} +- {:.4} nats per token\n\
             gap {:+.4} +- {:.4} (perplexity {:+.1} %), zeros {:.1} %, bits per character {:.3} and {:.3}\n",
            s.rate,
            s.float.mean,
            s.float.deviation,
            s.ternary.mean,
            s.ternary.deviation,
            s.gap.mean,
            s.gap.deviation,
            100.0 * (s.perplexity_ratio - 1.0),
            100.0 * s.zeros.mean,
            s.float_bits_per_character,
            s.ternary_bits_per_character,
        );
    }
    terminal::print(&text)
}

fn failure(error: TrainError) -> Failure {
    Failure::new(sentence(&error))
}
