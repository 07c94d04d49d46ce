//! The choice of a kernel.

use std::{env, sync::OnceLock};

use crate::{
    selftest::self_test,
    table::{Kernel, KernelError, available, by_name, unknown},
};

/// The environment variable that forces a kernel by name.
pub const KERNEL_VARIABLE: &str = "BITNET_KERNEL";

/// The kernel to use: the forced one (`forced`, else the variable [`KERNEL_VARIABLE`] if set and not empty), or the best
/// that this CPU reports and that passes its self-test. The automatic choice is made once per process.
///
/// # Errors
/// When a forced kernel is unknown, cannot run here, or fails its self-test. The automatic choice always ends
/// with the scalar kernel, so it only fails if that one does.
pub fn select(forced: Option<&str>) -> Result<&'static Kernel, KernelError> {
    let variable = || env::var(KERNEL_VARIABLE).ok().filter(|name| !name.is_empty());
    if let Some(name) = forced.map(str::to_owned).or_else(variable) {
        let kernel = by_name(&name)?;
        return self_test(kernel).map(|()| kernel);
    }
    static BEST: OnceLock<Result<&'static Kernel, KernelError>> = OnceLock::new();
    BEST.get_or_init(|| {
        let mut last = Err(unknown("any"));
        for kernel in available() {
            last = self_test(kernel).map(|()| kernel);
            if last.is_ok() {
                break;
            }
        }
        last
    })
    .clone()
}
