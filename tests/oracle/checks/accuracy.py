"""Logits, greedy ids and perplexity against values that other software computed."""

import hashlib
import pathlib
import re
import subprocess
import sys

import numpy as np

from .command import Failed, Known, Skipped, difference, load_json, short

# max, rms of every prompt; `strict`: at least half of the prompts must have max <= strict (None: no such rule).
INT8 = {"max": 0.15, "rms": 0.02, "strict": 1e-3}
FLOAT = {"max": 1e-3, "rms": 1e-3, "strict": None}
BLOCKS = {"max": 0.15, "rms": 0.04, "strict": None}
# Hybrids magnify roundings where the result of a recurrence is near 0; one of random weights does it everywhere (README.md).
HYBRID_BLOCKS = {"max": 0.3, "rms": 0.04, "strict": None}
RANDOM_BLOCKS = {"max": 4.0, "rms": 0.3, "strict": None}
# An f16 scale a block where the expected values have f32 or bf16 scales; f16 for bf16 embeddings is exact.
GGUF_F16_SCALE = {"max": 0.15, "rms": 0.03, "strict": None}
PEER = {
    "I2_S-embdQ6_K": {"max": 0.3, "rms": None, "strict": None},
    "I2_S": {"max": 0.2, "rms": 0.03, "strict": None},
    "TQ": {"max": 0.3, "rms": 0.06, "strict": None},
    "Q2_0": {"max": 0.15, "rms": 0.03, "strict": None},
}
MARGIN = 0.2


def blocks_bound(name):
    """Of block-wise int8 activations against floats."""
    if name.startswith("qwen35-a-"):
        return RANDOM_BLOCKS
    return HYBRID_BLOCKS if name.startswith("qwen35-") else BLOCKS


def bound_text(bound):
    parts = [f"max {bound['max']:g}"]
    if bound["rms"] is not None and bound["rms"] != bound["max"]:
        parts.append(f"rms {bound['rms']:g}")
    if bound["strict"]:
        parts.append(f"half of the prompts {bound['strict']:g}")
    return ", ".join(parts)


def compare_prompts(pairs, bound):
    """`pairs` yields (got, expected) logits per prompt. Returns a description or raises Failed."""
    measured = []
    for got, expected in pairs:
        measured.append(difference(got, expected))
    if not measured:
        raise Skipped("no stored logits in this subset")
    worst = max(m for m, _ in measured)
    rms = max(r for _, r in measured)
    close = sum(m <= (bound["strict"] or np.inf) for m, _ in measured)
    text = f"max {worst:.2g} rms {rms:.2g}"
    if bound["strict"]:
        text += f", {close}/{len(measured)} within {bound['strict']:g}"
    if worst > bound["max"] or (bound["rms"] is not None and rms > bound["rms"]):
        raise Failed(text + " (" + " ".join(f"{m:.2g}" for m, _ in measured) + ")")
    if bound["strict"] and 2 * close < len(measured):
        raise Failed(text + " (" + " ".join(f"{m:.2g}" for m, _ in measured) + ")")
    return text


def expected_logits(folder, i):
    """The stored rows and how many of the last rows they are (None: all); (None, None) where a subset left them out."""
    whole = folder / f"logits_{i}.npy"
    if whole.exists():
        return np.load(whole), None
    for path in sorted(folder.glob(f"logits_{i}_last*.npy")):
        values = np.load(path)
        return values, len(values)
    return None, None


def logits_against(bitnet, model, folder, prompts, bound, *options):
    def pairs():
        for i, ids in enumerate(prompts):
            expected, last = expected_logits(folder, i)
            if expected is None:
                continue
            got = bitnet.logits(model, ids, *options)
            yield (got if last is None else got[-last:]), expected

    return compare_prompts(pairs(), bound)


def greedy_against(bitnet, model, cases, *options):
    """Equal to the first step whose margin is below MARGIN; from there anything goes."""
    held, total = 0, 0
    for i, case in enumerate(cases):
        steps = len(case["greedy"])
        got = bitnet.greedy(model, case["prompt_ids"], steps, *options)
        if len(got) != steps:
            raise Failed(f"prompt {i}: {len(got)} ids, expected {steps}")
        limit = next((s for s, m in enumerate(case["greedy_margin"]) if m < MARGIN), steps)
        for s in range(limit):
            if got[s] != case["greedy"][s]:
                raise Failed(f"prompt {i}: step {s} is {got[s]}, expected {case['greedy'][s]} (margin {case['greedy_margin'][s]})")
        held, total = held + limit, total + steps
    return f"{held} of {total} ids binding, all equal"


