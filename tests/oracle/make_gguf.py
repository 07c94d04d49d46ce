"""GGUF files of small models: header, keys and blocks by gguf_blocks.py, expected values by transformers.

    python tests/oracle/make_gguf.py [NAME ...]

The expected model is given exactly the numbers of the file (f16 scales of TQ blocks, bf16 or Q8_0 embeddings).
"""

import json
import pathlib
import sys
import tempfile

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import gguf_blocks as gb
import oracle_tokenizers as tok
from make_bitnet import trained
from make_llama import ROPE, base
from make_qwen3 import config_of, fresh as fresh_qwen3
from oracle_models import (
    MADE, TEXT, absmean_ternary, bake, bitnet_config, expect, jitter_norms, load_f32, prompts_of, save, state_of, ternarize, to_autobitlinear, train,
)  # fmt: skip

OUT = MADE / "gguf"
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
NORMS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.attn_sub_norm": "attn_sub_norm",
    "mlp.ffn_sub_norm": "ffn_sub_norm", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
}  # fmt: skip


def keys(writer, arch, config, head_dim, file_type, **more):
    writer.pair("general.architecture", arch)
    writer.pair("general.name", "made for tests")
    numbers = {
        "context_length": 512, "embedding_length": config.hidden_size, "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size, "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads, "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.freq_base": float(config.rope_parameters["rope_theta"]), "rope.dimension_count": head_dim, "vocab_size": config.vocab_size, **more,
    }  # fmt: skip
    for key, value in numbers.items():
        writer.pair(f"{arch}.{key}", value)
    writer.pair("general.file_type", file_type)


def byte_level(writer, tokenizer, pre, bos, eos, add_bos):
    data = json.loads(tokenizer.to_str())
    tokens = [t for t, _ in sorted(tokenizer.get_vocab().items(), key=lambda kv: kv[1])]
    special = {t["id"] for t in data["added_tokens"] if t["special"]}
    writer.pair("tokenizer.ggml.model", "gpt2")
    if pre:
        writer.pair("tokenizer.ggml.pre", pre)
    writer.pair("tokenizer.ggml.tokens", tokens)
    writer.pair("tokenizer.ggml.token_type", [3 if i in special else 1 for i in range(len(tokens))])
    writer.pair("tokenizer.ggml.merges", [" ".join(m) for m in data["model"]["merges"]])
    writer.pair("tokenizer.ggml.bos_token_id", bos)
    writer.pair("tokenizer.ggml.eos_token_id", eos)
    writer.pair("tokenizer.ggml.add_bos_token", add_bos)


def sentencepiece(writer, extra):
    kinds = [2, 3, 3] + [6] * 256 + [1] * (len(extra["tokens"]) - 261) + [3, 4]
    writer.pair("tokenizer.ggml.model", "llama")
    writer.pair("tokenizer.ggml.tokens", extra["tokens"])
    writer.pair("tokenizer.ggml.scores", extra["scores"])
    writer.pair("tokenizer.ggml.token_type", kinds)
    for key, value in {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0, "add_bos_token": True, "add_space_prefix": True}.items():
        writer.pair(f"tokenizer.ggml.{key}", value)


def norms(writer, model):
    for i, layer in enumerate(model.model.layers):
        for hf, name in NORMS.items():
            try:
                writer.tensor(f"blk.{i}.{name}.weight", *f32(layer.get_submodule(hf).weight))
            except AttributeError:
                continue  # this family has no such norm
    writer.tensor("output_norm.weight", *f32(model.model.norm.weight))


def f32(value):
    v = value.detach().float().numpy()
    return v.shape, gb.F32, v.astype("<f4").tobytes()


def f16(value):
    v = value.detach().float().numpy()
    assert np.array_equal(v.astype(np.float16).astype(np.float32), v)
    return v.shape, gb.F16, v.astype("<f2").tobytes()


