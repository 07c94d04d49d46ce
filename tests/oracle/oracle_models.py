"""Shared parts of the makers: brief quantization-aware training, saving in each form, expected values by transformers.

Everything that decides an expected number is third-party code: transformers' model classes and its bitnet integration,
torch on CPU with one thread, f32 graph, TORCHDYNAMO_DISABLE=1.
"""

import json
import os
import pathlib

os.environ["TORCHDYNAMO_DISABLE"] = "1"

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrize
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.integrations.bitnet import AutoBitLinear, BitLinear, pack_weights

torch.set_num_threads(1)
ROOT = pathlib.Path(__file__).resolve().parents[2]
MADE = ROOT / "testdata" / "oracle-made"
TEXT = (MADE / "tinyshakespeare-6000.txt").read_text()

# Two stretches of the memorised text and one text outside it.
PROMPTS = ["First Citizen:\nBefore", "All:\nWe know't, we know't.\n\nFirst Citizen:\nLet us kill him", "the 7 queens of 1623 sang; O!\n"]
PROMPT_TOKENS = [5, 15, 9]


def to_autobitlinear(model, skip=(), use_rms_norm=False, rms_norm_eps=1e-6):
    """Replaces every nn.Linear whose name ends in none of `skip` by transformers' AutoBitLinear in online mode."""
    for name, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear) or any(name.endswith(s) or name.startswith(s + ".") for s in skip):
            continue
        new = AutoBitLinear(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            online_quant=True,
            use_rms_norm=use_rms_norm,
            rms_norm_eps=rms_norm_eps,
        )
        new.weight.data.copy_(module.weight.data)
        if module.bias is not None:
            # Fixed, clearly non-zero biases: training would leave them small.
            new.bias.data.copy_(torch.randn_like(new.bias) * 0.2)
            new.bias.requires_grad_(False)
        model.set_submodule(name, new)
    return model


class TernaryParts(nn.Module):
    """Straight-through ternary weights with one f16 scale per part; `parts` is (rows, columns) of one part."""

    def __init__(self, rows, columns):
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, w):
        return w + (self.ternary(w) - w).detach()

    def ternary(self, w):
        out = torch.empty_like(w)
        for r in range(0, w.shape[0], self.rows):
            for c in range(0, w.shape[1], self.columns):
                part = w[r : r + self.rows, c : c + self.columns]
                scale = part.abs().mean().clamp(min=1e-4).half().float()
                out[r : r + self.rows, c : c + self.columns] = (part / scale).round().clamp(-1, 1) * scale
        return out


def ternarize(module, rows, columns):
    parametrize.register_parametrization(module, "weight", TernaryParts(rows, columns))


def bake(model):
    """Replaces parametrized weights by exactly ternary ones (t * d, d an f16 value)."""
    for module in model.modules():
        if parametrize.is_parametrized(module, "weight"):
            exact = module.parametrizations.weight[0].ternary(module.parametrizations.weight.original.detach())
            parametrize.remove_parametrizations(module, "weight")
            module.weight.data.copy_(exact)


def prompts_of(tokenizer, bos):
    rows = []
    for text, limit in zip(PROMPTS, PROMPT_TOKENS):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        rows.append(([bos] + ids)[:limit])
    return rows


def jitter_norms(model):
    """Norm weights around 1, so that a reader that skips them is seen."""
    for name, p in model.named_parameters():
        if p.dim() == 1 and "norm" in name:
            p.data.mul_(1 + 0.15 * torch.randn_like(p))


