//! Every combination of a plan.

use std::collections::BTreeMap;

use crate::{
    BenchmarkError, BenchmarkPlan, Process, Row, Subject, Test, Watcher, Yardsticks, measure::Bench,
    plan::Case,
};

/// Measures everything in `plan`. Rows are ordered by test, batch, depth and threads.
///
/// # Errors
/// When memory is short, a result is wrong, or `watcher` stops the run; `done` has seen the rows until then.
pub fn run(
    subject: &mut Subject,
    plan: &BenchmarkPlan,
    watcher: &dyn Watcher,
    mut done: impl FnMut(&Row),
) -> Result<Vec<Row>, BenchmarkError> {
    let cases = cases(plan)?;
    watcher.begins("preparing", 0, cases.len());
    let most = cases.iter().map(|c| c.threads).max().unwrap_or(1);
    let mut team = subject.with_threads(most)?;
    let mut bench = Bench::new(subject, plan, watcher)?;
    let peak = Process::now().peak;
    let yardsticks = Yardsticks::new(bench.subject.kernel(), bench.bytes_of_a_token())?;
    let mut checksums = BTreeMap::new();
    let mut rows = Vec::with_capacity(cases.len());
    for (number, &case) in cases.iter().enumerate() {
        watcher.begins(&case.to_string(), number, cases.len());
        if team.threads() != case.threads {
            team = bench.subject.with_threads(case.threads)?;
        }
        let measured = bench.measure(plan, case, &yardsticks, &team)?;
        let same = *checksums.entry((case.test, case.depth, case.batch)).or_insert(measured.checksum);
        if same != measured.checksum {
            return Err(case.mismatch(same, measured.checksum));
        }
        let row = bench.row(plan, case, measured, peak);
        done(&row);
        rows.push(row);
    }
    rows.sort_by_key(|r| (r.test, r.batch, r.depth, r.threads));
    Ok(rows)
}

/// Deep ones first: what they hold is then overwritten by shallower ones.
fn cases(plan: &BenchmarkPlan) -> Result<Vec<Case>, BenchmarkError> {
    let lists = [
        (&plan.threads, "number of threads"),
        (&plan.depths, "depth"),
        (&plan.batches, "number of sequences"),
    ];
    if let Some(&(_, what)) = lists.iter().find(|(list, _)| list.is_empty()) {
        return Err(BenchmarkError::Empty { what });
    }
    if plan.prompt + plan.generate == 0 {
        return Err(BenchmarkError::Empty { what: "prompt and no generation" });
    }
    let mut depths = plan.depths.clone();
    depths.sort_unstable_by(|a, b| b.cmp(a));
    depths.dedup();
    let mut cases = Vec::new();
    for depth in depths {
        for &batch in &plan.batches {
            for (test, tokens) in [(Test::Prompt, plan.prompt), (Test::Generation, plan.generate)] {
                let threads = if tokens == 0 { &[][..] } else { &plan.threads[..] };
                cases.extend(threads.iter().map(|&threads| Case {
                    test,
                    threads,
                    depth,
                    batch: batch.max(1),
                }));
            }
        }
    }
    Ok(cases)
}
