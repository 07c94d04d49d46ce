#!/usr/bin/env bash
# Holds the built command to the expected values: those in the repository, and those of ../shared/oracle where that folder
# lies beside the clone (it is too large to commit). Installs numpy into a virtual environment under target/.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=target/oracle-venv
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import numpy' 2>/dev/null || "$venv/bin/pip" install -q numpy==2.4.6
"$venv/bin/python" tests/oracle/check.py --quick
if [ -d ../shared/oracle ]; then
    "$venv/bin/python" tests/oracle/check.py ../shared/oracle --quick
    BITNET_VOCAB_DIR=$PWD/../shared/oracle/vocab cargo test --release -p bitnet-text \
        --features external-vocabularies --test gguf_vocabularies
else
    echo "../shared/oracle is not here: the larger set of expected values was not checked"
fi
