"""Small random models whose values numpy_engine.py computes: classes and scalings that the other makers have no example of.

    python tests/oracle/make_small.py            # numpy alone; writes testdata/numpy-made and prints the table of rope.rs

The numpy engine shares no code with `bitnet`; check.py holds it to transformers on every model of testdata/oracle.
"""

import json
import pathlib
import struct

import numpy as np

import numpy_engine

OUT = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "numpy-made"
SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-06, "hidden_act": "silu", "bos_token_id": None, "eos_token_id": 0, "torch_dtype": "float32",
}  # fmt: skip
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": False, "sliding_window": 128, "max_window_layers": 2, **SHAPE}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
BITNET = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online", "modules_to_not_convert": ["lm_head"]}
MODELS = {
    "qwen2-dense-yarn": {**QWEN2, "tie_word_embeddings": True, "rope_theta": 1000000.0, "rope_scaling": YARN},
    "qwen2-ternary": {**QWEN2, "tie_word_embeddings": False, "rope_theta": 10000.0, "rope_scaling": None, "quantization_config": BITNET},
}  # fmt: skip


def tensors(config, seed):
    random = np.random.default_rng(seed)
    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    dim = hidden // config["num_attention_heads"]
    kv = dim * config["num_key_value_heads"]
    normal = lambda scale, *shape: (random.standard_normal(shape) * scale).astype("<f4")  # noqa: E731
    out = {"model.embed_tokens.weight": normal(1, vocab, hidden), "model.norm.weight": 1 + normal(0.1, hidden)}
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = normal(0.3, vocab, hidden)
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            out[at + norm + ".weight"] = 1 + normal(0.1, hidden)
        shapes = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden), "self_attn.o_proj": (hidden, hidden)}
        shapes |= {"mlp.gate_proj": (ffn, hidden), "mlp.up_proj": (ffn, hidden), "mlp.down_proj": (hidden, ffn)}
        for name, shape in shapes.items():
            out[at + name + ".weight"] = normal(1.5 / np.sqrt(shape[1]), *shape)
            if name[-6] in "qkv":
                out[at + name + ".bias"] = normal(0.5, shape[0])
    return {name: value.astype("<f4") for name, value in out.items()}


def write(directory, config, values):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    header, blobs, at = {}, [], 0
    for name, value in values.items():
        blobs.append(value.tobytes())
        header[name] = {"dtype": "F32", "shape": value.shape, "data_offsets": [at, at + len(blobs[-1])]}
        at += len(blobs[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def expect(directory, seed):
    """Logits of one prompt that is longer than the first training's context, so that every frequency turns."""
    prompt = [int(i) for i in np.random.default_rng(seed).integers(1, SHAPE["vocab_size"], 96)]
    logits = numpy_engine.Model(directory).logits(prompt)[[0, 1, 40, 95]]
    (directory / "expected").mkdir(exist_ok=True)
    (directory / "expected" / "prompt.json").write_text(json.dumps(prompt) + "\n")
    np.save(directory / "expected" / "logits.npy", logits)


class Rope(numpy_engine.Model):
    """The rotary part of a model alone."""

    def __init__(self, head_dim, **config):
        self.config, self.head_dim = config, head_dim


def rope_table():
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}
    cases = {
        "llama3": (64, 500000.0, {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}),
        "yarn": (128, 1000000.0, yarn),
        "yarn, not truncated": (64, 10000.0, {**yarn, "truncate": False, "beta_fast": 16, "beta_slow": 2}),
        "yarn, mscale": (128, 10000.0, {**yarn, "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.707, "mscale_all_dim": 1.0}),
    }
    for name, (dim, theta, scaling) in cases.items():
        frequencies, factor = Rope(dim, rope_theta=theta, rope_scaling=scaling, max_position_embeddings=8192).rope_frequencies()
        print(name, "factor", f"{factor.view(np.uint32):#010x}")
        print("  ", [f"{frequencies[j].view(np.uint32):#010x}" for j in range(0, dim // 2, dim // 16)])


if __name__ == "__main__":
    for seed, (name, config) in enumerate(MODELS.items(), 700):
        write(OUT / name, config, tensors(config, seed))
        expect(OUT / name, seed + 100)
    rope_table()
