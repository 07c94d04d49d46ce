"""Trains small models with `bitnet train`, loads what it exports with transformers and llama-cpp-python, and compares.

    python check.py BITNET SCRATCH

Three shapes, because three architectures of other software can hold them:

    bitnet   sub-norms, squared ReLU, tied head    transformers BitNetForCausalLM; GGUF bitnet-b1.58 (bitnet.cpp's)
    bitnet-silu   sub-norms, SiLU, tied head       transformers BitNetForCausalLM; GGUF bitnet
    llama    no sub-norms, SiLU, head of its own   transformers LlamaForCausalLM; GGUF llama

Rules, those of the people who made our expected values (testdata/oracle):

- transformers, whole graph in f32, beside the engine with keys and values in f32: the largest difference of a logit is at most
  1e-3 for at least half of the prompts; for every prompt at most 0.15, and 0.02 root mean square. One activation that is rounded
  to the other side between two int8 codes moves all logits behind it, hence the loose bound; a program that forgets to quantize
  activations stays within the loose bound, hence the tight one.
- llama.cpp, keys and values in f32: at most 0.3, and 0.06 root mean square. It quantizes activations by blocks of 256 inputs,
  where these models were trained with one step for all of a row.
- Greedy tokens are the same up to the first step at which the reference's two best logits are less than 0.2 apart.

llama.cpp (as llama-cpp-python has it) does not know the architecture `bitnet-b1.58`: its own `bitnet` has SiLU in its graph, and a
squared-ReLU model under that name would be computed wrongly without a word. It also has no I2_S, which is a type of bitnet.cpp.
That it refuses both is checked, so that a release that learns them is noticed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np  # noqa: E402

GREEDY = 24
MARGIN = 0.2
HERE = Path(__file__).resolve().parent
TEXT = HERE.parents[1] / "testdata/text/tinyshakespeare-6000.txt"

SHAPES = {
    "bitnet": (["model.ffn=512"], ["hf-packed", "gguf-tq2_0", "gguf-i2_s"]),
    "bitnet-silu": (["model.ffn=512", "model.activation=silu"], ["hf-packed", "gguf-tq1_0", "gguf-tq2_0"]),
    "llama": (
        ["model.ffn=768", "model.activation=silu", "model.sub_norms=false", "model.tied_head=false", "model.rope_theta=500000.0"],
        ["hf-packed", "gguf-tq1_0", "gguf-tq2_0"],
    ),
}
# What llama.cpp says of files in which it finds something of bitnet.cpp.
REFUSED = {"model-tq2_0.gguf": "unknown model architecture", "model-i2_s.gguf": "failed to"}

JOB = [
    f'data.files=["{TEXT}"]',
    "data.vocabulary=512",
    "model.hidden=256",
    "model.layers=2",
    "model.heads=4",
    "model.kv_heads=2",
    "training.batch=8",
    "training.positions=64",
    "training.steps=120",
    "optimizer.warmup=10",
    "run.save_every=1000",
    "run.evaluate_every=120",
]

PROMPTS = ["First Citizen:\n", "All:\nSpeak, speak.", "We know't, we know't.\n\n", "What authority surfeits on would relieve us:",
           "MENENIUS:\nI tell you, friends, most", "to be"]


class Failed(Exception):
    pass


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


class Ours:
    """The engine, through its command."""

    def __init__(self, bitnet, scratch):
        self.bitnet, self.scratch = bitnet, scratch

    def ids(self, model, text):
        return json.loads(run(self.bitnet, "tokenize", model, text))

    def logits(self, model, ids):
        file, out = self.scratch / "ids.json", self.scratch / "logits.npy"
        file.write_text(json.dumps(ids))
        run(self.bitnet, "logits", model, "--ids-file", file, "--out", out, "--force", "--quiet")
        return np.load(out)

    def greedy(self, model, ids):
        file = self.scratch / "ids.json"
        file.write_text(json.dumps(ids))
        args = ["--ids-file", file, "--greedy", "-n", GREEDY, "--ignore-eos", "--print", "ids", "--kv", "f32", "--quiet"]
        return json.loads(run(self.bitnet, "run", model, *args))


class Transformers:
    """A directory as transformers reads it."""

    tight, most, rms = True, 0.15, 0.02

    def __init__(self, path):
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        self.torch = torch
        self.model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        # Its own tokenizer class reads the same file.
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(path)

    def ids(self, text):
        return self.tokenizer(text)["input_ids"]

    def logits(self, ids):
        with self.torch.no_grad():
            return self.model(self.torch.tensor([ids])).logits[0].float().numpy()


class LlamaCpp:
    """A GGUF file as llama.cpp reads it."""

    tight, most, rms = False, 0.3, 0.06

    def __init__(self, path):
        from llama_cpp import Llama

        # Type 0 is f32.
        self.model = Llama(str(path), n_ctx=256, n_batch=256, n_threads=1, n_threads_batch=1, logits_all=True, type_k=0, type_v=0,
                           flash_attn=False, verbose=False)

    def ids(self, text):
        return self.model.tokenize(text.encode(), add_bos=True, special=False)

    def logits(self, ids):
        self.model.reset()
        self.model.eval(ids)
        return np.array(self.model.scores[: len(ids)], dtype=np.float32)


def greedy(other, prompt):
    """The other program's tokens, and how far apart its two best logits were at each."""
    ids, margins = list(prompt), []
    for _ in range(GREEDY):
        last = other.logits(ids)[-1]
        second, first = np.sort(last)[-2:]
        margins.append(float(first - second))
        ids.append(int(last.argmax()))
    return ids[len(prompt):], margins


