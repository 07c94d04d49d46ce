#!/usr/bin/env bash
# The ladder of post-training quantization: what every method adds to the loss of a float model on held-out text.
#   bash scripts/quantization-ladder.sh MODEL CALIBRATION.txt HELD-OUT.txt [WINDOW]
# Without arguments: the small float model in testdata/float-twin. Needs `cargo build --release` before.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/${CARGO_TARGET_DIR:-target}/release:$PATH"
case "${CARGO_TARGET_DIR:-}" in /*) export PATH="$CARGO_TARGET_DIR/release:$PATH" ;; esac

model=${1:-testdata/float-twin}
calibration=${2:-testdata/text/tinyshakespeare-6000.txt}
held_out=${3:-testdata/float-twin/held-out.txt}
window=${4:-64}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

field() { grep -oE "\"$1\": ?[-0-9.e]+" "$scratch/report.json" | head -n 1 | grep -oE '[-0-9.e]+$'; }

printf '%-18s %-7s %6s %9s %9s\n' method scales bits nats change
for method in absmean least-squares asymmetric gptq two-planes two-planes-gptq int4 int4-gptq int8; do
    groups="64 row tensor"
    case $method in int*) groups=32 ;; esac
    for group in $groups; do
        bitnet quantize "$model" -o "$scratch/out.bitnet" --method "$method" --group "$group" --window "$window" \
            --calibration "$calibration" --held-out "$held_out" --force --json >"$scratch/report.json"
        before=$(field loss_before) after=$(field loss_after)
        LC_ALL=C awk -v m="$method" -v g="$group" -v b="$before" -v a="$after" -v bits="$(field bits_per_projection_weight)" \
            'BEGIN { printf "%-18s %-7s %6.2f %9.4f %+9.4f\n", m, g, bits, a, a - b }'
    done
done
printf '%-18s %-7s %6s %9.4f\n' float - - "$before"