def float_activations(config):
    """Models that were not trained with int8 activations: no bitnet quantization in the config, not 1bitLLM's class."""
    quantization = (config.get("quantization_config") or {}).get("quant_method")
    return quantization != "bitnet" and config.get("architectures") != ["BitnetForCausalLM"] and not config.get("is_bitnet_config")


def check_directory(table, bitnet, directory, quick):
    """A Hugging Face directory with expected/f32/cases.json."""
    name, folder = directory.name, directory / "expected" / "f32"
    cases = load_json(folder / "cases.json")[: 2 if quick else None]
    prompts = [c["prompt_ids"] for c in cases]
    if (folder / "top32_ids_0.npy").exists():
        table.run(f"{name}/top32", "top-1 where gap > 0.2, values 0.15, logsumexp 0.05", lambda: top32(bitnet, directory, cases))
        table.run(f"{name}/greedy", f"equal while margin >= {MARGIN}", lambda: greedy_against(bitnet, directory, cases))
        return
    if name.startswith("dense-"):
        # Nothing is ternary, so nothing takes int8: the default is floats.
        modes = [("", FLOAT, ())]
    elif float_activations(load_json(directory / "config.json")):
        most = blocks_bound(name)
        modes = [("float", FLOAT, ("--activations", "float")), ("default", most, ())]
        table.run(f"{name}/default-is-int8-blocks", f"differs from float by 1e-5 to {most['max']:g}", lambda: blocks_differ(bitnet, directory, prompts))
    else:
        modes = [("", INT8, ())]
    for mode, bound, options in modes:
        tail = f"[{mode}]" if mode else ""
        table.run(f"{name}/logits{tail}", bound_text(bound), lambda b=bound, o=options: logits_against(bitnet, directory, folder, prompts, b, *o))
        table.run(f"{name}/greedy{tail}", f"equal while margin >= {MARGIN}", lambda o=options: greedy_against(bitnet, directory, cases, *o))


def check_left_out(table, bitnet, directory):
    """A model that sees runs as the decoder in it, and the command says that something is left out."""
    if "vision_config" not in load_json(directory / "config.json"):
        return

    def check():
        code, _, err = bitnet.call("logits", directory, "--ids-file", bitnet.ids_file([1, 2]), "--out", bitnet.path(".npy"))
        if code != 0 or "left out" not in err or "visual" not in err:
            raise Failed(f"exit {code}: {short(err)}")
        return short(err, 60)

    table.run(f"{directory.name}/left-out", "a sentence with 'left out' and a tensor's name", check)


def blocks_differ(bitnet, directory, prompts):
    """Block-wise int8 must be what runs by default: close to float activations, but not them."""
    worst = max(difference(bitnet.logits(directory, ids), bitnet.logits(directory, ids, "--activations", "float"))[0] for ids in prompts)
    if not 1e-5 < worst <= blocks_bound(directory.name)["max"]:
        raise Failed(f"max {worst:.2g}")
    return f"max {worst:.2g}"


def top32(bitnet, directory, cases):
    folder = directory / "expected" / "f32"
    worst_value, worst_sum, known = 0.0, 0.0, []
    for i, case in enumerate(cases):
        ids, values = np.load(folder / f"top32_ids_{i}.npy"), np.load(folder / f"top32_logits_{i}.npy")
        logsumexp = np.load(folder / f"logsumexp_{i}.npy").reshape(-1)
        got = bitnet.logits(directory, case["prompt_ids"]).astype(np.float64)
        if not np.isfinite(got).all():
            raise Failed(f"prompt {i}: values that are not finite")
        off = np.abs(np.take_along_axis(got, ids.astype(np.int64), axis=1) - values).max(axis=1)
        peak = got.max(axis=1)
        off_sum = np.abs(peak + np.log(np.exp(got - peak[:, None]).sum(axis=1)) - logsumexp)
        for t in np.flatnonzero(values[:, 0] - values[:, 1] > 0.2):
            if int(got[t].argmax()) != int(ids[t][0]):
                raise Failed(f"prompt {i} position {t}: top-1 is {int(got[t].argmax())}, expected {int(ids[t][0])}")
        start = KNOWN_FLIP.get((directory.name, i), len(off))
        if (off > 0.15).any() and off[:start].max() <= 1e-3 and off.max() <= 0.3 and off_sum.max() <= 0.1:
            known.append(f"prompt {i} from position {start}: {off.max():.2g}, {off_sum.max():.2g}")
            off, off_sum = off[:start], off_sum[:start]
        worst_value, worst_sum = max(worst_value, off.max()), max(worst_sum, off_sum.max())
    text = f"values {worst_value:.2g}, logsumexp {worst_sum:.2g}"
    if worst_value > 0.15 or worst_sum > 0.05:
        raise Failed(text)
    if known:
        raise Known(f"{text}; " + "; ".join(known))
    return text


