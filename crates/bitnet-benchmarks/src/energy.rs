//! Energy that the machine says it has used (Linux powercap: RAPL and its kin).

use std::{fs, path::PathBuf};

/// The energy counter of one processor package, in microjoules.
struct Counter {
    path: PathBuf,
    start: u64,
    /// The value at which the counter begins again at 0.
    range: u64,
}

/// Counters of all packages, since they were read first.
pub(crate) struct Meter(Vec<Counter>);

fn number(path: PathBuf) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl Meter {
    /// Reads the counters; `None` where there are none or they may not be read.
    pub(crate) fn start() -> Option<Self> {
        let entries = fs::read_dir("/sys/class/powercap").ok()?;
        let counters: Vec<_> = entries
            .flatten()
            // "intel-rapl:0" is a package, "intel-rapl:0:1" a part of it.
            .filter(|entry| entry.file_name().to_string_lossy().matches(':').count() == 1)
            .filter_map(|entry| {
                let path = entry.path();
                let range = number(path.join("max_energy_range_uj")).unwrap_or(0);
                Some(Counter { start: number(path.join("energy_uj"))?, range, path })
            })
            .collect();
        if counters.is_empty() { None } else { Some(Self(counters)) }
    }

    /// Joules that all packages have used since the counters were read first.
    pub(crate) fn joules(&self) -> Option<f64> {
        let used = |c: &Counter| Some(since(c.start, number(c.path.join("energy_uj"))?, c.range));
        let sum: Option<u64> = self.0.iter().map(used).sum();
        sum.map(|microjoules| microjoules as f64 * 1e-6)
    }
}

/// From `start` to `now` on a counter that begins again behind `range`.
fn since(start: u64, now: u64, range: u64) -> u64 {
    if now >= start { now - start } else { (range + now).saturating_sub(start) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn counters_run_over() {
        assert_eq!(super::since(10, 15, 100), 5);
        assert_eq!(super::since(90, 15, 100), 25);
        assert_eq!(super::since(90, 15, 0), 0, "a counter without a range says nothing when it runs over");
    }
}
