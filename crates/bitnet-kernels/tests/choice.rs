//! Which kernels this machine covers, and how one is chosen.

use bitnet_kernels::{KERNEL_VARIABLE, KernelError, all_names, available, by_name, select};

/// Comma-separated names (full or short), best first, of the kernels that this machine must be able to run.
const EXPECT_VARIABLE: &str = "BITNET_EXPECT_KERNELS";

#[test]
fn expected_kernels_are_covered_by_the_other_tests() {
    let covered: Vec<_> = available().map(|k| k.name()).collect();
    let missing: Vec<_> = all_names().filter(|name| !covered.contains(name)).collect();
    println!("kernels covered here: {}", covered.join(", "));
    println!("kernels of this build not covered here: {}", missing.join(", "));
    let Ok(expected) = std::env::var(EXPECT_VARIABLE) else { return };
    for name in expected.split(',') {
        assert!(by_name(name).is_ok(), "{EXPECT_VARIABLE} names {name}, which does not run here");
    }
    let best = expected.split(',').next().map(by_name);
    if std::env::var(KERNEL_VARIABLE).is_err() {
        assert_eq!(Some(select(None)), best, "the first of {EXPECT_VARIABLE} is to be chosen");
    }
}

#[test]
fn every_available_kernel_passes_its_self_test_and_is_found_by_both_names() {
    for kernel in available() {
        assert_eq!(select(Some(kernel.name())), Ok(kernel));
        assert_eq!(by_name(kernel.short_name()), Ok(kernel));
    }
    assert_eq!(available().last(), by_name("scalar").ok());
}

#[test]
fn unknown_and_unsupported_kernels_are_refused_with_the_names_that_exist() {
    let error = select(Some("x86_64-t2-i8-mmx")).unwrap_err();
    assert!(error.to_string().contains("x86_64-t2-i8-mmx"), "{error}");
    assert!(error.to_string().contains("generic-t2-i8-scalar"), "{error}");
    for name in all_names().filter(|name| !available().any(|k| k.name() == *name)) {
        assert!(matches!(select(Some(name)), Err(KernelError::Unsupported { .. })), "{name}");
    }
}

/// The same bits are promised, so a slow machine must not wait for the proof.
#[test]
fn the_self_test_takes_less_than_two_milliseconds() {
    for kernel in available() {
        let quickest = (0..20)
            .map(|_| {
                let start = std::time::Instant::now();
                assert!(select(Some(kernel.name())).is_ok());
                start.elapsed()
            })
            .min();
        // Emulated or unoptimized code is not what the promise is about.
        if cfg!(all(not(debug_assertions), target_arch = "x86_64")) {
            assert!(quickest < Some(std::time::Duration::from_millis(2)), "{}: {quickest:?}", kernel.name());
        }
    }
}