def check_bf16(table, bitnet, directory):
    """Informative for us, but its bound is the README's: the f32 engine against transformers' bf16 run."""
    folder = directory / "expected" / "bf16"
    if not (folder / "cases.json").exists():
        return

    def check():
        agree, rows, worst, rms = 0, 0, 0.0, 0.0
        for i, case in enumerate(load_json(folder / "cases.json")):
            expected, _ = expected_logits(folder, i)
            if expected is None:
                continue
            got = bitnet.logits(directory, case["prompt_ids"])
            m, r = difference(got, expected)
            worst, rms = max(worst, m), max(rms, r)
            agree += int((got.argmax(1) == expected.argmax(1)).sum())
            rows += len(expected)
        if not rows:
            raise Skipped("no stored logits in this subset")
        text = f"max {worst:.2g} rms {rms:.2g}, top-1 {agree / rows:.3f}"
        if worst > 0.8 or rms > 0.05 or agree / rows < 0.85:
            raise Failed(text)
        return text

    table.run(f"{directory.name}/bf16", "max 0.8, rms 0.05, top-1 0.85", check)


def check_perplexity(table, bitnet, directory, text_file):
    path = directory / "expected" / "ppl.json"
    if not path.exists():
        return
    recipe = load_json(path)

    def check():
        import json

        part = bitnet.path(".txt")
        first, last = recipe["chars"]
        part.write_text(text_file.read_text()[first:last])
        # A window is BOS and 127 tokens of text.
        answer = json.loads(bitnet.must("perplexity", directory, "--file", part, "--window", 128, "--json"))
        text = f"mean_nll {answer['mean_nll']:.5f}, {answer['tokens_scored']} scored"
        if abs(answer["mean_nll"] - recipe["mean_nll"]) > 0.01 or answer["tokens_scored"] != recipe["tokens_scored"]:
            raise Failed(text)
        return text

    bound = f"mean_nll {recipe['mean_nll']:.5f} +- 0.01, {recipe['tokens_scored']} scored"
    table.run(f"{directory.name}/perplexity", bound, check)


def check_refusal(table, bitnet, model, words):
    """The model at this path is refused with a sentence that has these words."""

    def check():
        ids = bitnet.ids_file([1, 2])
        sentence = bitnet.refusal("logits", model, "--ids-file", ids, "--out", bitnet.path(".npy"))
        if words not in sentence.lower():
            raise Failed(f"does not say {words!r}: {sentence}")
        return "refused: " + sentence[:60]

    table.run(f"{model.name}/refused", f"non-zero exit, a sentence with {words!r}", check)


# The exact value of one int8 decision (layer 0, o_proj input, token 15, channel 24) is 74.49998; transformers lands on
# 74.500008 because it multiplies fake-quantized floats instead of integers. README.md has the measurement.
KNOWN_FLIP = {("bitnet-r-llama3vocab-offline-packed", 1): 15}


def group_scaled(stem):
    """Q2_0, and not the end of TQ2_0, and hybrids in whatever type: group-scaled weights, which take block-wise activations by default."""
    return re.search(r"(?<!T)Q2_0|^qwen35-", stem) is not None


