"""Qwen3ForCausalLM with group-scaled ternary weights: groups of 32 and of 128, untied heads, ffn no multiple of 128.

    python tests/oracle/make_qwen3.py [NAME ...]
"""

import json
import sys

import torch
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

import oracle_tokenizers as tok
from oracle_models import MADE, TEXT, bake, expect, jitter_norms, load_f32, prompts_of, save, state_of, ternarize, train

CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def config_of(shape, **more):
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False, "attention_dropout": 0.0, "hidden_act": "silu",
        "initializer_range": 0.02, "max_position_embeddings": 512, "rms_norm_eps": 1e-06, "tie_word_embeddings": False,
        "use_cache": True, "use_sliding_window": False, "sliding_window": None, **shape, **more,
    }  # fmt: skip


def fresh(seed, shape):
    torch.manual_seed(seed)
    keep = {k: v for k, v in config_of(shape).items() if k not in ("architectures", "model_type")}
    model = Qwen3ForCausalLM(Qwen3Config(**keep, rope_parameters={"rope_type": "default", "rope_theta": 1e6})).float()
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=0.08)
    torch.nn.init.normal_(model.lm_head.weight, std=0.08)
    return model


def write(name, seed, group, shape, everything, spelling):
    print(name, flush=True)
    t = tok.qwen2(TEXT, 320)
    bos = t.token_to_id("<|endoftext|>")
    shape = {**shape, "vocab_size": 320, "bos_token_id": bos, "eos_token_id": bos + 2}
    model = fresh(seed, shape)
    for part, m in model.named_modules():
        if isinstance(m, nn.Linear) and (everything or part != "lm_head") or everything and isinstance(m, nn.Embedding):
            ternarize(m, 1, group)
    jitter_norms(model)
    train(model, t, bos)
    bake(model)
    config = config_of(shape, **spelling)
    save(MADE / name, config, state_of(model, "dense", torch.float16), t, tokenizer_config={"bos_token": None, "eos_token": "<|im_end|>"}, template=CHATML)
    # A long prompt shows the last bits of the rotary frequencies: angles grow with the position.
    long = ([bos] + t.encode(TEXT, add_special_tokens=False).ids)[:470]
    expect(load_f32(MADE / name), prompts_of(t, bos) + [long], MADE / name / "expected" / "f32", keep={3: 4})


def main(wanted):
    chosen = lambda name: not wanted or any(name.startswith(w) for w in wanted)  # noqa: E731
    if chosen("qwen3-c-ternary-g32"):
        shape = dict(hidden_size=96, intermediate_size=160, num_hidden_layers=1, num_attention_heads=3, num_key_value_heads=1, head_dim=32)
        write("qwen3-c-ternary-g32", 601, 32, shape, True, {"rope_theta": 1e6, "rope_scaling": None, "torch_dtype": "float16"})
    if chosen("qwen3-d-ternary-g128"):
        # ffn 192: the last group of a down_proj row is half a group; the tied embedding stays dense f16.
        shape = dict(hidden_size=128, intermediate_size=192, num_hidden_layers=1, num_attention_heads=3, num_key_value_heads=1, head_dim=40, tie_word_embeddings=True)
        write("qwen3-d-ternary-g128", 602, 128, shape, False, {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}, "dtype": "float16"})
    if chosen("dense-qwen3-bf16"):
        name = "dense-qwen3-bf16"
        print(name, flush=True)
        shape = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16, vocab_size=300, bos_token_id=297, eos_token_id=299)
        config = config_of(shape, rope_theta=1e6, torch_dtype="bfloat16")
        save(MADE / name, config, state_of(fresh(603, shape), "dense", torch.bfloat16), tok.qwen2(TEXT, 300))
        (MADE / name / "expected" / "refusal.json").write_text(json.dumps({"reason": "dense weights, ternary by no scale"}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
