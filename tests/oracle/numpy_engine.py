#!/usr/bin/env python3
"""A slow engine in numpy, written from the description of the arithmetic, that answers like `bitnet` does.

    python3 tests/oracle/check.py --bitnet tests/oracle/numpy_engine.py --part accuracy --only PATTERN
    CHECK_FAULT=no-act-quant python3 tests/oracle/check.py --bitnet tests/oracle/numpy_engine.py ...

It is there to test the checker: without a fault every Hugging Face case must pass, and with each fault of FAULTS some case
must fail. It shares no code with the engine or with transformers. `logits` and `run` on Hugging Face directories only;
anything else is refused.
"""

import json
import math
import os
import pathlib
import re
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from checks.safetensors import read, unpack  # noqa: E402

F = np.float32
FAULTS = (
    "none", "silu-for-relu2", "no-act-quant", "wrong-scale-meaning", "eps-1e-6", "interleaved-rope", "no-rope-scaling", "no-bias",
    "no-projection-norm", "model-eps-in-projection-norm", "one-scale-per-matrix", "ignore-unconverted", "no-sub-norm", "truncate", "block-act",
)  # fmt: skip
FAULT = os.environ.get("CHECK_FAULT", "none")


def rmsnorm(x, weight, eps):
    return (x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True, dtype=F) + F(eps))).astype(F) * weight


def quantize(x):
    step = np.maximum(np.abs(x).max(axis=-1, keepdims=True), F(1e-5))
    scaled = x * (F(127) / step)
    return (np.trunc(scaled) if FAULT == "truncate" else np.rint(scaled)).clip(-128, 127), step / F(127)


