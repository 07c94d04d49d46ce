#!/usr/bin/env bash
# Type-checks the workspace's default members with the oldest compiler that Cargo.toml promises (`rust-version`), dependencies as
# Cargo.lock has them: they do not all say which compiler they need.
#
# Not covered: tests, and training (Burn, with its own demands). Fetches the compiler where rustup can; where it cannot be had, the
# script says so and succeeds. What it compiles stays in target/msrv.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^rust-version = "\([0-9]*\.[0-9]*\)"$/\1.0/p' Cargo.toml)
[ -n "$version" ] || {
    echo "msrv.sh: Cargo.toml has no line rust-version = \"MAJOR.MINOR\"" >&2
    exit 1
}

if ! cargo "+$version" --version && ! rustup toolchain install "$version" --profile minimal; then
    echo "NOT CHECKED: that Rust $version compiles the workspace: no such toolchain here, and rustup cannot add it"
    exit 0
fi
CARGO_TARGET_DIR=target/msrv cargo "+$version" check --locked
echo "msrv.sh: Rust $version compiles the workspace's default members"
