#!/usr/bin/env bash
# Runs every command of the README and the guides: the blocks marked ```sh, in order, from the root of the repository, after
# `cargo build --release`. Blocks marked ```text are not run. Stops at the first command that fails.
# `bash scripts/doc-commands.sh FILE...` runs the blocks of those files only.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/${CARGO_TARGET_DIR:-target}/release:$PATH"
case "${CARGO_TARGET_DIR:-}" in /*) export PATH="$CARGO_TARGET_DIR/release:$PATH" ;; esac

files=("$@")
[ $# -gt 0 ] || files=(README.md docs/*.md)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# What readers of the guides have in their home is theirs; the commands get an empty one, and keep Rust's.
export CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}"
export HOME="$scratch/home"
mkdir -p "$HOME" target/guide

count=0
for file in "${files[@]}"; do
    # The tests have a step of their own wherever this script runs.
    awk -v file="$file" '
        /^```sh$/ { inside = 1; next }
        /^```/ { inside = 0 }
        inside && !/^cargo test/ { print }
    ' "$file" >"$scratch/commands.sh"
    commands=$(grep -cvE '^\s*(#|$)' "$scratch/commands.sh" || true)
    [ "$commands" -gt 0 ] || continue
    printf -- '-- %s: %s lines\n' "$file" "$commands"
    # -v shows each command as the guide has it, so that the last one shown is the one that failed.
    if ! bash -euo pipefail -v "$scratch/commands.sh" </dev/null >"$scratch/log" 2>&1; then
        tail -n 40 "$scratch/log"
        echo "a command of $file failed" >&2
        exit 1
    fi
    count=$((count + commands))
done
[ "$count" -gt 0 ] || { echo "no commands were found" >&2; exit 1; }
echo "$count lines of commands, all of them run"
