#!/usr/bin/env bash
# Trains small models, exports them, loads what was exported with transformers and llama-cpp-python, and compares logits and
# greedy tokens: see check.py. Installs both from PyPI into a virtual environment that later runs use again (scripts/python-env.sh);
# llama-cpp-python is built there, which takes some minutes, and torch brings gigabytes for GPUs, without which it is not imported.
# EXPORTS_PYTHON names a Python that has all of them already, EXPORTS_BITNET a command that was built with the feature `training`.
# Whatever cannot be had is an error.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${CARGO_TARGET_DIR:-target}
bitnet=${EXPORTS_BITNET:-}
if [ -z "$bitnet" ]; then
    cargo build --release -p bitnet-cli --features training
    bitnet=$out/release/bitnet
fi
python=${EXPORTS_PYTHON:-$(bash scripts/python-env.sh torch==2.15.0 numpy==2.4.6 transformers==5.23.0 accelerate==1.14.0 llama-cpp-python==0.3.36)}
"$python" -c 'import accelerate, llama_cpp, numpy, torch, transformers' || {
    echo "error: $python lacks one of accelerate, numpy, torch, transformers and llama-cpp-python; remove its folder to install them again" >&2
    exit 1
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
time "$python" tests/exports/check.py "$bitnet" "$scratch"
