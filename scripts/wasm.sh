#!/usr/bin/env bash
# Type-checks for wasm32-unknown-unknown, where there are neither files, threads nor instruction sets of ours, and 32 bits of
# address: what stands in the way of a browser is seen when it comes in. It proves that the crates compile, not that they run.
#
# `getrandom`, from which the tokenizer's library takes seeds, has no source of them on this target: an application names one
# ("custom" here, which compiles without it). What would not run yet: `memmap2` compiles, but refuses every map, so that the arenas
# have no memory and no file opens. (The thread pool becomes the calling thread where none can be started.)
#
# Left out: bitnet-cli and bitnet-benchmarks (programs of a terminal: signals, sockets, a line editor) and bitnet-training (Burn).
#
# Adds the target where rustup can; where it cannot be had, the script says so and succeeds. What it compiles stays in target/wasm.
set -euo pipefail
cd "$(dirname "$0")/.."
target=wasm32-unknown-unknown

if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] && ! rustup target add "$target"; then
    echo "NOT CHECKED: that the crates compile for $target: its standard library is not here, and rustup cannot add it"
    exit 0
fi
crates=(core quant kernels format text model device cpu decoder source inference conformance evaluation convert calibration)
RUSTFLAGS='-D warnings --cfg getrandom_backend="custom"' CARGO_TARGET_DIR=target/wasm cargo check --locked --target "$target" "${crates[@]/#/--package=bitnet-}"
echo "wasm.sh: ${#crates[@]} crates compile for $target"
