#!/usr/bin/env bash
# Runs every fuzz target for SECONDS (default 600), one on each processor at a time, and fails on a finding. Installs cargo-fuzz
# when it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}

command -v cargo-fuzz >/dev/null || cargo install --locked -q cargo-fuzz
# The instrumentation flags are hidden on stable Rust; the variable uncovers them.
export RUSTC_BOOTSTRAP=1
cargo fuzz build

one() {
    local target=$1 seeds=() dir log="fuzz/$1.log"
    mkdir -p "fuzz/corpus/$target"
    for dir in testdata/seeds testdata/hostile "fuzz/seeds/$target"; do
        [ ! -d "$dir" ] || seeds+=("$dir")
    done
    if ! cargo fuzz run "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "fuzz target $target failed" >&2
        return 1
    fi
    echo "$target: $(grep -o 'number_of_executed_units: *[0-9]*' "$log" | grep -o '[0-9]*$') inputs, peak $(grep -o 'peak_rss_mb: *[0-9]*' "$log" | grep -o '[0-9]*$') MB, no finding"
}
export -f one
export seconds
# A failing target does not stop the others; xargs then ends with an error.
sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | grep -v '^bitnet-fuzz$' | xargs -P "$(nproc)" -I TARGET bash -euo pipefail -c 'one TARGET'