# Where GGUF files of the shipped oracle have no peer.json of their own: how their names begin, and where their values are.
WITHOUT_PEER = {
    "qwen3-b-ternary-g128-Q2_0g128": "qwen3-b-ternary-g128/expected/f32",
    "qwen35-a-ternary-g128-folded": "qwen35-a-ternary-g128/expected/folded-f32",
    "qwen35-a-ternary-g128": "qwen35-a-ternary-g128/expected/f32",
}


def transformers_values(stem, peers):
    """The folder with transformers' values of a GGUF file of the shipped oracle."""
    listed = next((folder for begin, folder in WITHOUT_PEER.items() if stem.startswith(begin)), None)
    return listed or load_json(next(iter(peers.values())))["hf_dir"] + "/expected/f32"


def check_shipped_gguf(table, bitnet, oracle, files, quick):
    for path in files:
        stem = path.stem
        peers = {p.parent.parent.name: p for p in (oracle / "gguf" / "peer").glob(f"*/{stem}/peer.json")}
        folder = oracle / transformers_values(stem, peers)
        cases = load_json(folder / "cases.json")[: 2 if quick else None]
        prompts = [c["prompt_ids"] for c in cases]
        ternary_groups = group_scaled(stem)
        modes = [("[float]", ("--activations", "float")), ("", ())] if ternary_groups else [("", ())]
        for mode, options in modes:
            if "embdQ" not in stem:  # a quantized embedding is another model than the HF one
                own = FLOAT if mode else blocks_bound(stem) if ternary_groups else INT8 if stem.endswith("I2_S") else GGUF_F16_SCALE
                table.run(f"gguf/{stem}/hf{mode}", bound_text(own), lambda f=folder, b=own, o=options: logits_against(bitnet, path, f, prompts, b, *o))
                table.run(f"gguf/{stem}/greedy{mode}", f"equal while margin >= {MARGIN}", lambda o=options: greedy_against(bitnet, path, cases, *o))
            for peer, file in sorted(peers.items()):
                key = next(k for k in PEER if k in stem)
                bound = PEER[key] if mode or not ternary_groups else {"max": 0.15, "rms": 0.04, "strict": None}
                peer_prompts = load_json(file)["prompts"][: 2 if quick else None]
                table.run(
                    f"gguf/{stem}/peer-{peer}{mode}",
                    bound_text(bound),
                    lambda f=file.parent, b=bound, o=options, p=peer_prompts: logits_against(bitnet, path, f, p, b, *o),
                )


def check_made_gguf(table, bitnet, made, files, quick):
    """Files made here: the expected values are transformers' for exactly the numbers in the file."""
    for path in files:
        folder = made / "gguf" / "expected" / path.stem
        if not (folder / "cases.json").exists():
            continue
        cases = load_json(folder / "cases.json")[: 2 if quick else None]
        prompts = [c["prompt_ids"] for c in cases]
        groups = group_scaled(path.stem)
        modes = [("[float]", FLOAT, ("--activations", "float")), ("[default]", blocks_bound(path.stem), ())] if groups else [("", INT8, ())]
        for mode, bound, options in modes:
            table.run(f"made-gguf/{path.stem}/logits{mode}", bound_text(bound), lambda b=bound, o=options: logits_against(bitnet, path, folder, prompts, b, *o))
            table.run(f"made-gguf/{path.stem}/greedy{mode}", f"equal while margin >= {MARGIN}", lambda o=options: greedy_against(bitnet, path, cases, *o))


def check_large(table, bitnet, directory, quick):
    """The 2B-4T matrices from a seed; only the expected logits are stored."""
    recipe = load_json(directory / "generator.json")
    folder = directory / "expected" / "f32"
    cases = load_json(folder / "cases.json")

    def made():
        out = bitnet.scratch / "large"
        if not out.exists():
            script = pathlib.Path(__file__).resolve().parents[1] / recipe["script"]
            subprocess.run([sys.executable, str(script), str(out)], check=True)
            digest = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
            if digest != recipe["sha256"]:
                raise Failed(f"the generator gave other bytes than stored ({digest[:12]})")
        return out

    prompts = [c["prompt_ids"] for c in cases]
    table.run(f"{directory.name}/logits", bound_text(INT8), lambda: logits_against(bitnet, made(), folder, prompts, INT8))
    table.run(f"{directory.name}/greedy", f"equal while margin >= {MARGIN}", lambda: greedy_against(bitnet, made(), cases))