class Model:
    def __init__(self, directory):
        self.config = c = self.text(json.loads((directory / "config.json").read_text()))
        self.tensors = read(directory)
        self.quant = c.get("quantization_config") or {}
        self.one_bit = c["architectures"][0] == "BitnetForCausalLM"
        self.bitnet = c["architectures"][0] in ("BitNetForCausalLM", "BitnetForCausalLM")
        if self.one_bit:
            self.quant = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
            self.tensors = {n.replace("inner_attn_ln", "attn_sub_norm").replace("ffn_layernorm", "ffn_sub_norm"): t for n, t in self.tensors.items()}
        self.heads, self.kv = c["num_attention_heads"], c["num_key_value_heads"]
        self.head_dim = c.get("head_dim") or c["hidden_size"] // self.heads
        self.eps = 1e-6 if FAULT == "eps-1e-6" else c["rms_norm_eps"]
        self.linears = {}
        self.frequencies, self.magnitude = self.rope_frequencies()

    @staticmethod
    def text(config):
        """The part about text, of models that see."""
        return {**config, **config.get("text_config", {})}

    def rope_frequencies(self):
        c = self.config
        rope = c.get("rope_parameters") or {}
        scaling = c.get("rope_scaling") or rope
        theta = c.get("rope_theta") or rope["rope_theta"]
        inv = (1.0 / theta ** (np.arange(0, self.head_dim, 2) / self.head_dim)).astype(F)
        kind = scaling.get("rope_type") or scaling.get("type")
        if kind == "yarn" and FAULT != "no-rope-scaling":
            return self.yarn(scaling, theta)
        if kind != "llama3" or FAULT == "no-rope-scaling":
            return inv, F(1)
        old, low, high, factor = scaling["original_max_position_embeddings"], scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
        wavelength = 2 * np.pi / inv
        t = (old / wavelength - low) / (high - low)
        middle = (1 - t) * inv / factor + t * inv
        return np.where(wavelength > old / low, inv / factor, np.where(wavelength < old / high, inv, middle)).astype(F), F(1)

    def yarn(self, scaling, theta):
        """Frequencies and the factor of queries and keys (arXiv:2309.00071): Python's doubles for the ramp's ends, f32 for the rest."""
        dim, factor = self.head_dim, float(scaling["factor"])
        old = scaling.get("original_max_position_embeddings", self.config["max_position_embeddings"])

        def turning(turns):
            return dim * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(theta))

        def magnitude(mscale):
            return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0

        low, high = turning(scaling.get("beta_fast") or 32), turning(scaling.get("beta_slow") or 1)
        if scaling.get("truncate", True):
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        high += 0.001 if low == high else 0
        power = np.power(np.float64(theta), (np.arange(0, dim, 2).astype(F) / F(dim)).astype(np.float64)).astype(F)
        kept, divided = F(1) / power, F(1) / (F(factor) * power)
        share = F(1) - np.clip((np.arange(dim // 2).astype(F) - F(low)) / F(high - low), F(0), F(1))
        whole = scaling.get("attention_factor")
        if whole is None:
            one, every = scaling.get("mscale"), scaling.get("mscale_all_dim")
            whole = magnitude(one) / magnitude(every) if one and every else magnitude(1)
        return divided * (F(1) - share) + kept * share, F(whole)

    def f32(self, name):
        value = self.tensors.get(name)
        return None if value is None else value.astype(F)

    def converted(self, name):
        if self.quant.get("quant_method") != "bitnet":
            return False
        patterns = self.quant.get("modules_to_not_convert")
        if patterns is None:
            return name != "lm_head"
        return not any(re.match(rf"(?:{p})(?:(?<=\.)|(?=\.|$))", name) or name.endswith(p) for p in patterns)

    def weights(self, name):
        """(matrix, multiplier after the product or None, quantize activations?)"""
        if name in self.linears:
            return self.linears[name]
        weight, scale = self.tensors[name + ".weight"], self.f32(name + ".weight_scale")
        ternary = self.converted(name) or FAULT == "ignore-unconverted" and "proj" in name
        if weight.dtype == np.uint8:
            divide = self.quant.get("linear_class", "bitlinear") == "bitlinear"
            value = (1 / scale[0] if divide != (FAULT == "wrong-scale-meaning") else scale[0]).astype(F)
            out = (unpack(weight).astype(F), value, divide)
        elif ternary:
            w = weight.astype(F)
            mean = max(np.abs(w.astype(np.float64)).mean(), 1e-5)
            out = (np.rint(w / F(mean)).clip(-1, 1), F(mean), None)
        else:
            w = weight.astype(F)
            if FAULT == "one-scale-per-matrix" and "proj" in name:
                w = np.sign(w) * np.abs(w[w != 0]).mean()
            out = (w, None, None)
        self.linears[name] = out
        return out

    def linear(self, name, x):
        matrix, multiplier, divide = self.weights(name)
        bias = None if FAULT == "no-bias" else self.f32(name + ".bias")
        norm = self.f32(name + ".rms_norm.weight")
        if norm is not None and FAULT != "no-projection-norm":
            x = rmsnorm(x, norm, self.eps if FAULT == "model-eps-in-projection-norm" else self.quant.get("rms_norm_eps", 1e-6))
        if multiplier is None:
            y = x @ matrix.T
            return y if bias is None else y + bias
        if FAULT == "no-act-quant":
            y = (x @ matrix.T) * multiplier
        elif FAULT == "block-act":
            y = sum((lambda q, s: (q @ matrix[:, b : b + 32].T) * s)(*quantize(x[:, b : b + 32])) for b in range(0, x.shape[1], 32)) * multiplier
        else:
            q, step = quantize(x)
            y = (q @ matrix.T) * step * multiplier  # the product of small integers is exact in f32
        if bias is None:
            return y
        # Only the offline automatic form multiplies its bias by the weight scale.
        return y + bias * multiplier if divide is False else y + bias

    def rope(self, x):
        angles = np.arange(x.shape[0], dtype=F)[:, None] * self.frequencies
        cos, sin = (f(angles)[:, None].astype(F) * self.magnitude for f in (np.cos, np.sin))
        if FAULT == "interleaved-rope":
            a, b = x[..., 0::2], x[..., 1::2]
            return np.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(x.shape)
        half = x.shape[-1] // 2
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def attention(self, prefix, x):
        tokens = len(x)
        q, k, v = (self.linear(f"{prefix}self_attn.{n}_proj", x).reshape(tokens, -1, self.head_dim) for n in "qkv")
        if prefix + "self_attn.q_norm.weight" in self.tensors:
            q = rmsnorm(q, self.f32(prefix + "self_attn.q_norm.weight"), self.eps)
            k = rmsnorm(k, self.f32(prefix + "self_attn.k_norm.weight"), self.eps)
        q, k = self.rope(q), self.rope(k)
        group = self.heads // self.kv
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("thd,shd->hts", q, k) / F(np.sqrt(self.head_dim))
        scores = np.where(np.tril(np.ones((tokens, tokens), bool)), scores, -np.inf)
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        out = np.einsum("hts,shd->thd", p, v).reshape(tokens, -1).astype(F)
        if self.bitnet and FAULT != "no-sub-norm":
            out = rmsnorm(out, self.f32(prefix + "self_attn.attn_sub_norm.weight"), self.eps)
        return self.linear(prefix + "self_attn.o_proj", out)

    def feed_forward(self, prefix, x):
        gate, up = self.linear(prefix + "mlp.gate_proj", x), self.linear(prefix + "mlp.up_proj", x)
        if self.config["hidden_act"] == "relu2" and FAULT != "silu-for-relu2":
            gate = np.maximum(gate, 0) ** 2
        else:
            gate = gate / (1 + np.exp(-gate))
        out = (gate * up).astype(F)
        if self.bitnet and FAULT != "no-sub-norm":
            out = rmsnorm(out, self.f32(prefix + "mlp.ffn_sub_norm.weight"), self.eps)
        return self.linear(prefix + "mlp.down_proj", out)

    def logits(self, ids):
        embedding = self.f32("model.embed_tokens.weight")
        h = embedding[np.asarray(ids)]
        for i in range(self.config["num_hidden_layers"]):
            p = f"model.layers.{i}."
            h = h + self.attention(p, rmsnorm(h, self.f32(p + "input_layernorm.weight"), self.eps))
            h = h + self.feed_forward(p, rmsnorm(h, self.f32(p + "post_attention_layernorm.weight"), self.eps))
        h = rmsnorm(h, self.f32("model.norm.weight"), self.eps)
        if "lm_head.weight" in self.tensors and not self.config.get("tie_word_embeddings", False):
            return self.linear("lm_head", h).astype(F)
        return (h @ embedding.T).astype(F)


def main(arguments, engine=Model):
    command, directory = arguments[0], pathlib.Path(arguments[1])
    if command not in ("logits", "run") or not directory.is_dir():
        print(f"the numpy engine has no answer to {' '.join(arguments[:2])}", file=sys.stderr)
        return 2
    ids = json.loads(pathlib.Path(arguments[arguments.index("--ids-file") + 1]).read_text())
    model = engine(directory)
    if command == "logits":
        np.save(arguments[arguments.index("--out") + 1], model.logits(ids))
        return 0
    made = []
    for _ in range(int(arguments[arguments.index("--max-new-tokens") + 1])):
        made.append(int(model.logits(ids + made)[-1].argmax()))
    print(json.dumps(made))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
