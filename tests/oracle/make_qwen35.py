"""Small hybrids, Qwen3_5ForCausalLM: Gated DeltaNet and gated attention in other shapes than the shipped model's, plain and folded.

    python tests/oracle/make_qwen35.py [NAME ...]         # transformers 5.24.0 or later

A folded model computes W = Z H diag(s) where the file holds the trits Z (contract `prism.hadamard.*`, version 1); the expected
values are those of transformers' class with W itself, so no transform of activations is part of them.
"""

import sys
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize
from transformers import Qwen3_5Config, Qwen3_5ForCausalLM, Qwen3_5ForConditionalGeneration, Qwen3_5TextConfig

import gguf_blocks as gb
import oracle_tokenizers as tok
from oracle_models import MADE, TEXT, bake, expect, load_f32, prompts_of, save, state_of, train
from qwen35_gguf import write_gguf

CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def config_of(shape, **more):
    """A config.json; `shape` says which layers are recurrent in one spelling or another, `more` the rotation."""
    return {
        "architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", "attention_bias": False, "attention_dropout": 0.0, "hidden_act": "silu",
        "initializer_range": 0.02, "max_position_embeddings": 512, "rms_norm_eps": 1e-06, "tie_word_embeddings": False, "use_cache": True, **shape, **more,
    }  # fmt: skip