def compare(ours, path, other):
    """Holds the engine to another program on one exported model; returns what to print."""
    within, worst, worst_rms, compared = 0, 0.0, 0.0, 0
    for text in PROMPTS:
        ids = ours.ids(path, text)
        theirs = list(other.ids(text))
        if ids != theirs:
            raise Failed(f"{path}: {text!r} is {ids} here and {theirs} there")
        difference = ours.logits(path, ids) - other.logits(ids)
        if not np.isfinite(difference).all():
            raise Failed(f"{path}: logits are not finite")
        largest, rms = float(np.abs(difference).max()), float(np.sqrt((difference**2).mean()))
        within += largest <= 1e-3
        worst, worst_rms = max(worst, largest), max(worst_rms, rms)
        if largest > other.most or rms > other.rms:
            raise Failed(f"{path}: logits behind {text!r} differ by {largest:.3g} (rms {rms:.3g}); allowed are {other.most} and {other.rms}")
        tokens, margins = greedy(other, ids)
        sure = next((i for i, m in enumerate(margins) if m < MARGIN), GREEDY)
        mine = ours.greedy(path, ids)
        if mine[:sure] != tokens[:sure]:
            raise Failed(f"{path}: behind {text!r} come {mine[:sure]} here and {tokens[:sure]} there")
        compared += sure
    if other.tight and 2 * within < len(PROMPTS):
        raise Failed(f"{path}: logits of only {within} of {len(PROMPTS)} prompts are within 1e-3: is something rounded differently?")
    if compared == 0:
        raise Failed(f"{path}: no token was sure enough to be compared")
    return f"logits to {worst:.1e} (rms {worst_rms:.1e}), {within} of {len(PROMPTS)} prompts within 1e-3, {compared} sure tokens equal"


def refusal(path):
    """What llama.cpp says of a file; it must not load it."""
    script = "import sys; from llama_cpp import Llama; Llama(sys.argv[1], n_ctx=64)"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    if done.returncode == 0:
        raise Failed(f"{path}: llama.cpp loads this now; compare its logits here")
    return done.stderr


def check(bitnet, scratch):
    ours = Ours(bitnet, scratch)
    job = scratch / "job.toml"
    job.unlink(missing_ok=True)
    run(bitnet, "train", "--init", job)
    for name, (shape, formats) in SHAPES.items():
        settings = [*JOB, *shape, f"run.directory={scratch / name}", f"export.formats={json.dumps(formats)}"]
        run(bitnet, "train", job, *(f"--set={s}" for s in settings), "--quiet")
        for directory in ["hf-packed", "master"]:
            path = scratch / name / directory
            print(f"{name:12} {directory:17} transformers: {compare(ours, path, Transformers(path))}", flush=True)
        for path in sorted((scratch / name).glob("*.gguf")):
            if name == "bitnet":
                said = refusal(path)
                if REFUSED[path.name] not in said:
                    raise Failed(f"{path}: llama.cpp refuses it with other words than {REFUSED[path.name]!r}:\n{said[-2000:]}")
                told = f"refused, as known: {REFUSED[path.name]}"
            else:
                told = compare(ours, path, LlamaCpp(path))
            print(f"{name:12} {path.name:17} llama.cpp:    {told}", flush=True)


if __name__ == "__main__":
    try:
        check(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
    except Failed as failed:
        sys.exit(f"error: {failed}")