def matrices(writer, model, type_of, permuted=False):
    """Packs every projection and sets the model's own weight to what the file holds, as (trits, scale)."""
    packers = {gb.I2_S: gb.i2_s, gb.TQ1_0: gb.tq1_0, gb.TQ2_0: gb.tq2_0}
    config, held = model.config, {}
    for i, layer in enumerate(model.model.layers):
        for hf, name in NAMES.items():
            trits, mean = absmean_ternary(layer.get_submodule(hf).weight.detach())
            trits, type_id = trits.numpy().astype(np.int8), type_of(name)
            scale = np.float32(mean) if type_id == gb.I2_S else np.float32(np.float16(mean))
            held[f"model.layers.{i}.{hf}"] = (trits, scale)
            if permuted and name in ("attn_q", "attn_k"):
                trits = gb.permute(trits, config.num_attention_heads if name == "attn_q" else config.num_key_value_heads)
            blocks = packers[type_id](trits, scale)
            if type_id != gb.I2_S:
                dequantized = gguf.quants.dequantize(np.frombuffer(blocks, np.uint8), gguf.GGMLQuantizationType(type_id))
                assert np.array_equal(dequantized.reshape(trits.shape), trits * scale), name
            writer.tensor(f"blk.{i}.{name}.weight", trits.shape, type_id, blocks)
    return held


def reference(model, held, config, dtype=torch.float32):
    """transformers' offline form of the held trits and scales (packed by transformers), loaded in f32."""
    from transformers.integrations.bitnet import pack_weights

    state = state_of(model, "dense", dtype)
    for name, (trits, scale) in held.items():
        state[name + ".weight"] = pack_weights(torch.from_numpy(trits.astype(np.float32)))
        state[name + ".weight_scale"] = torch.tensor([scale], dtype=torch.float32)
    config = {**config, "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline", "modules_to_not_convert": ["lm_head"]}}
    with tempfile.TemporaryDirectory() as scratch:
        save(pathlib.Path(scratch) / "m", config, state, None)
        return load_f32(pathlib.Path(scratch) / "m")


def finish(name, writer, model, tokenizer, bos):
    OUT.mkdir(exist_ok=True)
    path, folder = OUT / f"{name}.gguf", OUT / "expected" / name
    path.write_bytes(writer.bytes())
    expect(model, prompts_of(tokenizer, bos), folder, acts=False)
    # A GGUF vocabulary names no normalizer, so the text that NFC changes proves nothing here.
    tok.write_cases(tokenizer, folder / "tokenizer_cases.json", skip="e\u0301")
    if all(t[2] not in (gb.I2_S, gb.Q2_0) for t in writer.tensors):
        read_back(path, writer)


def read_back(path, writer):
    """The `gguf` package reads the same names, shapes and dequantized numbers."""
    reader = gguf.GGUFReader(path)
    assert [t.name for t in reader.tensors] == [t[0] for t in writer.tensors]
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.isfinite(values).all() and values.size == int(np.prod(tensor.shape)), tensor.name
    print(f"  {path.name}: read back by gguf {len(reader.tensors)} tensors", flush=True)


def bitnet_v2(name):
    """arch bitnet-b1.58, I2_S, container version 2, no `pre` key, head_count_kv 1, alignment 64."""
    t = tok.llama3(TEXT, 320)
    bos = t.token_to_id("<|begin_of_text|>")
    shape = dict(hidden_size=128, intermediate_size=384, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=1)
    model = trained(701, t, bos, vocab_size=320, **shape).half().float()
    writer = gb.Writer(version=2, alignment=64)
    keys(writer, "bitnet-b1.58", model.config, 32, 40)
    byte_level(writer, t, "llama-bpe", bos, bos + 1, True)
    writer.tensor("token_embd.weight", *f16(model.model.embed_tokens.weight))
    norms(writer, model)
    held = matrices(writer, model, lambda _: gb.I2_S)
    finish(name, writer, reference(model, held, bitnet_config(**shape, vocab_size=320, bos_token_id=bos, eos_token_id=bos + 1)), t, bos)


def bitnet_spm(name):
    """arch bitnet (SiLU), sentencepiece vocabulary with scores and byte tokens, bf16 embedding."""
    t, extra = tok.sentencepiece(TEXT, 384)
    size = t.get_vocab_size()
    shape = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4, hidden_act="silu", rope_theta=10000.0)
    model = trained(702, t, 1, vocab_size=size, **shape).bfloat16().float()
    writer = gb.Writer()
    keys(writer, "bitnet", model.config, 32, 40)
    sentencepiece(writer, extra)
    embedding = model.model.embed_tokens.weight.detach().numpy()
    writer.tensor("token_embd.weight", embedding.shape, gb.BF16, gb.bf16(embedding))
    norms(writer, model)
    held = matrices(writer, model, lambda _: gb.I2_S)
    finish(name, writer, reference(model, held, bitnet_config(**shape, vocab_size=size, bos_token_id=1, eos_token_id=2)), t, 1)