def rope(factor, **more):
    return {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": factor, "mrope_interleaved": True, "mrope_section": [2, 1, 1], **more}


class Groups(nn.Module):
    """Straight-through ternary weights with an f16 scale for each group of a row; with `fold`, the trits are of W diag(s) H."""

    def __init__(self, group, fold=None):
        super().__init__()
        self.group, self.fold = group, fold

    def forward(self, w):
        return w + (self.ternary(w) - w).detach()

    def trits(self, w):
        groups = (self.fold.of(w) if self.fold else w).double().reshape(-1, self.group)
        scale = groups.abs().mean(dim=1, keepdim=True).clamp(min=1e-4).half().double()
        return (groups / scale).round().clamp(-1, 1), scale

    def ternary(self, w):
        trits, scale = self.trits(w)
        z = (trits * scale).reshape(w.shape)
        return (self.fold.undone(z) if self.fold else z).to(w.dtype)


class Fold:
    """W diag(s) H in blocks of the input, and back; the signs are those of the input's width."""

    def __init__(self, block, signs=()):
        h = torch.ones(1, 1, dtype=torch.float64)
        while len(h) < block:
            h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
        self.block, self.signs, self.h = block, dict(signs), h / block**0.5

    def transformed(self, w):
        return (w.double().reshape(-1, self.block) @ self.h).reshape(w.shape)

    def signs_of(self, w):
        return torch.tensor(self.signs.get(w.shape[1], [1.0] * w.shape[1]), dtype=torch.float64)

    def of(self, w):
        return self.transformed(w.double() * self.signs_of(w))

    def undone(self, z):
        return self.transformed(z) * self.signs_of(z)


def text_config(shape, **more):
    keep = {k: v for k, v in config_of(shape, **more).items() if k not in ("architectures", "model_type")}
    return Qwen3_5TextConfig(**keep)


def fresh(seed, shape, **more):
    torch.manual_seed(seed)
    model = Qwen3_5ForCausalLM(text_config(shape, **more)).float()
    enliven(model)
    return model


def enliven(model):
    """Numbers that show what a reader gets wrong: norms away from their start, taps that differ, states that last for dozens of tokens."""
    for name, p in model.named_parameters():
        noise = torch.randn_like(p)
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            p.data.copy_(0.08 * noise)
        elif "norm" in name and p.dim() == 1:
            p.data.add_(0.15 * noise)
        elif name.endswith("A_log"):
            p.data.copy_(torch.empty_like(p).uniform_(-2.5, 0.5))
        elif name.endswith("dt_bias"):
            p.data.copy_(torch.empty_like(p).uniform_(-2.0, 1.0))
        elif name.endswith("conv1d.weight"):
            p.data.copy_(0.5 * noise)
        elif "linear_attn.in_proj_a" in name or "linear_attn.in_proj_b" in name:
            p.data.copy_(0.15 * noise)


def is_dense(name):
    """What stays dense in every file: the two narrow projections."""
    return name.endswith(("in_proj_a", "in_proj_b"))


def ternary_model(seed, t, shape, group, fold=None, everything=False, steps=160, **more):
    """A trained model whose matrices are exactly ternary (or folded ternary), the embedding and head too with `everything`; the trits and
    scales by module name."""
    model = fresh(seed, shape, **more)
    embed, tied = model.model.embed_tokens, shape.get("tie_word_embeddings", False)
    for name, m in list(model.named_modules()):
        table = m is embed or name == "lm_head"
        if isinstance(m, (nn.Linear, nn.Embedding)) and not is_dense(name) and (everything or not table):
            parametrize.register_parametrization(m, "weight", Groups(group, fold))
    train(model, t, t.token_to_id("<|endoftext|>"), steps=steps)
    held, exact = {}, {}
    for name, m in model.named_modules():
        if parametrize.is_parametrized(m, "weight"):
            p = m.parametrizations.weight
            trits, scale = p[0].trits(p.original.detach())
            held[name] = (trits.reshape(p.original.shape).numpy().astype(np.int8), scale.numpy().reshape(-1))
            exact[name] = p[0].ternary(p.original.detach()).clone()
    bake(model)
    for name, value in exact.items():
        # A tied head shares its storage with the embedding.
        model.get_submodule(name).weight.data.copy_(value)
    assert not tied or model.lm_head.weight.data_ptr() == embed.weight.data_ptr()
    return model.eval(), held


def long_prompt(t, bos, tokens=300):
    """More than four chunks of the class's chunked recurrence, and a state that has forgotten its beginning."""
    return ([bos] + t.encode(TEXT, add_special_tokens=False).ids)[:tokens]


def tokenizer_and(shape):
    t = tok.qwen2(TEXT, 320)
    bos = t.token_to_id("<|endoftext|>")
    return t, bos, {**shape, "vocab_size": 320, "bos_token_id": bos, "eos_token_id": bos + 2}


def write(name, seed, shape, group, stored=torch.float16, everything=False, **spelling):
    """A directory: exactly ternary in groups of so many (0: dense)."""
    t, bos, shape = tokenizer_and(shape)
    rotation = {k: v for k, v in spelling.items() if k not in ("dtype", "torch_dtype")}
    if group:
        model, _ = ternary_model(seed, t, shape, group, everything=everything, **rotation)
    else:
        model = train(fresh(seed, shape, **rotation), t, bos, steps=160)
    save(MADE / name, config_of(shape, **spelling), state_of(model, "dense", stored), t, tokenizer_config={"bos_token": None, "eos_token": "<|im_end|>"}, template=CHATML)
    expect(load_f32(MADE / name), prompts_of(t, bos) + [long_prompt(t, bos)], MADE / name / "expected" / "f32", acts=False, keep={3: 4})
    return model


def write_seeing(name, seed, shape):
    """Qwen3_5ForConditionalGeneration: text_config, names under model.language_model, tensors of a vision tower and of drafting blocks."""
    t, bos, shape = tokenizer_and(shape)
    model, _ = ternary_model(seed, t, shape, 32, rope_parameters=rope(0.25))
    text = {k: v for k, v in config_of(shape, rope_parameters=rope(0.25)).items() if k != "architectures"}
    vision = {
        "model_type": "qwen3_5_vision", "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "in_channels": 3, "patch_size": 2,
        "temporal_patch_size": 1, "spatial_merge_size": 1, "out_hidden_size": shape["hidden_size"], "num_position_embeddings": 4,
    }  # fmt: skip
    config = {
        "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "image_token_id": 11, "video_token_id": 12, "vision_start_token_id": 13,
        "vision_end_token_id": 14, "tie_word_embeddings": False, "dtype": "float16", "text_config": text, "vision_config": vision,
    }  # fmt: skip
    torch.manual_seed(seed + 1)
    whole = Qwen3_5ForConditionalGeneration(Qwen3_5Config(text_config=dict(text), vision_config=dict(vision)))
    state = {k: v.detach().half().contiguous() for k, v in whole.state_dict().items()}
    for key, value in state_of(model, "dense", torch.float16).items():
        key = key.replace("model.", "model.language_model.", 1)
        assert key in state, key
        state[key] = value
    width = shape["hidden_size"]
    state |= {"mtp.fc.weight": torch.randn(width, 2 * width).half(), "mtp.norm.weight": torch.randn(width).half(), "mtp.layers.0.input_layernorm.weight": torch.randn(width).half()}
    save(MADE / name, {**config, "bos_token_id": bos, "eos_token_id": bos + 2}, state, t, tokenizer_config={"bos_token": None, "eos_token": "<|im_end|>"})
    loaded = Qwen3_5ForConditionalGeneration.from_pretrained(MADE / name, dtype=torch.float32).float().eval()
    for key, value in loaded.state_dict().items():
        assert torch.equal(value, state[key].float()), key
    expect(loaded, prompts_of(t, bos) + [long_prompt(t, bos)], MADE / name / "expected" / "f32", acts=False, keep={3: 4})


def write_files(files, seed, shape, group, fold=None, factor=0.5):
    """GGUF files of one model made for them, each with its type of blocks; the embedding and the head are ternary too."""
    t, bos, shape = tokenizer_and(shape)
    model, held = ternary_model(seed, t, shape, group, fold=fold, everything=True, rope_parameters=rope(factor))
    for name, matrix_type in files.items():
        write_gguf(name, SimpleNamespace(model=model, held=held, tokenizer=t, bos=bos, fold=fold, v_grouped=True), matrix_type)
        expect_file(name, model, t, bos)


def expect_file(name, model, t, bos):
    folder = MADE / "gguf" / "expected" / name
    expect(model, prompts_of(t, bos) + [long_prompt(t, bos)], folder, acts=False, keep={3: 4})
    # A GGUF vocabulary names no normalizer, so the text that NFC changes proves nothing here.
    tok.write_cases(t, folder / "tokenizer_cases.json", skip="e\u0301")


def signs(seed, *widths):
    r = np.random.default_rng(seed)
    return {w: [float(s) for s in r.choice([-1.0, 1.0], w)] for w in widths}


SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
DELTA = ("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim", "linear_conv_kernel_dim")


def shape_of(sizes, delta, **more):
    return {**dict(zip(SIZES, sizes)), **dict(zip(DELTA, delta)), **more}


def b(name):
    """As many value heads as key heads, every second layer attention, three taps, half of each head rotated, a tied head."""
    shape = shape_of((64, 64, 3, 2, 1, 32), (2, 2, 32, 64, 3), full_attention_interval=2, tie_word_embeddings=True)
    write(name, 801, shape, 32, everything=True, rope_parameters=rope(0.5), dtype="float16")


def c(name):
    """Every third of four layers attention, key heads wider than value heads, the classic spelling of the rotation."""
    shape = shape_of((64, 64, 4, 2, 1, 32), (2, 4, 32, 16, 4), full_attention_interval=3, tie_word_embeddings=True)
    write(name, 802, shape, 64, rope_theta=1e6, partial_rotary_factor=0.25, torch_dtype="float16")


def d(name):
    """A list of layer types that no interval makes, four value heads to a key head, an untied head; as F16 in GGUF too."""
    shape = shape_of((64, 64, 3, 4, 2, 16), (2, 8, 32, 16, 4), layer_types=["full_attention", "linear_attention", "linear_attention"])
    model = write(name, 803, shape, 64, rope_parameters=rope(0.5), dtype="float16")
    t, bos, _ = tokenizer_and(shape)
    for p in model.parameters():
        p.data.copy_(p.data.half().float())
    file = "qwen35-d-F16"
    write_gguf(file, SimpleNamespace(model=model, held={}, tokenizer=t, bos=bos, fold=None, v_grouped=False), gb.F16, listed=True)
    expect_file(file, model, t, bos)


def e(name):
    shape = shape_of((64, 64, 3, 2, 1, 32), (1, 4, 32, 24, 4), full_attention_interval=2)
    write_seeing(name, 804, shape)


def f(name):
    """Dense bfloat16; widths that are no multiple of any vector."""
    shape = shape_of((72, 80, 3, 3, 1, 20), (2, 4, 20, 24, 4), full_attention_interval=3, tie_word_embeddings=True)
    write(name, 805, shape, 0, stored=torch.bfloat16, rope_parameters=rope(0.4), torch_dtype="bfloat16")


def h(name):
    """Groups of 64 in every matrix: tiled columns of value heads of 64 keep their groups. A tied head."""
    shape = shape_of((128, 128, 3, 2, 1, 64), (2, 8, 32, 64, 4), full_attention_interval=2, tie_word_embeddings=True)
    write_files({name: gb.Q2_0}, 806, shape, 64, factor=0.25)


def i(name):
    """Groups of 128, id 142; as many value heads as key heads, so that no column moves; three taps."""
    shape = shape_of((128, 128, 4, 2, 2, 64), (2, 2, 32, 64, 3), full_attention_interval=3)
    write_files({name: gb.PQ2_0}, 807, shape, 128)


def j(name):
    """Folded in blocks of 32 without signs, the head too; under both identifiers."""
    shape = shape_of((128, 128, 3, 2, 1, 64), (2, 6, 32, 64, 4), full_attention_interval=3)
    write_files({name: gb.PQ2_0, "qwen35-j-folded32-PTQ1_0": gb.PTQ1_0}, 808, shape, 128, fold=Fold(32))


def k(name):
    """Folded in blocks of 64 with signs, four value heads to a key head, a tied head."""
    shape = shape_of((128, 256, 4, 2, 2, 64), (2, 8, 64, 32, 4), full_attention_interval=3, tie_word_embeddings=True)
    write_files({name: gb.PQ2_0}, 809, shape, 128, fold=Fold(64, signs(809, 128, 256)), factor=0.25)


MAKERS = {
    "qwen35-b-ternary-g32": b,
    "qwen35-c-ternary-g64": c,
    "qwen35-d-layertypes-g64": d,
    "qwen35-e-seeing-g32": e,
    "dense-qwen35-f-bf16": f,
    "qwen35-h-Q2_0": h,
    "qwen35-i-PQ2_0": i,
    "qwen35-j-folded32-PQ2_0": j,
    "qwen35-k-folded64-PQ2_0": k,
}

if __name__ == "__main__":
    for name, maker in MAKERS.items():
        if len(sys.argv) == 1 or any(name.startswith(w) for w in sys.argv[1:]):
            print(name, flush=True)
            maker(name)
