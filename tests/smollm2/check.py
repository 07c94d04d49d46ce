#!/usr/bin/env python3
"""Holds `bitnet` to what transformers computes for SmolLM2-135M-Instruct (expected.json, made by make.py).

    python check.py FILE.gguf [--bitnet PATH] [--only PATTERN]

Needs numpy. Exits 1 if a case fails.

- Token ids: equal. Logits, with keys and values in f32, at every position of a text of 20 tokens: each of the eight best within 1e-3, and
  the logarithm of the sum of the exponentials of all, which sees every other one. Mean negative log-likelihood of 338 tokens: within 1e-3.
- Greedy tokens: equal, where the reference's two best logits are 0.05 apart or more. They are, but generation keeps keys and
  values in f16, which moves logits by some 0.01.
- As int8, without calibration: the mean within 0.02 (0.008 was measured), and the same answer.
"""

import argparse
import json
import math
import pathlib
import sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "oracle"))

import numpy as np  # noqa: E402
from checks.command import Bitnet, Failed, Table, load_json, scratch_folder  # noqa: E402

MARGIN = 0.05
TEXT = ROOT / "testdata" / "text" / "tinyshakespeare-6000.txt"
ANSWER = "The capital of France is Paris."


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--bitnet", type=pathlib.Path, default=ROOT / "target" / "release" / "bitnet")
    parser.add_argument("--only", help="cases whose name contains this, or matches it as a glob")
    return parser.parse_args()


def equal(got, want, what):
    if got != want:
        raise Failed(f"{what}: {got}, expected {want}")
    return f"{len(want)} equal"


def logits(bitnet, model, expected):
    got = bitnet.logits(model, expected["ids"]).astype(np.float64)
    worst = 0.0
    for row, want in zip(got, expected["positions"], strict=True):
        total = row.max() + math.log(np.exp(row - row.max()).sum())
        off = np.abs(row[want["ids"]] - want["logits"]).max()
        worst = max(worst, float(off), abs(total - want["logsumexp"]))
    if not worst <= 1e-3:
        raise Failed(f"largest difference {worst:.2g}")
    return f"largest difference {worst:.2g}"


def likelihood(bitnet, model, text, expected, bound):
    got = json.loads(bitnet.must("perplexity", model, "--file", text, "--window", 512, "--json"))
    if got["tokens_scored"] != len(expected["ids"]) - 1:
        raise Failed(f"{got['tokens_scored']} tokens scored, expected {len(expected['ids']) - 1}")
    off = abs(got["mean_nll"] - expected["nll"])
    if not off <= bound:
        raise Failed(f"mean {got['mean_nll']:.5f}, expected {expected['nll']:.5f}")
    return f"mean {got['mean_nll']:.5f}, off by {off:.2g}"


def continued(bitnet, model, expected):
    sure = next((i for i, margin in enumerate(expected["margins"]) if margin < MARGIN), len(expected["margins"]))
    want = expected["greedy"][:sure]
    return equal(bitnet.greedy(model, expected["ids"], sure), want, "greedy ids")


def asked(bitnet, model, question, ids):
    options = ("--chat", "--greedy", "--max-new-tokens", 40, "--json")
    got = json.loads(bitnet.must("run", model, question, *options))
    equal(got["prompt_ids"], ids, "ids of the prompt")
    if got["text"].strip() != ANSWER:
        raise Failed(f"the answer is {got['text']!r}")
    return repr(got["text"].strip())


def talked(bitnet, model, question):
    out = bitnet.must("chat", model, "--greedy", "--max-new-tokens", 40, stdin=f"{question}\n".encode()).decode()
    if out.strip() != ANSWER:
        raise Failed(f"the answer is {out!r}")
    return repr(out.strip())


def main():
    options = arguments()
    expected = load_json(HERE / "expected.json")
    table = Table(options.only, verbose=False)
    model, prompt, chat, text = options.model, expected["prompt"], expected["chat"], expected["text"]
    with scratch_folder() as scratch:
        bitnet = Bitnet(options.bitnet, scratch, 120)
        beginning = pathlib.Path(scratch) / "beginning.txt"
        beginning.write_bytes(TEXT.read_bytes()[: text["bytes"]])
        quantized = pathlib.Path(scratch) / "int8.bitnet"
        table.run("tokenize/sentence", "equal ids", lambda: equal(bitnet.encode(model, prompt["text"], "--no-special"), prompt["ids"], "ids"))
        table.run("tokenize/text", "equal ids", lambda: equal(bitnet.encode(model, beginning.read_text(), "--no-special"), text["ids"], "ids"))
        table.run("logits", "1e-3", lambda: logits(bitnet, model, prompt))
        table.run("perplexity", "1e-3", lambda: likelihood(bitnet, model, beginning, text, 1e-3))
        table.run("run", "equal ids", lambda: continued(bitnet, model, prompt))
        table.run("run --chat", ANSWER, lambda: asked(bitnet, model, chat["question"], chat["ids"]))
        table.run("chat", ANSWER, lambda: talked(bitnet, model, chat["question"]))
        table.run("quantize", "exit 0", lambda: bitnet.must("quantize", model, "-o", quantized, "--method", "int8", "--json") and "written")
        table.run("quantized/perplexity", "0.02", lambda: likelihood(bitnet, quantized, beginning, text, 0.02))
        table.run("quantized/run --chat", ANSWER, lambda: asked(bitnet, quantized, chat["question"], chat["ids"]))
    return table.close()


if __name__ == "__main__":
    sys.exit(main())
