"""Llama-class models the shipped oracle lacks: ternary with llama3 rope scaling, TriLM (a scale per shard), dense ones.

    python tests/oracle/make_llama.py [NAME ...]
"""

import json
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import oracle_tokenizers as tok
from oracle_models import (
    MADE, TEXT, bake, expect, jitter_norms, load_f32, prompts_of, save, state_of, ternarize, to_autobitlinear, train,
)  # fmt: skip

FALCON_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
ROPE = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64, "rope_type": "llama3"}


def base(shape):
    return {
        "hidden_act": "silu", "max_position_embeddings": 256, "rms_norm_eps": 1e-06, "initializer_range": 0.02,
        "tie_word_embeddings": False, "attention_dropout": 0.0, "pretraining_tp": 1, "use_cache": True, **shape,
    }  # fmt: skip


def fresh(seed, shape, theta, rope=None):
    torch.manual_seed(seed)
    parameters = {"rope_type": "default", **(rope or {}), "rope_theta": theta}
    model = LlamaForCausalLM(LlamaConfig(**base(shape), rope_parameters=parameters)).float()
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.08)
    torch.nn.init.normal_(model.lm_head.weight, std=0.08)
    return model


def scaled(names):
    """Six heads on two kv heads, head_dim 24 (q width 144, hidden 96), biases everywhere, llama3 rope scaling."""
    t = tok.falcon3(TEXT, 384)
    bos = t.token_to_id("<|endoftext|>")
    shape = dict(
        hidden_size=96, intermediate_size=172, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=24,
        attention_bias=True, mlp_bias=True, vocab_size=384, bos_token_id=None, eos_token_id=bos,
    )  # fmt: skip
    model = fresh(501, shape, 10000.0, ROPE)
    to_autobitlinear(model, ("lm_head",))
    jitter_norms(model)
    train(model, t, bos)
    extra = {"bos_token": None, "eos_token": "<|endoftext|>"}
    # The newer spelling: rope_parameters with rope_theta inside, dtype; layer count and shape as before.
    new = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **base(shape), "dtype": "bfloat16", "transformers_version": "5.23.0"}
    new["rope_parameters"] = {**ROPE, "rope_theta": 10000.0}
    new["quantization_config"] = {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline", "modules_to_not_convert": ["lm_head"]}
    # The older spelling: rope_theta beside rope_scaling with "type", torch_dtype; no linear_class, so bitlinear.
    old = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **base(shape), "torch_dtype": "float16", "rope_theta": 10000.0}
    old["rope_scaling"] = {**{k: v for k, v in ROPE.items() if k != "rope_type"}, "type": "llama3"}
    old["quantization_config"] = {"quant_method": "bitnet", "modules_to_not_convert": None}
    for name, config, form, dtype in (
        ("llama-c-rope-offline-newspelling", new, "offline", torch.bfloat16),
        ("llama-c-rope-bitlinear-oldspelling", old, "bitlinear", torch.float16),
    ):
        print(name, flush=True)
        save(MADE / name, config, state_of(model, form, dtype), t, tokenizer_config=extra, template=FALCON_TEMPLATE)
        # Long enough that the scaled frequencies turn: the prompts alone would hardly show them.
        prompts = prompts_of(t, bos)
        prompts[1] = ([bos] + t.encode(TEXT, add_special_tokens=False).ids)[:32]
        expect(load_f32(MADE / name), prompts, MADE / name / "expected" / "f32")


def trilm(names):
    """One scale per model-parallel shard: rows are split for q, k, v, gate, up; columns for o and down."""
    t = tok.neox(TEXT, 320)
    size = t.get_vocab_size()
    for shards, seed in ((2, 502), (3, 503)):
        name = f"trilm-a-{shards}shards-f16"
        print(name, flush=True)
        shape = dict(
            hidden_size=72, intermediate_size=168, num_hidden_layers=1, num_attention_heads=6, num_key_value_heads=6, head_dim=12,
            vocab_size=size, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        model = fresh(seed, {**shape, "rms_norm_eps": 1e-5}, 10000.0)
        for layer in model.model.layers:
            for m in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj, layer.mlp.gate_proj, layer.mlp.up_proj):
                # Shards must differ visibly: the second half of the rows starts larger.
                m.weight.data[m.out_features // 2 :] *= 1.7
                ternarize(m, m.out_features // shards, m.in_features)
            for m in (layer.self_attn.o_proj, layer.mlp.down_proj):
                m.weight.data[:, m.in_features // 2 :] *= 1.7
                ternarize(m, m.out_features, m.in_features // shards)
        jitter_norms(model)
        train(model, t, 0)
        bake(model)
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **base(shape), "rms_norm_eps": 1e-05, "torch_dtype": "float16"}
        config |= {"rope_theta": 10000.0, "rope_scaling": None, "pretraining_model_parallel": shards}
        del config["head_dim"]
        extra = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
        save(MADE / name, config, state_of(model, "dense", torch.float16), t, tokenizer_config=extra)
        expect(load_f32(MADE / name), prompts_of(t, 0), MADE / name / "expected" / "f32")


def dense(names):
    """Not ternary by any scale: a loader must refuse it and say how to quantize. Stored as a seed and a shape only."""
    name = "dense-llama-f16"
    print(name, flush=True)
    shape = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, vocab_size=300, bos_token_id=0, eos_token_id=0)
    model = fresh(504, shape, 10000.0)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **base(shape), "torch_dtype": "float16", "rope_theta": 10000.0}
    save(MADE / name, config, state_of(model, "dense", torch.float16), tok.neox(TEXT, 298))
    (MADE / name / "expected" / "refusal.json").write_text(json.dumps({"reason": "dense weights, ternary by no scale"}) + "\n")


GROUPS = [(scaled, "llama-c"), (trilm, "trilm"), (dense, "dense-llama")]

if __name__ == "__main__":
    wanted = sys.argv[1:]
    for maker, prefix in GROUPS:
        if not wanted or any(w.startswith(prefix) for w in wanted):
            maker(wanted)
