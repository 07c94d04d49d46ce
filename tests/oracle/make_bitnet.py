"""BitNetForCausalLM models the shipped oracle lacks; see README.md here for how to run it and with which versions.

    python tests/oracle/make_bitnet.py [NAME ...]
"""

import shutil
import sys
import tempfile
import pathlib

import torch
from transformers import BitNetConfig, BitNetForCausalLM

import oracle_tokenizers as tok
from oracle_models import (
    MADE, TEXT, bitnet_config, expect, jitter_norms, load_f32, prompts_of, save, state_of, to_autobitlinear, train,
)  # fmt: skip

TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)


def trained(seed, tokenizer, bos, skip=("lm_head",), use_rms_norm=False, quant_eps=1e-6, steps=260, **shape):
    torch.manual_seed(seed)
    config = BitNetConfig(**{k: v for k, v in bitnet_config(**shape).items() if k not in ("architectures", "torch_dtype", "model_type")})
    model = BitNetForCausalLM(config).float()
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.08)
    if not config.tie_word_embeddings:
        torch.nn.init.normal_(model.lm_head.weight, std=0.08)
    to_autobitlinear(model, skip, use_rms_norm, quant_eps)
    jitter_norms(model)
    return train(model, tokenizer, bos, steps=steps)


def write(name, model, shape, form, dtype, tokenizer, bos, quant=None, shards=1, scale_dtype=torch.float32):
    print(name, flush=True)
    size = tokenizer.get_vocab_size()
    config = bitnet_config(**shape, bos_token_id=bos, eos_token_id=bos + 1, vocab_size=size)
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    quantization = {"quant_method": "bitnet"}
    if form != "bitlinear":
        quantization |= {"linear_class": "autobitlinear", "quantization_mode": form}
    config["quantization_config"] = quantization | (quant or {})
    extra = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    save(MADE / name, config, state_of(model, form, dtype, scale_dtype), tokenizer, shards, extra, TEMPLATE)
    expect(load_f32(MADE / name), prompts_of(tokenizer, bos), MADE / name / "expected" / "f32")


def odd_sizes(names):
    """hidden 96, ffn 200, 3 heads of 32 with 1 kv head: no multiple of 64, 128 or 256."""
    big = tok.llama3(TEXT, 1000)
    bos = big.token_to_id("<|begin_of_text|>")
    shape = dict(hidden_size=96, intermediate_size=200, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=False)
    if "bitnet-d-offline-packed-3shards" in names:
        model = trained(401, big, bos, vocab_size=1000, **shape)
        write("bitnet-d-offline-packed-3shards", model, shape, "offline", torch.bfloat16, big, bos, shards=3, scale_dtype=torch.bfloat16)
    small = tok.llama3(TEXT, 384)
    bos = small.token_to_id("<|begin_of_text|>")
    shape = dict(shape, intermediate_size=104, num_hidden_layers=1, tie_word_embeddings=True)
    if names & {"bitnet-e-online-f32", "bitnet-e-bitlinear-packed"}:
        model = trained(402, small, bos, vocab_size=384, **shape)
        write("bitnet-e-online-f32", model, shape, "online", torch.float32, small, bos)
        write("bitnet-e-bitlinear-packed", model, shape, "bitlinear", torch.bfloat16, small, bos, scale_dtype=torch.bfloat16)
    # 5 query heads on one kv head, head size 12: GQA 5/1 and a head that fills no vector.
    shape = dict(shape, hidden_size=60, intermediate_size=148, num_hidden_layers=1, num_attention_heads=5, tie_word_embeddings=False, rms_norm_eps=1e-6, rope_theta=10000.0)
    if "bitnet-e2-online-f16" in names:
        model = trained(403, small, bos, vocab_size=384, **shape)
        write("bitnet-e2-online-f16", model, shape, "online", torch.float16, small, bos)


def biases(names):
    small = tok.llama3(TEXT, 320)
    bos = small.token_to_id("<|begin_of_text|>")
    shape = dict(hidden_size=64, intermediate_size=152, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=1, attention_bias=True)
    model = trained(404, small, bos, vocab_size=320, **shape)
    write("bitnet-f-bias-online-bf16", model, shape, "online", torch.bfloat16, small, bos)
    write("bitnet-f-bias-offline-packed", model, shape, "offline", torch.bfloat16, small, bos)
    write("bitnet-f-bias-bitlinear-packed", model, shape, "bitlinear", torch.bfloat16, small, bos)


