#!/usr/bin/env bash
# Training steps beside PyTorch's, in pairs: the same 8.9 M-parameter model, ternary weights and int8 activations, batch 4 x 128.
# usage: scripts/beside-pytorch.sh [PAIRS] (three unless said); PYTHON names a Python that has torch, otherwise one is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
pairs=${1:-3}

python=${PYTHON:-target/pytorch/bin/python}
if [ ! -x "$python" ]; then
    python3 -m venv target/pytorch
    target/pytorch/bin/pip install --quiet torch numpy
fi
cargo build --release -q -p bitnet-training --example step_time
ours=${CARGO_TARGET_DIR:-target}/release/examples/step_time
for threads in 1 2; do
    for _ in $(seq "$pairs"); do
        "$ours" "$threads" ternary
        echo "PyTorch, threads $threads: $("$python" scripts/torch_step.py "$threads")"
    done
done
