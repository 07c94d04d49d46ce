//! `bitnet bench [MODEL] [--synthetic SHAPE]`.

use std::path::Path;

use bitnet_benchmarks::{
    BenchmarkError, BenchmarkPlan, ModelShape, Row, Subject, SubjectOptions, Verdict, Watcher, compare,
    run as measure, svg, write_gguf,
};

use bitnet_core::ThreadPool;
use bitnet_inference::{HeadChoice, Sparsity};

use crate::{
    args::{BenchArgs, Head},
    boxed,
    failure::{Failure, Result, sentence},
    files::{self, Draft},
    human,
    interrupt::Guard,
    load, machine,
    progress::{ProgressMeter, Unit},
    terminal,
};

mod table;

pub fn run(args: &BenchArgs) -> Result<()> {
    if args.kernels {
        return kernels(args);
    }
    if let (Some(path), Some(shape)) = (&args.write, &args.synthetic) {
        files::check_output_file(path, args.force)?;
        files::warn_of_ending(path, "gguf", "a GGUF file");
        return write(path, shape);
    }
    if let Some(path) = &args.plot {
        files::check_output(path, args.force)?;
        files::warn_of_ending(path, "svg", "an SVG picture");
    }
    let plan = plan(args);
    // Before minutes of measuring: there may be nothing to compare with.
    let old = args.compare.as_deref().map(read_rows).transpose()?;
    let mut subject = subject(args, &plan)?;
    terminal::note(format_args!(
        "{}: ready after {}, kernel {}",
        subject.name(),
        human::seconds(subject.load_seconds()),
        subject.kernel().name()
    ));
    let live = Live { guard: Guard::new() };
    let mut rows = Vec::new();
    let done = measure(&mut subject, &plan, &live, |row| {
        terminal::note(format_args!("  {}", table::line(row)));
        rows.push(row.clone());
    });
    let interrupted = match done {
        Ok(ordered) => {
            rows = ordered;
            false
        }
        Err(BenchmarkError::Stopped) => true,
        Err(error) => return Err(failure(error)),
    };
    drop(live);
    if rows.is_empty() && interrupted {
        return Err(Failure::Interrupted);
    }
    if args.json {
        terminal::print_json(&rows)?;
    } else {
        terminal::print(&table::report(&rows))?;
    }
    if let Some(path) = &args.plot {
        let mut draft = Draft::of_output(path, args.force)?;
        draft.write(svg(&rows).as_bytes())?;
        draft.publish()?;
    }
    match old {
        _ if interrupted => Err(Failure::Interrupted),
        Some(old) => judge(&old, &rows, args),
        None => Ok(()),
    }
}

/// Vector kernels against the reference.
fn kernels(args: &BenchArgs) -> Result<()> {
    let live = Live { guard: Guard::new() };
    let rows = bitnet_benchmarks::kernels(&live).map_err(failure)?;
    if args.json { terminal::print_json(&rows) } else { terminal::print(&table::kernels(&rows)) }
}

/// A synthetic model for other engines.
fn write(path: &Path, shape: &str) -> Result<()> {
    struct Quiet(Guard, ProgressMeter);
    impl Watcher for Quiet {
        fn begins(&self, _: &str, done: usize, total: usize) {
            self.1.set(done as u64, total as u64);
        }

        fn stopped(&self) -> bool {
            self.0.pressed()
        }
    }
    let shape = ModelShape::named(shape).map_err(failure)?;
    let threads = ThreadPool::new(std::thread::available_parallelism().map_or(1, usize::from));
    let watcher = Quiet(Guard::new(), ProgressMeter::new("writing", 0, Unit::Items));
    let bytes = write_gguf(shape, path, &threads, &watcher).map_err(failure)?;
    drop(watcher);
    terminal::note(format_args!("{}: {}", path.display(), human::bytes(bytes)));
    Ok(())
}

/// The rows that an earlier run wrote.
fn read_rows(path: &Path) -> Result<Vec<Row>> {
    let wrong = |e: serde_json::Error| {
        Failure::new(format_args!("{} holds no rows of a benchmark: {e}", path.display()))
            .cure("write it with `bitnet bench ... --json > FILE`")
    };
    serde_json::from_str(&files::read_text(path)?).map_err(wrong)
}

