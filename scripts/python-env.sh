#!/usr/bin/env bash
# Prints the path of a Python that has the named PyPI packages. `bash scripts/python-env.sh PACKAGE==VERSION...`
# The virtual environment is kept in ${XDG_CACHE_HOME:-~/.cache}/bitnet-rust-ci, one for each list of packages and version of
# Python, so what is slow to install is installed once on a machine. Remove the folder to install again.
set -euo pipefail
folder=${XDG_CACHE_HOME:-$HOME/.cache}/bitnet-rust-ci/python
key=$( (python3 --version && printf '%s\n' "$@") | sha256sum | cut -c 1-16)
environment=$folder/$key
mkdir -p "$folder"
# Two runs on one machine: the second waits for the first one's installation.
exec 9>"$folder/lock"
flock 9
if [ ! -e "$environment/complete" ]; then
    rm -rf "$environment"
    python3 -m venv "$environment"
    # Torch first: what others need of it is then there already.
    for package in "$@"; do
        case $package in torch==*) "$environment/bin/python" -m pip install -q "$package" >&2 ;; esac
    done
    "$environment/bin/python" -m pip install -q "$@" >&2
    printf '%s\n' "$@" >"$environment/complete"
fi
echo "$environment/bin/python"
