#!/usr/bin/env bash
# Runs the tests of the crates that manage memory and threads (bitnet-core: arenas, views, the thread pool; bitnet-quant: packed
# layouts on them) in Miri, which interprets them and finds undefined behaviour, data races and lost memory. Those of the thread
# pool run once more for each of a few seeds: another seed is another order of the threads.
#
# Not covered: kernels (no instruction sets in Miri), mapped files, advice to the system about pages, the system's refusal of
# memory. What runs fewer rounds or smaller shapes there says so beside `cfg!(miri)`.
#
# Needs the nightly toolchain with Miri and the sources of the standard library, and adds them where rustup can. Where they cannot
# be had, it says so and succeeds. Compiled code and Miri's standard library stay in target/miri and in ~/.cache/miri.
set -euo pipefail
cd "$(dirname "$0")/.."

has_miri() {
    cargo +nightly miri --version && [ -e "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]
}

install_miri() {
    rustup run nightly rustc --version || rustup toolchain install nightly --profile minimal || return
    rustup component add miri rust-src --toolchain nightly
}

if ! has_miri && ! { install_miri && has_miri; }; then
    echo "NOT CHECKED: undefined behaviour in bitnet-core and bitnet-quant: no nightly toolchain with Miri here, and rustup cannot add it"
    exit 0
fi

# interpret FLAGS ARGUMENTS...: the tests that the arguments of `cargo test` name. Time stands still for sleeping threads, and
# chance is the same in every run (Miri's isolation); random shapes are few, and a failing one is printed but not kept in a file.
interpret() {
    local flags=$1
    shift
    env -u RUSTFLAGS CARGO_TARGET_DIR=target/miri \
        MIRIFLAGS="-Zmiri-env-set=PROPTEST_CASES=4 -Zmiri-env-set=PROPTEST_DISABLE_FAILURE_PERSISTENCE=1 $flags" \
        cargo +nightly miri test --lib "$@"
}

interpret "" -p bitnet-core -p bitnet-quant
interpret "-Zmiri-many-seeds=1..5" -p bitnet-core -- threads::
echo "miri.sh: no undefined behaviour found in bitnet-core and bitnet-quant"
