#!/usr/bin/env python3
"""Makes expected.json: what transformers computes for SmolLM2-135M-Instruct from the weights of the GGUF file (Q4_1) as floats.

    python make.py FILE.gguf        with torch==2.15.0 transformers==5.23.0 gguf==0.19.0 numpy==2.4.6

The reader of GGUF, the dequantization, the tokenizer and the model are theirs. In f32, on a CPU, eager attention.
"""

import json
import os
import sys
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

TOP = 8
GREEDY = 24
HERE = Path(__file__).resolve().parent
TEXT = HERE.parents[1] / "testdata/text/tinyshakespeare-6000.txt"
TEXT_BYTES = 1200
CONTINUED = "Once upon a time, there was a little fox who lived in the woods. Every morning the fox"
ASKED = "What is the capital of France?"


def greedy(model, ids):
    out, margins = [], []
    for _ in range(GREEDY):
        logits = model(torch.tensor([ids + out])).logits[0, -1]
        best = torch.topk(logits, 2)
        out.append(int(best.indices[0]))
        margins.append(round(float(best.values[0] - best.values[1]), 4))
    return out, margins


def positions(logits):
    top = torch.topk(logits, TOP, dim=-1)
    total = torch.logsumexp(logits.double(), dim=-1)
    return [
        {"ids": i.tolist(), "logits": [round(float(x), 5) for x in v], "logsumexp": round(float(z), 5)}
        for i, v, z in zip(top.indices, top.values, total)
    ]


@torch.no_grad()
def main():
    path = Path(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
    prompt = tokenizer(CONTINUED, add_special_tokens=False)["input_ids"]
    text = TEXT.read_bytes()[:TEXT_BYTES].decode()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    logits = model(torch.tensor([ids])).logits[0]
    nll = torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(ids[1:])).item()
    conversation = [{"role": "user", "content": ASKED}]
    chat = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
    asked = tokenizer(chat, add_special_tokens=False)["input_ids"]
    answer, answer_margins = greedy(model, asked)
    steps, margins = greedy(model, prompt)
    expected = {
        "prompt": {"text": CONTINUED, "ids": prompt, "positions": positions(model(torch.tensor([prompt])).logits[0]), "greedy": steps, "margins": margins},
        "chat": {"question": ASKED, "ids": asked, "greedy": answer, "margins": answer_margins, "answer": tokenizer.decode(answer)},
        "text": {"bytes": TEXT_BYTES, "ids": ids, "nll": nll},
    }
    lines = json.dumps(expected, indent=None, separators=(",", ":"))
    (HERE / "expected.json").write_text(lines + "\n")
    print(expected["chat"]["answer"], nll, len(prompt), len(ids))


main()
