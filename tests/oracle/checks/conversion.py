"""`bitnet convert`: every source to every target and on to every other.

The engine's own logits of the source are the expectation: byte-equal where the target holds the same trits, scales and
embeddings; where the command prints a loss, within LOSSY. A refusal must be a sentence, leave nothing behind, and is
only accepted where the target cannot hold the model.
"""

import shutil

import numpy as np

from . import safetensors
from .accuracy import float_activations
from .command import Failed, Skipped, difference, load_json, short

TARGETS = {
    "hf-packed": "",
    "hf-master": "",
    "gguf-i2_s": ".gguf",
    "gguf-tq1_0": ".gguf",
    "gguf-tq2_0": ".gguf",
    "gguf-q2_0": ".gguf",
    "gguf-pq2_0": ".gguf",
    "gguf-ptq1_0": ".gguf",
    "bitnet": ".bitnet",
}
COLUMNS = {"gguf-i2_s": 128, "gguf-tq1_0": 256, "gguf-tq2_0": 256, "gguf-q2_0": 64, "gguf-pq2_0": 128, "gguf-ptq1_0": 128}
# An f16 scale (2^-11 relative) or an f16 embedding moves logits by about 1e-3, an int8 flip by up to 0.1.
LOSSY = {"max": 0.15, "rms": 0.03}
LOSS_WORDS = ("loss", "rounded", "relative", "differ", "not exact", "inexact")


