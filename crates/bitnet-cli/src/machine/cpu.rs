//! The processor: its name, its instruction sets, and how much of it this process may use.

use std::thread;

use serde::Serialize;

use super::system_files;

/// The processor, as far as it matters for running models.
#[derive(Debug, Serialize)]
pub struct Processor {
    pub name: String,
    pub architecture: &'static str,
    /// Logical processors that are online.
    pub online: Option<usize>,
    /// Physical cores, where hardware threads share them.
    pub physical_cores: Option<usize>,
    /// Logical processors that this process may use: affinity and control groups counted.
    pub usable: usize,
    /// Processors' worth of time that the control group allows.
    pub quota: Option<f64>,
    /// Running and waiting processes over the last minute.
    pub load: Option<f64>,
    pub instruction_sets: Vec<Isa>,
}

/// An instruction set that some kernel could use.
#[derive(Debug, Serialize)]
pub struct Isa {
    pub name: &'static str,
    pub present: bool,
}

impl Processor {
    pub fn detect() -> Self {
        let info = system_files::read("/proc/cpuinfo").unwrap_or_default();
        let field = |key: &str| {
            info.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                (name.trim() == key).then(|| value.trim().to_owned())
            })
        };
        Self {
            name: field("model name").or_else(|| field("Model")).unwrap_or_else(|| "unknown".into()),
            architecture: std::env::consts::ARCH,
            online: Some(info.lines().filter(|l| l.starts_with("processor")).count()).filter(|&n| n > 0),
            physical_cores: physical_cores(&info),
            usable: thread::available_parallelism().map_or(1, usize::from),
            quota: quota(),
            load: system_files::read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            instruction_sets: instruction_sets(),
        }
    }
}

/// Distinct pairs of socket and core.
fn physical_cores(info: &str) -> Option<usize> {
    let mut cores = std::collections::BTreeSet::new();
    let mut socket = "";
    for line in info.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.trim() {
            "physical id" => socket = value.trim(),
            "core id" => {
                cores.insert((socket, value.trim()));
            }
            _ => {}
        }
    }
    Some(cores.len()).filter(|&n| n > 0)
}

/// `cpu.max` holds microseconds of time per period, or `max`.
fn quota() -> Option<f64> {
    let share = |text: &String| {
        let (time, period) = text.split_once(' ')?;
        Some(time.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
    };
    system_files::cgroup_values("cpu.max").iter().filter_map(share).reduce(f64::min)
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<Isa> {
    macro_rules! sets {
        ($($name:tt),*) => { vec![$(Isa { name: $name, present: is_x86_feature_detected!($name) }),*] };
    }
    sets!(
        "sse4.1",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512vnni",
        "avx512vbmi"
    )
}

#[cfg(target_arch = "aarch64")]
fn instruction_sets() -> Vec<Isa> {
    macro_rules! sets {
        ($($name:tt),*) => { vec![$(Isa { name: $name, present: std::arch::is_aarch64_feature_detected!($name) }),*] };
    }
    sets!("neon", "dotprod", "i8mm", "fp16", "sve")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn instruction_sets() -> Vec<Isa> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    #[test]
    fn hardware_threads_are_not_cores() {
        let info = "physical id\t: 0\ncore id\t: 0\n\nphysical id\t: 0\ncore id\t: 1\n\nphysical id\t: 0\ncore id\t: 0\n\nphysical id\t: 1\ncore id\t: 0\n";
        assert_eq!(super::physical_cores(info), Some(3));
        assert_eq!(super::physical_cores("processor: 0\n"), None);
    }
}