def llama_mixed(name):
    """arch llama: q/k permuted, rope_freqs.weight, attention in TQ1_0, feed-forward in TQ2_0, Q8_0 embedding and head."""
    t = tok.llama3(TEXT, 320)
    bos = t.token_to_id("<|begin_of_text|>")
    shape = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=64, vocab_size=320, bos_token_id=bos, eos_token_id=bos + 1)
    torch.manual_seed(703)
    rope = {**ROPE, "rope_theta": 10000.0}
    model = LlamaForCausalLM(LlamaConfig(**base(shape), rope_parameters=rope)).float()
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.08)
    torch.nn.init.normal_(model.lm_head.weight, std=0.08)
    to_autobitlinear(model, ("lm_head",))
    jitter_norms(model)
    train(model, t, bos)
    writer = gb.Writer()
    keys(writer, "llama", model.config, 64, 36, **{"attention.key_length": 64, "attention.value_length": 64})
    byte_level(writer, t, "llama-bpe", bos, bos + 1, True)
    for tensor, parameter in (("token_embd.weight", model.model.embed_tokens.weight), ("output.weight", model.lm_head.weight)):
        blocks = gguf.quants.quantize(parameter.detach().numpy(), gguf.GGMLQuantizationType.Q8_0)
        writer.tensor(tensor, tuple(parameter.shape), gb.Q8_0, blocks.tobytes())
        parameter.data.copy_(torch.from_numpy(gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)))
    norms(writer, model)
    half = torch.arange(0, 64, 2, dtype=torch.float32) / 64
    divisors = (1.0 / 10000.0**half) / model.model.rotary_emb.inv_freq
    writer.tensor("rope_freqs.weight", *f32(divisors))
    held = matrices(writer, model, lambda n: gb.TQ1_0 if n.startswith("attn") else gb.TQ2_0, permuted=True)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **base(shape), "rope_parameters": rope, "dtype": "float32"}
    finish(name, writer, reference(model, held, config), t, bos)


def qwen3_groups(name):
    """arch qwen3, Q2_0 groups of 64, untied ternary head and embedding, key_length other than hidden / heads."""
    t = tok.qwen2(TEXT, 320)
    bos = t.token_to_id("<|endoftext|>")
    shape = dict(hidden_size=64, intermediate_size=192, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=1, head_dim=32, vocab_size=320, bos_token_id=bos, eos_token_id=bos + 2)
    model = fresh_qwen3(704, shape)
    for m in list(model.modules()):
        if isinstance(m, (torch.nn.Linear, torch.nn.Embedding)):
            ternarize(m, 1, 64)
    jitter_norms(model)
    train(model, t, bos)
    bake(model)
    writer = gb.Writer()
    keys(writer, "qwen3", model.config, 32, 41, **{"attention.key_length": 32, "attention.value_length": 32})
    byte_level(writer, t, "qwen2", bos, bos + 2, False)
    norms(writer, model)
    pieces = {"token_embd": model.model.embed_tokens, "output": model.lm_head}
    pieces |= {f"blk.0.{n}": model.model.layers[0].get_submodule(hf) for hf, n in NAMES.items()}
    for tensor, module in pieces.items():
        w = module.weight.detach().numpy()
        groups = w.reshape(-1, 64)
        scales = np.abs(groups).max(axis=1)
        trits = np.sign(groups).astype(np.int8)
        assert np.array_equal(trits * scales[:, None], groups)
        writer.tensor(f"{tensor}.weight", w.shape, gb.Q2_0, gb.q2_0(trits, scales))
    config = config_of(shape, rope_theta=1e6, torch_dtype="float32")
    with tempfile.TemporaryDirectory() as scratch:
        save(pathlib.Path(scratch) / "m", config, state_of(model, "dense", torch.float32), None)
        finish(name, writer, load_f32(pathlib.Path(scratch) / "m"), t, bos)


MAKERS = {
    "bitnet-j-v2-I2_S": bitnet_v2,
    "bitnet-k-spm-I2_S": bitnet_spm,
    "llama-l-ropefreqs-TQ1_0-TQ2_0": llama_mixed,
    "qwen3-m-untied-Q2_0": qwen3_groups,
}

if __name__ == "__main__":
    for name, maker in MAKERS.items():
        if len(sys.argv) == 1 or any(name.startswith(w) for w in sys.argv[1:]):
            print(name, flush=True)
            maker(name)
