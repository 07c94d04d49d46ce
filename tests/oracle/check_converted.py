#!/usr/bin/env python3
"""What `bitnet convert` writes, read by the software it was written for: transformers and the `gguf` package.

    python tests/oracle/check_converted.py [ORACLE ...] [--bitnet PATH] [--only PATTERN]

Needs the packages of the makers (README.md). For every Hugging Face model with expected values: converts to hf-packed and
hf-master, loads the result with transformers in f32 and compares its logits with the expected ones of the source; converts
to the GGUF targets and lets `gguf` read names, shapes and block types back, with equal dequantized numbers where it
knows the type.
"""

import sys

import gguf
import numpy as np
import torch

from check import arguments, directories
from checks import accuracy, conversion, safetensors
from checks.command import Bitnet, Failed, Table, load_json, scratch_folder
from oracle_models import load_f32

KNOWN = ("gguf-tq1_0", "gguf-tq2_0")
HF_TO_GGUF = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


@torch.no_grad()
def by_transformers(bitnet, directory, target):
    out, _ = conversion.convert(bitnet, directory, target)
    model = load_f32(out).eval()
    folder = directory / "expected" / "f32"
    pairs = []
    for i, case in enumerate(load_json(folder / "cases.json")):
        got = model(input_ids=torch.tensor([case["prompt_ids"]]), use_cache=False).logits[0].float().numpy()
        expected, last = accuracy.expected_logits(folder, i)
        if expected is None:
            continue
        pairs.append((got if last is None else got[-last:], expected))
    conversion.remove(out)
    config = load_json(directory / "config.json")
    bound = accuracy.FLOAT if accuracy.float_activations(config) else accuracy.INT8
    if bound is accuracy.INT8 and conversion.divides(config):
        # From BitLinear's integers to AutoBitLinear's floats: other last bits, so other prompts meet a rounding boundary.
        bound = {**bound, "strict": None}
    return accuracy.compare_prompts(pairs, bound)


def by_gguf(bitnet, directory, target):
    out, _ = conversion.convert(bitnet, directory, target)
    reader = gguf.GGUFReader(out)
    tensors = {t.name: t for t in reader.tensors}
    source, config = safetensors.read(directory), load_json(directory / "config.json")
    arch = reader.fields["general.architecture"].contents()
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for layer in range(config["num_hidden_layers"]):
        for hf, name in HF_TO_GGUF.items():
            tensor = tensors[f"blk.{layer}.{name}.weight"]
            trits, scale = safetensors.ternary_of(source, f"model.layers.{layer}.{hf}", conversion.divides(config))
            got = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(trits.shape)
            if arch == "llama" and name in heads:
                n = heads[name]
                trits = trits.reshape(n, 2, len(trits) // n // 2, -1).swapaxes(1, 2).reshape(trits.shape)
            if not np.array_equal(np.sign(got), trits):
                raise Failed(f"{tensor.name}: {int((np.sign(got) != trits).sum())} trits differ")
            values = np.abs(got[got != 0])
            if np.abs(values - scale).max() > scale * 2**-10:
                raise Failed(f"{tensor.name}: scale {values[0]:.8g}, was {scale:.8g}")
    conversion.remove(out)
    return f"{len(tensors)} tensors, {7 * config['num_hidden_layers']} matrices equal"


def attempt(source, target, check):
    def run():
        try:
            return check()
        except conversion.Refused as why:
            if source.must_hold(target):
                raise Failed(f"refused: {why}") from why
            return f"refused: {str(why)[:70]}"

    return run


def main():
    options = arguments()
    table = Table(options.only, verbose=False)
    with scratch_folder() as scratch:
        bitnet = Bitnet(options.bitnet, scratch, options.timeout)
        for root in dict.fromkeys([*options.oracle, options.made]):
            for directory in directories(root):
                if "llama3vocab" in directory.name:
                    continue
                config = load_json(directory / "config.json")
                source = conversion.Source(directory, directory.name, None, config)
                for target in ("hf-packed", "hf-master"):
                    check = lambda d=directory, t=target: by_transformers(bitnet, d, t)  # noqa: E731
                    table.run(f"{directory.name}/{target}/transformers", "as the source's own logits", attempt(source, target, check))
                if not accuracy.float_activations(config):
                    for target in KNOWN:
                        check = lambda d=directory, t=target: by_gguf(bitnet, d, t)  # noqa: E731
                        table.run(f"{directory.name}/{target}/gguf", "equal trits, scale within 2^-10", attempt(source, target, check))
    return table.close()


if __name__ == "__main__":
    sys.exit(main())
