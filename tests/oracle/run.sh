#!/usr/bin/env bash
# Holds the built command to the expected values: those in the repository, and those of ../shared/oracle where that folder
# lies beside the clone (it is too large to commit).
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(bash scripts/python-env.sh numpy==2.4.6)
sets=(testdata/oracle)
[ ! -d ../shared/oracle ] || sets+=(../shared/oracle)
"$python" tests/oracle/check.py "${sets[@]}" --quick
if [ -d ../shared/oracle ]; then
    # In the workspace, so that nothing is compiled again.
    BITNET_VOCAB_DIR=$PWD/../shared/oracle/vocab cargo test --release --test gguf_vocabularies -- --ignored
else
    echo "NOT CHECKED: the larger set of expected values: the folder ../shared/oracle is not here"
fi
