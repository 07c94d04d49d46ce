//! `bitnet bench [MODEL] [--synthetic SHAPE]`.

use bitnet_benchmarks::{BenchmarkError, Plan, Row, Shape, Subject, SubjectOptions, Watcher, run as measure};

use crate::{
    args::BenchArgs,
    failure::{Failure, Result, sentence},
    human,
    interrupt::Guard,
    load,
    progress::{Progress, Unit},
    resolve, terminal,
};

mod table;

pub fn run(args: &BenchArgs) -> Result<()> {
    let plan = plan(args);
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
    print(&rows, args)?;
    if interrupted { Err(Failure::Interrupted) } else { Ok(()) }
}

fn print(rows: &[Row], args: &BenchArgs) -> Result<()> {
    if args.json {
        return terminal::print_json(&rows);
    }
    terminal::print(&table::report(rows))
}

fn plan(args: &BenchArgs) -> Plan {
    let wide = |list: &[u16]| list.iter().map(|&n| usize::from(n)).collect::<Vec<_>>();
    let mut threads = wide(&args.threads);
    if threads.is_empty() {
        threads = vec![1, std::thread::available_parallelism().map_or(1, usize::from)];
        threads.dedup();
    }
    Plan {
        threads,
        prompt: args.prompt as usize,
        generate: args.generate as usize,
        depths: args.depth.iter().map(|&n| n as usize).collect(),
        batches: wide(&args.batch),
        repetitions: usize::from(args.repetitions),
    }
}

fn subject(args: &BenchArgs, plan: &Plan) -> Result<Subject> {
    let options = SubjectOptions {
        kernel: args.kernel.clone(),
        activations: load::choice(args.activations),
        threads: plan.threads.iter().copied().max().unwrap_or(1),
        i2s_64: args.i2s_64,
    };
    let (label, made) = match (&args.synthetic, &args.model) {
        (Some(shape), _) => ("making", Shape::named(shape).map_err(failure)?),
        (None, Some(name)) => {
            let path = resolve::model(name)?;
            let progress = Progress::new("loading", 0, Unit::Bytes);
            return Subject::open(&path, &options, &|done, total| progress.set(done, total)).map_err(failure);
        }
        (None, None) => return Err(Failure::usage("a model or --synthetic SHAPE is needed")),
    };
    let progress = Progress::new(label, 0, Unit::Bytes);
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