/// Says what has changed; regressions are a failure.
fn judge(old: &[Row], rows: &[Row], args: &BenchArgs) -> Result<()> {
    let changes = compare(old, rows);
    let text = table::changes(&changes);
    // With --json, standard output holds the rows and nothing else.
    if args.json {
        terminal::note(format_args!("{text}"))
    } else {
        terminal::print(&format!("\n{text}"))?
    }
    match changes.iter().filter(|c| c.verdict == Verdict::Regression).count() {
        0 => Ok(()),
        n => Err(Failure::new(format_args!("{n} of {} rows are slower beyond noise", changes.len()))
            .cure("measure again on a quiet machine")),
    }
}

fn plan(args: &BenchArgs) -> BenchmarkPlan {
    let wide = |list: &[u16]| list.iter().map(|&n| usize::from(n)).collect::<Vec<_>>();
    let mut threads: Vec<_> = args.threads.iter().map(|&n| machine::threads(n)).collect();
    if threads.is_empty() {
        threads = vec![1, std::thread::available_parallelism().map_or(1, usize::from)];
    }
    threads.dedup();
    BenchmarkPlan {
        threads,
        prompt: args.prompt as usize,
        generate: args.generate as usize,
        depths: args.depth.iter().map(|&n| n as usize).collect(),
        batches: wide(&args.batch),
        repetitions: usize::from(args.repetitions),
        breakdown: !args.no_breakdown,
        load: match args.load {
            None => 0,
            Some(0) => std::thread::available_parallelism().map_or(1, usize::from),
            Some(n) => machine::threads(n),
        },
    }
}

fn subject(args: &BenchArgs, plan: &BenchmarkPlan) -> Result<Subject> {
    let options = SubjectOptions {
        kernel: args.kernel.clone(),
        activations: load::choice(args.activations),
        layout: load::layout(args.layout),
        head: match args.head {
            Head::Auto => HeadChoice::Auto,
            Head::Full => HeadChoice::Full,
            Head::Screened => HeadChoice::Screened,
        },
        sparsity: if args.sparsity { Sparsity::On } else { Sparsity::Auto },
        kv: load::kv_type(args.kv),
        threads: plan.threads.iter().copied().max().unwrap_or(1),
        i2s_64: args.i2s_64,
    };
    let (label, made) = match (&args.synthetic, args.model.name()) {
        (Some(shape), _) => ("making", ModelShape::named(shape).map_err(failure)?),
        (None, Some(name)) => {
            let source = load::source(name, options.i2s_64)?;
            let progress = ProgressMeter::new("loading", 0, Unit::Bytes);
            let mut subject =
                Subject::from_source(source, &options, &|done, total| progress.set(done, total))
                    .map_err(failure)?;
            if name.text() == Some(boxed::NAME) {
                subject.rename(boxed::NAME);
            }
            return Ok(subject);
        }
        (None, None) => return Err(Failure::usage("a model or --synthetic SHAPE is needed")),
    };
    let progress = ProgressMeter::new(label, 0, Unit::Bytes);
    Subject::synthetic(made, &options, &|done, total| progress.set(done, total)).map_err(failure)
}

fn failure(error: BenchmarkError) -> Failure {
    let told = Failure::new(sentence(&error));
    match error {
        BenchmarkError::Kernel(_) => told.cure(
            "`bitnet doctor` lists the kernels of this machine; or leave --kernel and BITNET_KERNEL out",
        ),
        BenchmarkError::Checksum { .. } | BenchmarkError::NotFinite { .. } => {
            told.cure("`bitnet doctor` tests the kernels of this machine")
        }
        BenchmarkError::Stopped => Failure::Interrupted,
        _ => told,
    }
}

/// Says what is being measured, and hears Ctrl-C.
struct Live {
    guard: Guard,
}

impl Watcher for Live {
    fn begins(&self, what: &str, done: usize, total: usize) {
        terminal::note(format_args!("[{}/{total}] {what}", (done + 1).min(total)));
    }

    fn stopped(&self) -> bool {
        self.guard.pressed()
    }
}
