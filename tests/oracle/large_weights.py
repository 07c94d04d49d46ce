"""Weights of the large-shape case from a seed, with numpy alone, so that a checker can make them where it runs.

    python tests/oracle/large_weights.py DIRECTORY

Writes a BitNetForCausalLM directory (packed, autobitlinear offline) of hidden 2560, ffn 6912, one layer, heads 20/5,
vocabulary 512: the matrices of the 2B-4T model. Only PCG64's raw integers and exact integer arithmetic are used, so
the bytes do not depend on the numpy version.
"""

import json
import pathlib
import struct
import sys

import numpy as np

SEED = 7001
HIDDEN, FFN, HEADS, KV, HEAD_DIM, VOCABULARY = 2560, 6912, 20, 5, 128, 512


def bf16_bytes(values):
    """Values that bf16 holds exactly (multiples of a power of two with up to 8 significant bits)."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    assert not (bits & 0xFFFF).any()
    return (bits >> 16).astype("<u2").tobytes()


def small_floats(stream, shape, scale):
    """Roughly bell-shaped: a sum of four 6-bit numbers, centred, times a power of two."""
    raw = stream.random_raw(int(np.prod(shape)))
    total = sum(((raw >> np.uint64(8 * k)) & np.uint64(63)).astype(np.int64) for k in range(4)) - 126
    return (total.astype(np.float32) * np.float32(scale)).reshape(shape)


def packed(stream, rows, columns):
    """HF uint8 layout; codes 0, 1, 2 from two bits (3 becomes 1, so about half the weights are zero)."""
    raw = stream.random_raw(rows // 4 * columns)
    out = np.zeros(len(raw), dtype=np.uint8)
    for k in range(4):
        code = ((raw >> np.uint64(16 * k + 5)) & np.uint64(3)).astype(np.uint8)
        code[code == 3] = 1
        out |= code << np.uint8(2 * k)
    return out.reshape(rows // 4, columns)


def tensors():
    s = np.random.PCG64(SEED)
    p = "model.layers.0."
    shapes = {
        "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN), "self_attn.k_proj": (KV * HEAD_DIM, HIDDEN), "self_attn.v_proj": (KV * HEAD_DIM, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM), "mlp.gate_proj": (FFN, HIDDEN), "mlp.up_proj": (FFN, HIDDEN), "mlp.down_proj": (HIDDEN, FFN),
    }  # fmt: skip
    # The residual stream outweighs the layer's output: with rounding steps as coarse as relu2's outliers make them, a
    # random layer on its own would turn one flipped int8 into a difference of several per cent.
    yield "model.embed_tokens.weight", "BF16", (VOCABULARY, HIDDEN), bf16_bytes(small_floats(s, (VOCABULARY, HIDDEN), 2.0**-6))
    yield "lm_head.weight", "BF16", (VOCABULARY, HIDDEN), bf16_bytes(small_floats(s, (VOCABULARY, HIDDEN), 2.0**-9))
    for i, (name, (rows, columns)) in enumerate(shapes.items()):
        yield f"{p}{name}.weight", "U8", (rows // 4, columns), packed(s, rows, columns).tobytes()
        unit = 2.0**-17 if name in ("self_attn.o_proj", "mlp.down_proj") else 2.0**-12
        yield f"{p}{name}.weight_scale", "BF16", (1,), bf16_bytes(np.float32([(130 + 9 * i) * unit]))
    norms = {"input_layernorm": HIDDEN, "post_attention_layernorm": HIDDEN, "self_attn.attn_sub_norm": HIDDEN, "mlp.ffn_sub_norm": FFN}
    for name, n in norms.items():
        raw = s.random_raw(n) & np.uint64(63)
        yield f"{p}{name}.weight", "BF16", (n,), bf16_bytes((raw.astype(np.float32) + 96) / 128)
    yield "model.norm.weight", "BF16", (HIDDEN,), bf16_bytes(((s.random_raw(HIDDEN) & np.uint64(63)).astype(np.float32) + 96) / 128)


CONFIG = {
    "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": 1,
    "num_attention_heads": HEADS, "num_key_value_heads": KV, "hidden_act": "relu2", "max_position_embeddings": 4096, "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0, "tie_word_embeddings": False, "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1,
    "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"},
}  # fmt: skip


def write(directory):
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    header, blobs, offset = {}, [], 0
    for name, dtype, shape, blob in tensors():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(directory / "model.safetensors", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.writelines(blobs)
    (directory / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


if __name__ == "__main__":
    write(sys.argv[1])
