//! Memory: how much there is, how much this process may have, and whether it comes in huge pages.

use serde::Serialize;

use super::system_files;

/// Main memory, in bytes; nothing where the system does not say.
#[derive(Debug, Serialize)]
pub struct MachineMemory {
    pub total: Option<u64>,
    pub available: Option<u64>,
    /// The memory limit of the process's control group.
    pub limit: Option<u64>,
    /// What the control group has used of it.
    pub used_of_limit: Option<u64>,
    pub swap_used: Option<u64>,
    pub huge_pages: HugePages,
}

/// Huge pages as the kernel offers them.
#[derive(Debug, Serialize)]
pub struct HugePages {
    /// `always`, `madvise` or `never`, where the kernel has them.
    pub transparent: Option<String>,
    /// Bytes of anonymous memory on this machine that lie in huge pages now.
    pub in_use: Option<u64>,
}

impl MachineMemory {
    pub fn detect() -> Self {
        let info = system_files::read("/proc/meminfo").unwrap_or_default();
        let field = |key: &str| meminfo(&info, key);
        let bytes =
            |file| system_files::cgroup_values(file).iter().filter_map(|v| v.parse::<u64>().ok()).min();
        let limit = bytes("memory.max");
        Self {
            total: field("MemTotal"),
            available: field("MemAvailable"),
            limit,
            used_of_limit: limit.and_then(|_| bytes("memory.current")),
            swap_used: field("SwapTotal")
                .zip(field("SwapFree"))
                .map(|(total, free)| total.saturating_sub(free)),
            huge_pages: HugePages {
                transparent: system_files::read("/sys/kernel/mm/transparent_hugepage/enabled")
                    .and_then(|t| chosen(&t)),
                in_use: field("AnonHugePages"),
            },
        }
    }

    /// Bytes that a model could still have.
    pub fn free(&self) -> Option<u64> {
        let of_limit = self.limit.map(|limit| limit.saturating_sub(self.used_of_limit.unwrap_or(0)));
        [self.available, of_limit].into_iter().flatten().min()
    }
}

/// A field of /proc/meminfo, which counts in KiB.
fn meminfo(info: &str, key: &str) -> Option<u64> {
    let value = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The word in brackets, which is how `/sys` marks a choice.
fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_system() {
        let info = "MemTotal:       24689164 kB\nMemFree:  1 kB\nMemAvailable:   23 kB\n";
        assert_eq!(meminfo(info, "MemTotal"), Some(24_689_164 * 1024));
        assert_eq!(meminfo(info, "Mem"), None);
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
    }

    #[test]
    fn the_narrowest_limit_counts() {
        let mut memory = MachineMemory::detect();
        (memory.available, memory.limit, memory.used_of_limit) = (Some(100), Some(50), Some(20));
        assert_eq!(memory.free(), Some(30));
        memory.limit = None;
        assert_eq!(memory.free(), Some(100));
    }
}
