//! Whole runs of tiny models.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::{cell::Cell, collections::BTreeMap, path::Path};

use bitnet_benchmarks::{
    BenchmarkError, BenchmarkPlan, ModelShape, Row, Subject, SubjectOptions, Test, Watcher, compare, run,
    write_gguf,
};
use bitnet_core::ThreadPool;

struct Nobody;

impl Watcher for Nobody {
    fn begins(&self, _: &str, _: usize, _: usize) {}
}

fn plan() -> BenchmarkPlan {
    BenchmarkPlan {
        threads: vec![1, 2],
        prompt: 40,
        generate: 5,
        depths: vec![0, 300],
        batches: vec![1, 3],
        repetitions: 3,
        breakdown: true,
        load: 0,
    }
}

fn tiny() -> Subject {
    let options = SubjectOptions { threads: 2, ..SubjectOptions::default() };
    Subject::synthetic(ModelShape::named("tiny").unwrap(), &options, &|_, _| {}).unwrap()
}

fn key(row: &Row) -> (Test, usize, usize) {
    (row.test, row.depth, row.batch)
}

#[test]
fn every_combination_is_a_row_that_can_be_trusted_or_says_why_not() {
    let mut seen = 0;
    let rows = run(&mut tiny(), &plan(), &Nobody, |_| seen += 1).unwrap();
    assert_eq!((rows.len(), seen), (16, 16));
    let mut checksums = BTreeMap::new();
    for row in &rows {
        assert!(
            row.tokens_per_s > 0.0
                && row.summary.min <= row.tokens_per_s
                && row.tokens_per_s <= row.summary.max
        );
        assert!(row.bytes_per_token > 0.0 && row.ops_per_token > 0.0 && row.limit > 0.0);
        assert!((0.0..=1.0).contains(&row.of_limit) && row.rate <= row.limit * (1.0 + 1e-9), "{row:?}");
        assert!(row.reliable || row.notes.iter().any(|n| n.starts_with("unreliable")), "{row:?}");
        assert_eq!(row.samples.len(), 3);
        let parts: f64 = row.breakdown.iter().map(|s| s.part).sum();
        assert!((parts - 1.0).abs() < 1e-6, "{parts}");
        let same = checksums.entry(key(row)).or_insert(&row.checksum);
        assert_eq!(*same, &row.checksum, "threads change nothing");
    }
    let distinct: std::collections::BTreeSet<_> = checksums.values().collect();
    assert_eq!((checksums.len(), distinct.len()), (8, 8), "depth, batch and test do");
}

#[test]
fn the_bytes_of_a_token_are_those_of_the_model() {
    let mut plan = plan();
    (plan.threads, plan.prompt, plan.depths) = (vec![1], 0, vec![300]);
    let rows = run(&mut tiny(), &plan, &Nobody, |_| {}).unwrap();
    let config = ModelShape::named("tiny").unwrap().config();
    let trits: usize =
        bitnet_model::Projection::PLAIN.iter().map(|p| p.shape(&config).iter().product::<usize>()).sum();
    let head = config.vocab * config.hidden;
    for row in rows {
        let batch = row.batch as f64;
        assert_eq!(row.bytes.ternary, (trits * config.layers / 4) as f64 / batch);
        assert_eq!(row.bytes.head, (2 * head) as f64 / batch);
        assert_eq!(row.ops_per_token, 2.0 * (trits * config.layers + head) as f64);
        assert_eq!(row.bytes_per_token, row.bytes.ternary + row.bytes.head + row.bytes.kv);
        // The five tokens see 301 to 305 positions, of which every block keeps a key and a value in f16.
        assert_eq!(row.bytes.kv, (303 * config.layers * 2 * config.kv_width() * 2) as f64);
        // Where the time goes is told of a pass, which reads them for every sequence.
        let attention = row.breakdown.iter().find(|share| share.operation == "attention").unwrap();
        assert_eq!(attention.bytes, row.bytes.kv * batch);
        assert!(row.memory.peak.is_none_or(|peak| peak > row.memory.weights));
    }
}

#[test]
fn rows_survive_json_and_compare_with_themselves() {
    let mut plan = plan();
    (plan.depths, plan.batches) = (vec![0], vec![1]);
    let rows = run(&mut tiny(), &plan, &Nobody, |_| {}).unwrap();
    let text = serde_json::to_string(&rows).unwrap();
    let back: Vec<Row> = serde_json::from_str(&text).unwrap();
    // Floats may lose their last bit on the way.
    for (old, new) in back.iter().zip(&rows) {
        assert_eq!((key(old), old.threads, &old.checksum), (key(new), new.threads, &new.checksum));
        assert_eq!((&old.setting, old.breakdown.len()), (&new.setting, new.breakdown.len()));
        assert!((old.summary.median / new.summary.median - 1.0).abs() < 1e-9);
    }
    assert!(compare(&back, &rows).iter().all(|c| c.speed.abs() < 1e-9), "nothing has changed");
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    for name in [
        "test",
        "threads",
        "depth",
        "batch",
        "tokens_per_s",
        "bytes_per_token",
        "ops_per_token",
        "limit",
        "of_limit",
        "kernel",
        "median",
        "spread",
        "limit_unit",
    ] {
        assert!(object[0].get(name).is_some(), "{name}");
    }
}

#[test]
fn a_watcher_can_stop_it() {
    struct Impatient(Cell<usize>);
    impl Watcher for Impatient {
        fn begins(&self, _: &str, _: usize, _: usize) {}
        fn stopped(&self) -> bool {
            self.0.set(self.0.get() + 1);
            self.0.get() > 40
        }
    }
    let mut seen = 0;
    let stopped = run(&mut tiny(), &plan(), &Impatient(Cell::new(0)), |_| seen += 1);
    assert!(matches!(stopped, Err(BenchmarkError::Stopped)) && (1..16).contains(&seen), "{seen} rows");
}

#[test]
fn a_plan_without_work_is_refused() {
    for empty in [
        BenchmarkPlan { threads: Vec::new(), ..plan() },
        BenchmarkPlan { depths: Vec::new(), ..plan() },
        BenchmarkPlan { batches: Vec::new(), ..plan() },
        BenchmarkPlan { prompt: 0, generate: 0, ..plan() },
    ] {
        assert!(matches!(run(&mut tiny(), &empty, &Nobody, |_| {}), Err(BenchmarkError::Empty { .. })));
    }
}

#[test]
fn a_written_model_runs_and_a_load_is_compared_with_a_fair_share() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.gguf");
    let bytes = write_gguf(ModelShape::named("tiny").unwrap(), &path, &ThreadPool::new(2), &Nobody).unwrap();
    assert_eq!(bytes, std::fs::metadata(&path).unwrap().len());
    let options = SubjectOptions { threads: 1, ..SubjectOptions::default() };
    let mut subject = Subject::open(Path::new(&path), &options, &|_, _| {}).unwrap();
    let plan = BenchmarkPlan { threads: vec![1], depths: vec![0], batches: vec![1], load: 1, ..plan() };
    let rows = run(&mut subject, &plan, &Nobody, |_| {}).unwrap();
    for row in &rows {
        let load = row.load.unwrap();
        assert!(load.busy == 1 && load.tokens_per_s > 0.0 && load.of_fair_share > 0.0);
        assert!(!row.setting.synthetic && row.memory.file == bytes);
    }
}