def projection_norms(names):
    small = tok.llama3(TEXT, 320)
    bos = small.token_to_id("<|begin_of_text|>")
    shape = dict(hidden_size=64, intermediate_size=152, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2)
    # The eps of these norms is its own key, and not the model's: 1e-3 makes a mix-up visible.
    model = trained(405, small, bos, use_rms_norm=True, quant_eps=1e-3, vocab_size=320, **shape)
    quant = {"use_rms_norm": True, "rms_norm_eps": 1e-3}
    write("bitnet-g-rmsnorm-online-bf16", model, shape, "online", torch.bfloat16, small, bos, quant)
    write("bitnet-g-rmsnorm-offline-packed", model, shape, "offline", torch.bfloat16, small, bos, quant)
    write("bitnet-g-rmsnorm-bitlinear-packed", model, shape, "bitlinear", torch.bfloat16, small, bos, quant)


def unconverted(names):
    """Some layers stay dense: named by prefix (a whole attention), by suffix, and by a regular expression."""
    small = tok.llama3(TEXT, 320)
    bos = small.token_to_id("<|begin_of_text|>")
    shape = dict(hidden_size=64, intermediate_size=152, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
    patterns = ["lm_head", "model.layers.1.self_attn", "layers.2.mlp.down_proj", r"model\.layers\.[0]\.mlp\.up_proj"]
    skip = ("lm_head", "model.layers.1.self_attn", "layers.2.mlp.down_proj", "model.layers.0.mlp.up_proj")
    model = trained(406, small, bos, skip=skip, vocab_size=320, **shape)
    quant = {"modules_to_not_convert": patterns}
    write("bitnet-h-unconverted-offline-packed", model, shape, "offline", torch.bfloat16, small, bos, quant)


def ternary_head(names):
    """A list that does not name lm_head: transformers then packs the untied head like any other linear layer."""
    small = tok.llama3(TEXT, 320)
    bos = small.token_to_id("<|begin_of_text|>")
    shape = dict(hidden_size=64, intermediate_size=152, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
    model = trained(408, small, bos, skip=("model.layers.0.mlp.gate_proj",), vocab_size=320, **shape)
    quant = {"modules_to_not_convert": ["model.layers.0.mlp.gate_proj"]}
    write("bitnet-h2-ternaryhead-bitlinear-packed", model, shape, "bitlinear", torch.bfloat16, small, bos, quant)


def community(names):
    """1bitLLM spelling: BitnetForCausalLM, model_type llama, other norm names, f16 masters, sentencepiece tokenizer."""
    name = "bitnet-i-1bitllm-f16"
    spm, _ = tok.sentencepiece(TEXT, 480)
    size = spm.get_vocab_size()
    shape = dict(hidden_size=96, intermediate_size=152, num_hidden_layers=1, num_attention_heads=6, num_key_value_heads=6, hidden_act="silu", rope_theta=10000.0)
    model = trained(407, spm, 1, vocab_size=size, **shape)
    state = state_of(model, "online", torch.float16)
    # Expected values: transformers' own class under its own names.
    with tempfile.TemporaryDirectory() as scratch:
        own = bitnet_config(**shape, bos_token_id=1, eos_token_id=2, vocab_size=size, torch_dtype="float16")
        own["quantization_config"] = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"}
        save(pathlib.Path(scratch) / "m", own, state, None)
        print(name, flush=True)
        reference = load_f32(pathlib.Path(scratch) / "m")
        renamed = {n.replace("attn_sub_norm", "inner_attn_ln").replace("ffn_sub_norm", "ffn_layernorm"): t for n, t in state.items()}
        config = {
            "architectures": ["BitnetForCausalLM"], "model_type": "llama", "attention_bias": False, "attention_dropout": 0.0,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": size - 2, "hidden_act": "silu", "hidden_size": 96,
            "initializer_range": 0.02, "input_bits": 8, "intermediate_size": 152, "max_position_embeddings": 512,
            "num_attention_heads": 6, "num_hidden_layers": 1, "num_key_value_heads": 6, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
            "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": True, "torch_dtype": "float16",
            "transformers_version": "4.39.0", "use_cache": True, "vocab_size": size, "weight_bits": 1,
        }  # fmt: skip
        extra = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True, "legacy": False}
        save(MADE / name, config, renamed, spm, tokenizer_config=extra)
        expect(reference, prompts_of(spm, 1), MADE / name / "expected" / "f32")


GROUPS = [
    (odd_sizes, {"bitnet-d-offline-packed-3shards", "bitnet-e-online-f32", "bitnet-e-bitlinear-packed", "bitnet-e2-online-f16"}),
    (biases, {"bitnet-f"}), (projection_norms, {"bitnet-g"}), (unconverted, {"bitnet-h-"}), (ternary_head, {"bitnet-h2"}), (community, {"bitnet-i"}),
]  # fmt: skip

if __name__ == "__main__":
    wanted = set(sys.argv[1:])
    for maker, names in GROUPS:
        chosen = names if not wanted else {n for n in names if any(n.startswith(w) for w in wanted)}
        if chosen:
            maker(chosen)
