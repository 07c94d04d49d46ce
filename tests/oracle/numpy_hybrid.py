#!/usr/bin/env python3
"""Hybrids for the numpy engine: Gated DeltaNet token by token (arXiv:2412.06464) and gated attention, from the papers and the keys.

    python3 tests/oracle/check.py --bitnet tests/oracle/numpy_hybrid.py --part accuracy --only qwen35
    CHECK_FAULT=no-l2-norm python3 tests/oracle/check.py --bitnet tests/oracle/numpy_hybrid.py --part accuracy --only qwen35

As numpy_engine.py it tests the checker: right without a fault, and with each fault some case must fail.
"""

import sys

import numpy as np

import numpy_engine
from numpy_engine import FAULT, F, Model, rmsnorm

HYBRID_FAULTS = (
    "no-one-added", "one-added-everywhere", "no-attention-gate", "split-gate", "tiled-heads", "no-l2-norm", "no-query-scale", "no-decay",
    "decay-after", "reversed-taps", "no-conv-silu", "silu-before-norm", "whole-rotary",
)  # fmt: skip


def sigmoid(x):
    return (1 / (1 + np.exp(-x))).astype(F)


def silu(x):
    return x * sigmoid(x)


class Hybrid(Model):
    def __init__(self, directory):
        super().__init__(directory)
        self.tensors = {name.replace("model.language_model.", "model."): value for name, value in self.tensors.items()}
        c = self.config
        self.value_heads, self.key_heads = c["linear_num_value_heads"], c["linear_num_key_heads"]
        interval = c.get("full_attention_interval", 4)
        self.kinds = c.get("layer_types") or ["full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(c["num_hidden_layers"])]

    def rope_frequencies(self):
        rope = self.config.get("rope_parameters") or self.config
        share = 1 if FAULT == "whole-rotary" else rope.get("partial_rotary_factor", 0.25)
        self.rotated = int(self.head_dim * share)
        return (1 / rope["rope_theta"] ** (np.arange(0, self.rotated, 2) / self.rotated)).astype(F), F(1)

    def norm(self, x, name):
        """The class's norms hold what is added to 1."""
        weight = self.f32(name)
        return rmsnorm(x, weight if FAULT == "no-one-added" else 1 + weight, self.eps)

    def attention(self, prefix, x):
        p, tokens, dim = prefix + "self_attn.", len(x), self.head_dim
        both = self.linear(p + "q_proj", x)
        if FAULT == "split-gate":
            q, gate = (half.reshape(tokens, -1, dim) for half in np.split(both, 2, axis=-1))
        else:
            q, gate = np.split(both.reshape(tokens, -1, 2 * dim), 2, axis=-1)
        k, v = (self.linear(p + n, x).reshape(tokens, -1, dim) for n in ("k_proj", "v_proj"))
        q, k = (self.turned(self.norm(part, p + name)) for part, name in ((q, "q_norm.weight"), (k, "k_norm.weight")))
        group = self.heads // self.kv
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("thd,shd->hts", q, k) / F(np.sqrt(dim))
        scores = np.where(np.tril(np.ones((tokens, tokens), bool)), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out = np.einsum("hts,shd->thd", weights, v).astype(F)
        if FAULT != "no-attention-gate":
            out = out * sigmoid(gate)
        return self.linear(p + "o_proj", out.reshape(tokens, -1))

    def turned(self, x):
        return np.concatenate([self.rope(x[..., : self.rotated]), x[..., self.rotated :]], axis=-1)

    def convolved(self, prefix, x):
        """Each channel with its own taps, the newest last; nothing stands before the first token."""
        taps = self.f32(prefix + "conv1d.weight")[:, 0]
        taps = taps[:, ::-1] if FAULT == "reversed-taps" else taps
        count = taps.shape[1]
        padded = np.concatenate([np.zeros((count - 1, x.shape[1]), F), x])
        out = sum(padded[i : i + len(x)] * taps[:, i] for i in range(count))
        return out if FAULT == "no-conv-silu" else silu(out)

    def recurrent(self, prefix, x):
        c, p, tokens = self.config, prefix + "linear_attn.", len(x)
        key_width = self.key_heads * c["linear_key_head_dim"]
        mixed = self.convolved(p, self.linear(p + "in_proj_qkv", x))
        q, k, v = np.split(mixed, [key_width, 2 * key_width], axis=-1)
        q, k = (part.reshape(tokens, self.key_heads, -1) for part in (q, k))
        if FAULT != "no-l2-norm":
            q, k = (part / np.sqrt((part * part).sum(axis=-1, keepdims=True) + F(1e-6)) for part in (q, k))
        if FAULT != "no-query-scale":
            q = q / F(np.sqrt(q.shape[-1]))
        heads = np.arange(self.value_heads)
        reads = heads % self.key_heads if FAULT == "tiled-heads" else heads // (self.value_heads // self.key_heads)
        q, k, v = q[:, reads], k[:, reads], v.reshape(tokens, self.value_heads, -1)
        beta = sigmoid(self.linear(p + "in_proj_b", x))
        decay = np.exp(-np.exp(self.f32(p + "A_log")) * np.logaddexp(0, self.linear(p + "in_proj_a", x) + self.f32(p + "dt_bias"))).astype(F)
        out = self.delta_rule(q, k, v, beta, np.ones_like(decay) if FAULT == "no-decay" else decay)
        z = silu(self.linear(p + "in_proj_z", x).reshape(out.shape))
        weight = self.f32(p + "norm.weight") + (FAULT == "one-added-everywhere")
        out = rmsnorm(out * z, weight, self.eps) if FAULT == "silu-before-norm" else rmsnorm(out, weight, self.eps) * z
        return self.linear(p + "out_proj", out.reshape(tokens, -1).astype(F))

    @staticmethod
    def delta_rule(q, k, v, beta, decay):
        state, out = np.zeros((v.shape[1], k.shape[-1], v.shape[-1]), F), np.zeros_like(v)
        for t in range(len(v)):
            fade = decay[t][:, None, None]
            state = state if FAULT == "decay-after" else state * fade
            change = beta[t][:, None] * (v[t] - np.einsum("hk,hkv->hv", k[t], state))
            state = state + k[t][:, :, None] * change[:, None, :]
            out[t] = np.einsum("hk,hkv->hv", q[t], state)
            state = state * fade if FAULT == "decay-after" else state
        return out

    def logits(self, ids):
        embedding = self.f32("model.embed_tokens.weight")
        h = embedding[np.asarray(ids)]
        for i, kind in enumerate(self.kinds):
            p = f"model.layers.{i}."
            mixed = self.norm(h, p + "input_layernorm.weight")
            h = h + (self.attention(p, mixed) if kind == "full_attention" else self.recurrent(p, mixed))
            h = h + self.feed_forward(p, self.norm(h, p + "post_attention_layernorm.weight"))
        h = self.norm(h, "model.norm.weight")
        return (h @ embedding.T).astype(F) if self.config["tie_word_embeddings"] else self.linear("lm_head", h).astype(F)


if __name__ == "__main__":
    sys.exit(numpy_engine.main(sys.argv[1:], Hybrid))
