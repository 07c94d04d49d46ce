#!/usr/bin/env python3
"""Holds the builds that people and CI make one after another to one compilation of each crate.

    python3 scripts/compiled_once.py

Cargo compiles a crate again for every set of features that a command asks of it, and with it all that stands on it. This asks
Cargo for its plan of each build (nothing is compiled) and fails where two plans want one crate with different features. Only the
command itself may differ, which has a feature `training`. The cure is to ask for the features where all builds see them:
crates/bitnet-cli/Cargo.toml does, with the reason.
"""

import json
import os
import subprocess
import sys

TRAINING = ["-p", "bitnet-training", "-p", "bitnet-cli", "--features", "bitnet-cli/training"]
BUILDS = {
    "the command": ["build"],
    "the tests": ["test", "--no-run"],
    "the example": ["build", "--example", "generate"],
    "the tests with training": ["test", "--no-run", *TRAINING],
    "the command with training": ["build", "-p", "bitnet-cli", "--features", "training"],
}


def plan(arguments):
    """{(crate, its version, target, optimization): features} of what one command compiles."""
    command = ["cargo", arguments[0], "--release", *arguments[1:], "-Z", "unstable-options", "--unit-graph"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "RUSTC_BOOTSTRAP": "1"})
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    units = {}
    for unit in json.loads(done.stdout)["units"]:
        if unit["mode"] == "build" and unit["target"]["kind"] != ["custom-build"]:
            crate = unit["pkg_id"].rsplit("/", 1)[-1]
            units[crate, unit["target"]["name"], unit["profile"]["opt_level"], unit["platform"]] = frozenset(unit["features"])
    return units


def main():
    seen, twice = {}, []
    for build, arguments in BUILDS.items():
        for unit, features in plan(arguments).items():
            first, known = seen.setdefault(unit, (build, features))
            if features != known and not unit[0].startswith("bitnet-cli#"):
                twice.append(f"{unit[0]}: {build} and {first} differ in {', '.join(sorted(features ^ known))}")
    print("\n".join(sorted(set(twice))) or f"{len(seen)} units of {len(BUILDS)} builds, each with one set of features")
    return 1 if twice else 0


if __name__ == "__main__":
    sys.exit(main())