class Source:
    """A model to convert, and what a target may refuse of it."""

    def __init__(self, path, name, ids, config=None):
        self.path, self.name, self.ids, self.config = path, name, ids, config

    def must_hold(self, target):
        """True where a refusal would be wrong."""
        if "qwen35-" in self.name:
            return False  # no form that is written has words for recurrent layers
        if target in ("bitnet", "hf-master"):
            return True
        c = self.config
        if c is None or float_activations(c):
            return False
        quantization = c.get("quantization_config") or {}
        plain = not (c.get("attention_bias") or c.get("mlp_bias") or quantization.get("use_rms_norm"))
        listed = [m for m in quantization.get("modules_to_not_convert") or [] if m != "lm_head"]
        if target == "hf-packed":
            return not listed
        if not plain or listed:
            return False
        if c["architectures"] == ["BitNetForCausalLM"] and not c.get("tie_word_embeddings", False):
            return False
        heads = c["num_attention_heads"]
        widths = (c["hidden_size"], c["intermediate_size"], heads * (c.get("head_dim") or c["hidden_size"] // heads))
        return all(w % COLUMNS[target] == 0 for w in widths)


def remove(path):
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def convert(bitnet, source, target):
    """(path, what it printed), or raises Refused."""
    out = bitnet.path("-" + target + TARGETS[target])
    code, stdout, err = bitnet.call("convert", source, out, "--to", target)
    text = stdout.decode("utf-8", "replace") + err
    if code == 2:
        raise Failed(f"wrong usage: {short(err)}")
    if code != 0:
        sentence = bitnet.sentence(code, err)
        if out.exists():
            raise Failed(f"refused but left {out.name} behind: {sentence}")
        raise Refused(sentence)
    if not out.exists():
        raise Failed(f"exit 0 but wrote nothing: {short(text)}")
    if "trit" not in text.lower():
        raise Failed(f"printed no proof about the trits: {short(text)}")
    return out, text


class Refused(Exception):
    """The command said no, in a sentence."""


def judge(got, want, printed, where):
    if got.shape == want.shape and np.array_equal(got.view(np.uint32), want.view(np.uint32)):
        return "equal"
    worst, rms = difference(got, want)
    text = f"{where}max {worst:.2g} rms {rms:.2g}"
    if not any(word in printed.lower() for word in LOSS_WORDS):
        raise Failed(text + ", and no loss was printed")
    if worst > LOSSY["max"] or rms > LOSSY["rms"]:
        raise Failed(text + " after a printed loss")
    return text


def check(table, bitnet, source, quick):
    state = {}

    def base():
        if "logits" not in state:
            state["logits"] = bitnet.logits(source.path, source.ids)
        return state["logits"]

    for target in TARGETS:
        if not (table.wants(f"convert/{source.name}/{target}") or table.only is None):
            continue
        made = {}

        def first(target=target, made=made):
            try:
                out, printed = convert(bitnet, source.path, target)
            except Refused as why:
                if source.must_hold(target):
                    raise Failed(f"refused what it can hold: {why}") from why
                return f"refused: {str(why)[:70]}"
            made["path"], made["printed"] = out, printed
            made["logits"] = bitnet.logits(out, source.ids)
            if source.config and target.startswith("hf-"):
                same_ternary(source, out, printed)
            return judge(made["logits"], base(), printed, "")

        table.run(f"convert/{source.name}/{target}", "byte-equal, or printed loss and max 0.15 rms 0.03", first)
        if "logits" not in made:
            continue
        onward = ["hf-packed", "bitnet"] if quick else list(TARGETS)
        table.run(f"convert/{source.name}/{target}/onward", "each byte-equal, or refused or printed loss", lambda m=made, o=onward: go_on(bitnet, source, m, o))
        remove(made["path"])


def go_on(bitnet, source, made, targets):
    """From the converted file to each other form; the form it came from must come back with equal logits."""
    words = []
    for target in targets:
        try:
            out, printed = convert(bitnet, made["path"], target)
        except Refused as why:
            if target in ("bitnet", "hf-master"):
                raise Failed(f"to {target}: refused: {why}") from why
            words.append(f"{target} refused")
            continue
        except Failed as why:
            raise Failed(f"to {target}: {why}") from why
        verdict = judge(bitnet.logits(out, source.ids), made["logits"], printed, f"to {target}: ")
        if verdict != "equal":
            words.append(verdict)
        remove(out)
    return "; ".join(words) if words else f"{len(targets)} equal"


def same_ternary(source, out, printed):
    """Trits exactly, multipliers to f32 rounding, read from both directories by our own reader; names the tensor."""
    before, after = safetensors.read(source.path), safetensors.read(out)
    config = load_json(out / "config.json")
    lossy = any(word in printed.lower() for word in LOSS_WORDS)
    for name in sorted(n.removesuffix(".weight") for n in before if n.endswith("_proj.weight")):
        if name + ".weight" not in after:
            raise Failed(f"{name}.weight is missing in {out.name}")
        quantization = config.get("quantization_config") or {}
        if name + ".weight_scale" not in before and quantization.get("quant_method") != "bitnet":
            continue
        if before[name + ".weight"].dtype != np.uint8 and float_activations(source.config):
            continue
        if any(part in name for part in ("down_proj", "up_proj", "self_attn")) and unconverted(source.config, name):
            continue
        a = safetensors.ternary_of(before, name, divides(source.config))
        b = safetensors.ternary_of(after, name, divides(config))
        if not np.array_equal(a[0], b[0]):
            unequal = np.argwhere(a[0] != b[0])
            raise Failed(f"{name}: {len(unequal)} trits differ, first at row {unequal[0][0]} column {unequal[0][1]}")
        if abs(a[1] - b[1]) > 1e-6 * abs(a[1]) and not lossy:
            raise Failed(f"{name}: scale {b[1]:.9g}, was {a[1]:.9g}, and no loss was printed")


def divides(config):
    return (config.get("quantization_config") or {}).get("linear_class", "bitlinear") == "bitlinear"


def unconverted(config, name):
    """transformers' should_convert_module, as its documentation describes it."""
    import re

    patterns = (config.get("quantization_config") or {}).get("modules_to_not_convert") or []
    return any(re.match(rf"(?:{p})(?:(?<=\.)|(?=\.|$))", name) or name.endswith(p) for p in patterns)
