#!/usr/bin/env python3
"""Black-box check of the `bitnet` command against values that other software computed.

    cargo build --release
    python3 tests/oracle/check.py [ORACLE ...] [--bitnet PATH] [--only PATTERN] [--quick]

Needs Python 3.9 and numpy, nothing else. ORACLE is a directory of models with expected values (several may be named);
testdata/oracle-made is always checked too. README.md beside this file says where the values come from and why each
tolerance is what it is. Exits 1 if any case fails.
"""

import argparse
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from checks import accuracy, conversion, determinism, text  # noqa: E402
from checks.command import Bitnet, Table, load_json, scratch_folder  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTS = ("accuracy", "text", "determinism", "conversion")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("oracle", nargs="*", type=pathlib.Path, default=[ROOT / "testdata" / "oracle"])
    parser.add_argument("--bitnet", type=pathlib.Path, default=ROOT / "target" / "release" / "bitnet")
    parser.add_argument("--made", type=pathlib.Path, default=ROOT / "testdata" / "oracle-made")
    parser.add_argument("--only", help="cases whose name contains this, or matches it as a glob")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part (may be repeated)")
    parser.add_argument("--quick", action="store_true", help="two prompts a model, fewer conversions")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one call of the command")
    return parser.parse_args()


def directories(root):
    """Decoder models with expected values; embedding models have no logits and are another command's business."""
    return [d for d in sorted(root.iterdir()) if (d / "config.json").exists() and (d / "expected" / "f32" / "cases.json").exists() and is_run(d)]


def gguf_files(root):
    return [path for path in sorted((root / "gguf").glob("*.gguf")) if is_run(path)]


# Patterns of files that the engine refuses by name: none today.
NOT_RUN = ()


def is_run(path):
    return not path.name.startswith("embed-") and not any(path.match(pattern) for pattern in NOT_RUN)


def run_oracle(table, bitnet, root, text_file, parts, quick):
    models = directories(root)
    if "accuracy" in parts:
        for d in models:
            accuracy.check_directory(table, bitnet, d, quick)
            if not quick:
                accuracy.check_bf16(table, bitnet, d)
            accuracy.check_perplexity(table, bitnet, d, text_file)
            accuracy.check_left_out(table, bitnet, d)
        for d in sorted(p.parent.parent for p in root.glob("*/expected/refusal.json")):
            accuracy.check_refusal(table, bitnet, d, "quanti")
        for family in NOT_RUN:
            for path in sorted([*root.glob(family), *(root / "gguf").glob(f"{family}.gguf")]):
                accuracy.check_refusal(table, bitnet, path, "which this engine does not run")
        for d in sorted(p.parent for p in root.glob("*/generator.json")):
            accuracy.check_large(table, bitnet, d, quick)
        if (root / "gguf" / "peer").exists():
            accuracy.check_shipped_gguf(table, bitnet, root, gguf_files(root), quick)
        if (root / "gguf" / "expected").exists():
            accuracy.check_made_gguf(table, bitnet, root, gguf_files(root), quick)
    if "text" in parts:
        for d in models:
            text.check_directory(table, bitnet, d, quick)
        for path in sorted((root / "gguf" / "expected").glob("*/tokenizer_cases.json")):
            model = root / "gguf" / f"{path.parent.name}.gguf"
            text.check_cases(table, bitnet, model, f"made-gguf/{model.stem}", load_json(path)["encode"][: 4 if quick else None])
        if (root / "vocab").exists():
            text.check_vocabularies(table, bitnet, root, quick)
    small = [d for d in models if "llama3vocab" not in d.name]
    if "determinism" in parts:
        determinism.check_many(table, bitnet, small[:: 4 if quick else 1], quick)
        for path in gguf_files(root)[:: 4 if quick else 1]:
            determinism.check(table, bitnet, path, f"gguf/{path.stem}", [gguf_prompt(root, path)], quick)
    if "conversion" in parts:
        for d in small[:: 3 if quick else 1]:
            ids = load_json(d / "expected" / "f32" / "cases.json")[0]["prompt_ids"]
            conversion.check(table, bitnet, conversion.Source(d, d.name, ids, load_json(d / "config.json")), quick)
        for path in gguf_files(root)[:: 3 if quick else 1]:
            conversion.check(table, bitnet, conversion.Source(path, f"gguf/{path.stem}", gguf_prompt(root, path)), quick)


def gguf_prompt(root, path):
    made = root / "gguf" / "expected" / path.stem / "cases.json"
    return load_json(made)[1]["prompt_ids"] if made.exists() else [2043, 677, 1206, 266, 781, 554, 335, 590, 1824]


def main():
    options = arguments()
    if not options.bitnet.exists():
        print(f"{options.bitnet} does not exist: build it with `cargo build --release`, or name it with --bitnet", file=sys.stderr)
        return 2
    table = Table(options.only, verbose=False)
    parts = options.part or PARTS
    table.row("case", "measured", "bound", "")
    with scratch_folder() as scratch:
        bitnet = Bitnet(options.bitnet, scratch, options.timeout)
        text_file = options.made / "tinyshakespeare-6000.txt"
        for root in dict.fromkeys([*map(pathlib.Path.resolve, options.oracle), options.made.resolve()]):
            if not root.is_dir():
                print(f"{root} is no directory", file=sys.stderr)
                return 2
            run_oracle(table, bitnet, root, text_file, parts, options.quick)
    return table.close()


if __name__ == "__main__":
    sys.exit(main())
