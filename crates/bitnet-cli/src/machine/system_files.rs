//! Small files in which the system says what it has: `/proc`, `/sys`, control groups.

use std::{fs, path::Path};

/// A small file of the system, trimmed.
pub(super) fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Values of a control group's file, from the process's own group up to the root: the narrowest counts.
pub(super) fn cgroup_values(file: &str) -> Vec<String> {
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
