//! What this machine is, as far as it matters for running models: read from the system, measured, never changed.

mod bandwidth;
mod cpu;
mod memory;
mod threads;

pub use bandwidth::{Bandwidth, measure};
pub use cpu::Cpu;
pub use memory::Memory;
pub use threads::threads;

use std::{fs, path::Path};

/// A small file of the system, trimmed.
fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Values of a control group's file, from the process's own group up to the root: the narrowest counts.
fn cgroup_values(file: &str) -> Vec<String> {
    let Some(groups) = read("/proc/self/cgroup") else { return Vec::new() };
    let Some(own) = groups.lines().find_map(|line| line.strip_prefix("0::")) else { return Vec::new() };
    let root = Path::new("/sys/fs/cgroup");
    let mut folder = root.join(own.trim_start_matches('/'));
    let mut values = Vec::new();
    // A path with `..` belongs to a group outside of this container's view.
    if own.contains("..") || !folder.is_dir() {
        folder = root.to_owned();
    }
    loop {
        values.extend(read(folder.join(file)));
        if folder == root || !folder.pop() {
            return values;
        }
    }
}
