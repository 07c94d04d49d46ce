//! From measurements to a row.

use bitnet_core::Purpose;
use bitnet_model::Projection;

use crate::{
    BenchmarkPlan, Bytes, Limits, Loaded, Row, RowMemory, Setting, Summary, Test, cpu_name, fair_share,
    huge_pages,
    measure::{Bench, CHUNK, HeadUse, Measured, Sample},
    median,
    plan::Case,
};

/// Reached and possible, in the unit of the tighter limit.
struct Bound {
    by_bytes: bool,
    rate: f64,
    limit: f64,
    of_limit: f64,
}

impl Bench<'_> {
    pub(crate) fn row(&self, plan: &BenchmarkPlan, case: Case, measured: Measured, peak: Option<u64>) -> Row {
        let bytes = self.bytes(plan, case, measured.head);
        let (bytes_per_token, ops_per_token) = (bytes.total(), self.operations(case.test));
        let limits = limits(&measured.samples, bytes_per_token, ops_per_token);
        let bound = bound(&measured.samples, &limits, bytes_per_token, ops_per_token);
        let speeds: Vec<f64> = measured.samples.iter().map(|s| s.tokens_per_s).collect();
        let summary = Summary::of(&speeds);
        let mut notes = Vec::new();
        if bound.of_limit > 1.0 {
            notes.push(format!(
                "unreliable: the work reached {:.1} % of the limit measured around it, so that limit was too low",
                100.0 * bound.of_limit
            ));
        }
        if measured.head.screened > 0.0 && case.test == Test::Generation {
            notes.push(format!(
                "the head (the last matrix) was screened for {:.1} % of the tokens: a small copy of it left {:.1} of its {} rows to be \
                 read; {:.2} % of the tokens needed all rows after all",
                100.0 * measured.head.screened,
                measured.head.rescored / measured.head.screened,
                self.subject.model().config().vocab,
                100.0 * measured.head.full_after
            ));
        }
        if self.subject.model().skipping_blocks() > 0 {
            notes.push("zeros are left out, so fewer bytes are read than are counted here".to_owned());
        }
        Row {
            test: case.test,
            threads: case.threads,
            depth: case.depth,
            batch: case.batch,
            tokens: case.tokens(plan),
            tokens_per_s: summary.median,
            repetitions: speeds.len(),
            load: measured.loaded.map(|speed| loaded(speed, summary.median, case, plan)),
            samples: speeds,
            summary,
            bytes_per_token,
            ops_per_token,
            rate: bound.rate,
            // Nothing is faster than its limit: the work itself has shown a higher one.
            limit: if bound.of_limit > 1.0 { bound.limit.max(bound.rate) } else { bound.limit },
            limit_unit: if bound.by_bytes { "bytes/s" } else { "operations/s" }.to_owned(),
            of_limit: bound.of_limit.min(1.0),
            limits,
            reliable: bound.of_limit <= 1.0,
            notes,
            checksum: format!("{:016x}", measured.checksum),
            bytes,
            memory: self.memory(case, plan, peak),
            joules_per_token: measured.joules_per_token,
            breakdown: measured.breakdown,
            empty_step_s: measured.empty_step_s,
            setting: self.setting(),
        }
    }

    /// Bytes that a token reads, on average.
    fn bytes(&self, plan: &BenchmarkPlan, case: Case, used: HeadUse) -> Bytes {
        let traffic = self.subject.model().traffic();
        let row = traffic.head as f64 / self.subject.model().config().vocab as f64;
        let each = case.batch as f64;
        let (shared, head, seen) = match case.test {
            Test::Generation => {
                let passes = used.screened * traffic.screen as f64
                    + (1.0 - used.screened + used.full_after) * traffic.head as f64;
                let head = passes / each + used.rescored * row;
                (each, head, case.depth as f64 + (plan.generate as f64 + 1.0) / 2.0)
            }
            // How often a pass over a prompt reads keys and values is the kernel's affair.
            Test::Prompt => {
                (CHUNK.min(case.tokens(plan)) as f64, traffic.head as f64 / case.tokens(plan) as f64, 0.0)
            }
        };
        Bytes {
            ternary: traffic.ternary as f64 / shared,
            dense: traffic.dense as f64 / shared,
            head,
            kv: seen * self.kv_bytes() as f64,
        }
    }

    fn operations(&self, test: Test) -> f64 {
        let config = self.subject.model().config();
        let matrices = (0..config.layers).flat_map(|layer| Projection::of(config, layer));
        let blocks: usize = matrices.map(|p| p.shape(config).iter().product::<usize>()).sum();
        let head = if test == Test::Generation { config.vocab * config.hidden } else { 0 };
        2.0 * (blocks + head) as f64
    }

    fn memory(&self, case: Case, plan: &BenchmarkPlan, peak: Option<u64>) -> RowMemory {
        let usage = |purpose| self.subject.pool.usage(purpose).current as u64;
        let positions = |each: usize, sequences: usize| (each * sequences * self.kv_bytes()) as u64;
        let weights = usage(Purpose::Weights);
        // At the time of the peak, sequences were filled to the greatest depth and not beyond.
        let filled = positions(plan.depths.iter().copied().max().unwrap_or(0), self.sequences.len());
        let model = weights.max(self.subject.file_bytes);
        let above = peak.map(|peak| peak.saturating_sub(model + filled) as f64 / model.max(1) as f64);
        RowMemory {
            weights,
            file: self.subject.file_bytes,
            kv: usage(Purpose::KvCache),
            kv_used: positions(case.depth + case.tokens(plan) / case.batch, case.batch),
            state: usage(Purpose::State),
            peak,
            above,
        }
    }

    fn setting(&self) -> Setting {
        let (mode, huge_page_bytes) = huge_pages();
        Setting {
            model: self.subject.name().to_owned(),
            synthetic: self.subject.is_synthetic(),
            kernel: self.subject.kernel().name().to_owned(),
            cpu: cpu_name(),
            huge_pages: mode.unwrap_or_else(|| "unknown".to_owned()),
            huge_page_bytes,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

fn limits(samples: &[Sample], bytes_per_token: f64, ops_per_token: f64) -> Limits {
    let of = |value: fn(&Sample) -> f64| median(&samples.iter().map(value).collect::<Vec<_>>());
    let (bytes_per_s, ops_per_s) = (of(|s| s.bytes_per_s), of(|s| s.ops_per_s));
    Limits {
        bytes_per_s,
        ops_per_s,
        tokens_per_s_by_bytes: bytes_per_s / bytes_per_token,
        tokens_per_s_by_ops: ops_per_s / ops_per_token,
    }
}

/// The limit that allows fewer tokens, and the part of it that was reached.
fn bound(samples: &[Sample], limits: &Limits, bytes_per_token: f64, ops_per_token: f64) -> Bound {
    let by_bytes = limits.tokens_per_s_by_bytes < limits.tokens_per_s_by_ops;
    let per_token = if by_bytes { bytes_per_token } else { ops_per_token };
    let part = |s: &Sample| s.tokens_per_s * per_token / if by_bytes { s.bytes_per_s } else { s.ops_per_s };
    let speeds: Vec<f64> = samples.iter().map(|s| s.tokens_per_s).collect();
    Bound {
        by_bytes,
        rate: median(&speeds) * per_token,
        limit: if by_bytes { limits.bytes_per_s } else { limits.ops_per_s },
        of_limit: median(&samples.iter().map(part).collect::<Vec<_>>()),
    }
}

fn loaded(tokens_per_s: f64, alone: f64, case: Case, plan: &BenchmarkPlan) -> Loaded {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let fair_share = alone * fair_share(case.threads, plan.load, cores);
    Loaded { busy: plan.load, tokens_per_s, fair_share, of_fair_share: tokens_per_s / fair_share }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(tokens_per_s: f64) -> Sample {
        Sample { tokens_per_s, bytes_per_s: 100.0, ops_per_s: 1000.0 }
    }

    #[test]
    fn the_tighter_limit_counts() {
        // 10 bytes a token allow 10 tokens/s, 50 operations 20: memory is tighter.
        let samples = [sample(8.0), sample(9.0), sample(7.0)];
        let limits = limits(&samples, 10.0, 50.0);
        assert_eq!((limits.tokens_per_s_by_bytes, limits.tokens_per_s_by_ops), (10.0, 20.0));
        let by_memory = bound(&samples, &limits, 10.0, 50.0);
        assert_eq!((by_memory.by_bytes, by_memory.rate, by_memory.limit), (true, 80.0, 100.0));
        assert!((by_memory.of_limit - 0.8).abs() < 1e-12);
        // With 4 bytes a token, memory allows 25.
        let limits = super::limits(&samples, 4.0, 50.0);
        let by_multiplier = bound(&samples, &limits, 4.0, 50.0);
        assert_eq!((by_multiplier.by_bytes, by_multiplier.limit), (false, 1000.0));
        assert!((by_multiplier.of_limit - 0.4).abs() < 1e-12);
    }
}