def train(model, tokenizer, bos, steps=260, lr=4e-3, window=40, batch=4, span=260):
    """Memorises the first `span` tokens of the text, so that greedy text has clear margins."""
    ids = torch.tensor(tokenizer.encode(TEXT, add_special_tokens=False).ids[:span])
    known = tokenizer.encode(PROMPTS[1], add_special_tokens=False).ids
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        starts = [0] + torch.randint(0, len(ids) - window, (batch - 1,)).tolist()
        rows = torch.stack([torch.cat([torch.tensor([bos]), ids[s : s + window]]) for s in starts])
        logits = model(input_ids=rows, use_cache=False).logits
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]).float(), rows[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    print(f"  trained {steps} steps, loss {loss.item():.3f}, {len(known)} tokens in prompt 1", flush=True)
    return model


def absmean_ternary(weight):
    """transformers' WeightQuant, taken apart: trits and mean."""
    w = weight.float()
    scale = 1.0 / w.abs().mean().clamp(min=1e-5)
    return (w * scale).round().clamp(-1, 1), 1.0 / scale


def state_of(model, form, dtype, scale_dtype=torch.float32):
    """State dict in `form` (online | offline | bitlinear | dense); the masters are rounded to `dtype` first."""
    state = {}
    ternary = {n for n, m in model.named_modules() if isinstance(m, AutoBitLinear)}
    tied = model.config.tie_word_embeddings
    for name, value in model.state_dict().items():
        owner, _, leaf = name.rpartition(".")
        if name == "lm_head.weight" and tied:
            continue
        value = value.detach().to(dtype)
        if owner in ternary and leaf == "weight" and form in ("offline", "bitlinear"):
            trits, mean = absmean_ternary(value)
            scale = mean if form == "offline" else 1.0 / mean
            state[name] = pack_weights(trits.clone())
            state[owner + ".weight_scale"] = scale.reshape(1).to(scale_dtype)
        elif owner in ternary and leaf == "bias" and form == "offline":
            # This class multiplies the bias by the weight scale as well: store what gives the same function.
            _, mean = absmean_ternary(model.get_submodule(owner).weight.to(dtype))
            state[name] = (value.float() / mean).to(dtype)
        else:
            state[name] = value.contiguous()
    return state


def save(directory, config, state, tokenizer, shards=1, tokenizer_config=None, template=None):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    names = sorted(state)
    if shards == 1:
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    else:
        index = {"metadata": {"total_size": sum(t.nbytes for t in state.values())}, "weight_map": {}}
        for s in range(shards):
            file = f"model-{s + 1:05d}-of-{shards:05d}.safetensors"
            # Dealt out in turn: a weight and its scale land in different files.
            part = names[s::shards]
            save_file({n: state[n] for n in part}, directory / file, metadata={"format": "pt"})
            index["weight_map"].update({n: file for n in part})
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    if tokenizer is not None:
        (directory / "tokenizer.json").write_text(tokenizer.to_str(pretty=False) + "\n")
        from oracle_tokenizers import write_cases

        (directory / "expected").mkdir(exist_ok=True)
        write_cases(tokenizer, directory / "expected" / "tokenizer_cases.json")
    base = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    (directory / "tokenizer_config.json").write_text(json.dumps({**base, **(tokenizer_config or {})}, indent=2) + "\n")
    generation = {"bos_token_id": config.get("bos_token_id"), "eos_token_id": config.get("eos_token_id"), "do_sample": False}
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    if template:
        (directory / "chat_template.jinja").write_text(template)
        write_chat_cases(directory)


MESSAGES = [
    [{"role": "user", "content": "Speak, speak."}],
    [{"role": "system", "content": "You are  Rome."}, {"role": "user", "content": "Who is chief enemy?"}],
    [
        {"role": "system", "content": " You are Rome. "},
        {"role": "user", "content": "Who is chief\nenemy?\n"},
        {"role": "assistant", "content": "Caius Marcius"},
        {"role": "user", "content": "Why? {{ messages }} 100%"},
    ],
]


def write_chat_cases(directory):
    """transformers' apply_chat_template on the saved directory, added to its tokenizer cases."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    path = directory / "expected" / "tokenizer_cases.json"
    cases = json.loads(path.read_text())
    cases["chat"] = []
    for messages in MESSAGES:
        for prompt in (True, False):
            ids = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=True, return_dict=False)
            text = tokenizer.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False)
            cases["chat"].append({"messages": messages, "add_generation_prompt": prompt, "text": text, "ids": ids})
    path.write_text(json.dumps(cases, ensure_ascii=True, indent=0) + "\n")


def hook_layer0(model, store):
    """Records layer 0 (and the final norm) under the shipped oracle's names."""
    layer, handles = model.model.layers[0], []

    def out(module, key):
        handles.append(module.register_forward_hook(lambda _m, _i, o, k=key: store.__setitem__(k, (o[0] if isinstance(o, tuple) else o)[0])))

    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        out(getattr(layer.self_attn, name), f"l0.{name}")
    for name in ("gate_proj", "down_proj"):
        out(getattr(layer.mlp, name), f"l0.{name}")
    out(layer, "l0.out")
    out(model.model.norm, "final_norm")
    return handles


@torch.no_grad()
def expect(model, prompts, directory, steps=32, acts=True, keep=None):
    """Writes logits, greedy ids with margins and layer-0 activations of a loaded f32 model.

    `keep` maps a prompt's index to the number of rows kept of it, for long prompts.
    """
    directory.mkdir(parents=True, exist_ok=True)
    model.eval()
    cases = []
    for i, prompt in enumerate(prompts):
        store = {}
        handles = hook_layer0(model, store) if i == 0 and acts else []
        logits = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0].float()
        for h in handles:
            h.remove()
        if handles:
            np.savez_compressed(directory / "acts_0.npz", **{k: v.float().numpy() for k, v in store.items()})
        rows = (keep or {}).get(i)
        np.save(directory / (f"logits_{i}_last{rows}.npy" if rows else f"logits_{i}.npy"), logits[-(rows or 0) :].numpy())
        nll = F.cross_entropy(logits[:-1], torch.tensor(prompt[1:])).item() if len(prompt) > 1 else None
        ids, greedy, margins = list(prompt), [], []
        for _ in range(steps):
            last = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()
            top = torch.topk(last, 2)
            greedy.append(int(top.indices[0]))
            margins.append(round(float(top.values[0] - top.values[1]), 6))
            ids.append(greedy[-1])
        cases.append(
            {
                "prompt_ids": prompt,
                "greedy": greedy,
                "greedy_margin": margins,
                "min_margin": min(margins) if margins else None,
                "mean_nll": nll,
                "argmax_last": int(logits[-1].argmax()),
                "logit_std": round(float(logits.std()), 4),
            }
        )
        held = next((s for s, m in enumerate(margins) if m < 0.2), steps)
        print(f"  prompt {i}: T {len(prompt)}, logit std {logits.std():.2f}, greedy holds {held} steps", flush=True)
    (directory / "cases.json").write_text(json.dumps(cases) + "\n")


def load_f32(directory):
    """The directory as transformers loads it, whole graph in f32; refuses a load that changed a stored number."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    nn.Module.float(model)  # transformers' own float() refuses quantized models
    for module in model.modules():
        if isinstance(module, BitLinear):
            module.dtype = torch.float32
    loaded = model.state_dict()
    for file in sorted(directory.glob("*.safetensors")):
        for name, stored in load_file(file).items():
            if loaded[name].shape == stored.shape:
                assert torch.equal(loaded[name].float(), stored.float()), name
            else:  # packed, unpacked by transformers
                assert stored.dtype == torch.uint8 and loaded[name].shape[0] == 4 * stored.shape[0], name
    return model


def bitnet_config(**shape):
    """config.json of the BitNetForCausalLM kind, classic spelling."""
    config = {
        "architectures": ["BitNetForCausalLM"],
        "model_type": "bitnet",
        "hidden_act": "relu2",
        "max_position_embeddings": 512,
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": True,
        "rope_theta": 500000.0,
        "rope_scaling": None,
        "attention_dropout": 0.0,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }
    return {**config, **shape}
