#!/usr/bin/env bash
# The curve of post-training quantization: for every method the bits of a weight, the size of the file, perplexity and divergence
# from the float model on held-out text, and tokens/s of a prompt and of generation on every kernel that this machine has.
#   bash scripts/quantization-ladder.sh [MODEL CALIBRATION.txt HELD-OUT.txt [WINDOW [TOKENS]]]
# Without arguments: the small float model in testdata/float-twin. TOKENS is the most of the calibration text that is looked at; no part
# of it may be in the held-out text. Needs `cargo build --release` before. Variables choose less:
#   METHODS="int4-gptq int8"   GROUPINGS="64 row tensor"   KERNELS="avx2 sse41", or "" for no speeds   THREADS=2
# Speeds are medians of five; they mean little while other work runs.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/${CARGO_TARGET_DIR:-target}/release:$PATH"
case "${CARGO_TARGET_DIR:-}" in /*) export PATH="$CARGO_TARGET_DIR/release:$PATH" ;; esac

model=${1:-testdata/float-twin}
calibration=${2:-testdata/text/tinyshakespeare-6000.txt}
held_out=${3:-testdata/float-twin/held-out.txt}
window=${4:-64}
tokens=${5:-32768}
methods=${METHODS:-absmean least-squares asymmetric gptq two-planes two-planes-gptq int4 int4-gptq int8}
groupings=${GROUPINGS:-64}
threads=${THREADS:-2}
export LC_ALL=C
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What this processor has, without the reference kernel.
supported() { bitnet doctor --json --threads 1 | grep -oE '"name": ?"[a-z0-9_-]+", ?"supported": ?true' | cut -d'"' -f4 | grep -v scalar; }
kernels=${KERNELS-$(supported)}

# The first number called $1 in the JSON on standard input.
field() { grep -oE "\"$1\": ?-?[0-9.e+-]+" | head -n 1 | grep -oE '[0-9.e+-]+$'; }

# Tokens/s of a prompt and of generation, once for each kernel.
speeds() {
    for kernel in $kernels; do
        bitnet bench "$1" --kernel "$kernel" --threads "$threads" --prompt 128 --generate 32 --no-breakdown --json --quiet \
            >"$scratch/bench.json"
        grep -oE '"(test": ?"[a-z]+|tokens_per_s": ?[0-9.]+)' "$scratch/bench.json" | awk -F'[": ]+' '
            $2 == "test" { test = $3; next }
            { speed[test] = $3 }
            END { printf "  %8.1f %7.1f", speed["pp"], speed["tg"] }'
    done
}

printf '%-16s %-6s %5s %8s %10s %9s' method scales bits MB perplexity KL
for kernel in $kernels; do printf '  %16s' "${kernel##*-i8-}"; done
printf '\n'
for method in $methods; do
    of_method=$groupings
    case $method in int*) of_method=32 ;; esac
    needs=()
    case $method in *gptq) needs=(--calibration "$calibration" --tokens "$tokens" --window "$window" --held-out-tokens 64) ;; esac
    for group in $of_method; do
        out=$scratch/out.bitnet
        bitnet quantize "$model" -o "$out" --method "$method" --group "$group" "${needs[@]}" --threads "$threads" --force \
            --json --quiet >"$scratch/report.json"
        bitnet evaluate "$out" --against "$model" --text "$held_out" --window "$window" --threads "$threads" --json --quiet \
            >"$scratch/judged.json"
        printf '%-16s %-6s %5.2f %8.2f %10.3f %9.5f' "$method" "$group" \
            "$(field bits_per_projection_weight <"$scratch/report.json")" \
            "$(awk -v bytes="$(field bytes_written <"$scratch/report.json")" 'BEGIN { print bytes / 1e6 }')" \
            "$(field perplexity <"$scratch/judged.json")" \
            "$(grep -oE '"kl": ?\{[^}]*' "$scratch/judged.json" | field mean)"
        speeds "$out"
        printf '\n'
    done
done
printf '%-16s %-6s %5s %8s %10.3f %9d' float - - - \
    "$(bitnet perplexity "$model" --file "$held_out" --window "$window" --threads "$threads" --json --quiet | field perplexity)" 0
speeds "$model"
printf '\n'
