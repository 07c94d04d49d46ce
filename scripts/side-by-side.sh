#!/usr/bin/env bash
# Ours against llama-cpp-python on one synthetic GGUF file (TQ2_0 projections, Q6_K embedding and head), in turns.
# `bash scripts/side-by-side.sh [SHAPE] [options of scripts/side_by_side.py]`; the shape is 2b4t when none is given.
# It builds `bitnet`, writes the file into target/, and installs llama-cpp-python into a temporary environment (its build takes
# many minutes on few cores). PEER_PYTHON names a Python that has it already.
set -euo pipefail
cd "$(dirname "$0")/.."
shape=2b4t
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
    shape=$1
    shift
fi
out=${CARGO_TARGET_DIR:-target}
bitnet=${BITNET:-$out/release/bitnet}
[ -n "${BITNET:-}" ] || cargo build --release -p bitnet-cli
mkdir -p "$out"
file=$out/side-by-side-$shape.gguf
[ -e "$file" ] || "$bitnet" bench --synthetic "$shape" --write "$file"
python=${PEER_PYTHON:-}
if [ -z "$python" ]; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    python3 -m venv "$scratch/venv"
    python=$scratch/venv/bin/python
    "$python" -m pip install --quiet numpy llama-cpp-python
fi
"$python" scripts/side_by_side.py "$file" --bitnet "$bitnet" "$@"
