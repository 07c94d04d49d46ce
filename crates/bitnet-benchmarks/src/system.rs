//! What the system says of this process and this machine.

use std::fs;

/// Memory of this process, in bytes; `None` where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The most that was ever in main memory, mapped files included.
    pub peak: Option<u64>,
    /// Bytes of anonymous memory that are resident now.
    pub anonymous: Option<u64>,
    /// Bytes of mapped files that are resident now.
    pub mapped: Option<u64>,
}

impl Process {
    /// The process's memory at this moment.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |key: &str| kibibytes(&status, key);
        Self { peak: field("VmHWM"), anonymous: field("RssAnon"), mapped: field("RssFile") }
    }
}

/// A field that the system counts in KiB.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The processor's name, as the system tells it.
pub fn cpu_name() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = info.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    named.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// How the kernel grants huge pages (`always`, `madvise`, `never`) and the bytes of this process that lie in them.
pub fn huge_pages() -> (Option<String>, Option<u64>) {
    let enabled = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok();
    let mode = enabled.and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned()));
    let maps = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    (mode, kibibytes(&maps, "AnonHugePages"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_whole_words() {
        let text = "VmHWMx:\t1 kB\nVmHWM:\t  2048 kB\n";
        assert_eq!(kibibytes(text, "VmHWM"), Some(2 << 20));
        assert_eq!(kibibytes(text, "VmRSS"), None);
    }
}
