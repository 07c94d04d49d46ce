"""Same bytes for every kernel, thread count and prefill: equality, never a tolerance."""

import platform

import numpy as np

from .accuracy import float_activations
from .command import Failed, Lacking, load_json

KERNELS = ("scalar", "neon", "dotprod", "i8mm") if platform.machine() in ("aarch64", "arm64") else ("scalar", "sse41", "avx2", "avxvnni", "avx512vnni")


def check(table, bitnet, model, name, prompts, quick, config=None):
    modes = [()] if config is None or not float_activations(config) else [(), ("--activations", "float")]
    for options in modes:
        tail = "[float]" if options else ""
        base = {}

        def reference(ids):
            key = tuple(ids)
            if key not in base:
                base[key] = bitnet.logits(model, ids, "--threads", 1, *options)
            return base[key]

        for kernel in KERNELS:
            table.run(f"{name}/kernel-{kernel}{tail}", "byte-equal", lambda k=kernel: kernel_equal(bitnet, model, prompts, reference, k, options))
        table.run(f"{name}/threads{tail}", "byte-equal for 1, 2, 3", lambda: threads_equal(bitnet, model, prompts, reference, options))
        table.run(f"{name}/prefix{tail}", "rows of a prefix byte-equal", lambda: prefix_equal(bitnet, model, prompts, reference, options))


def kernel_equal(bitnet, model, prompts, reference, kernel, options):
    for i, ids in enumerate(prompts):
        want = reference(ids)
        out = bitnet.path(".npy")
        arguments = ("logits", model, "--ids-file", bitnet.ids_file(ids), "--out", out, "--threads", 2, *options)
        code, _, err = bitnet.call(*arguments, environment={"BITNET_KERNEL": kernel})
        if code != 0:
            sentence = bitnet.sentence(code, err)
            # A name that the command does not know is another sentence, and a failure.
            if "needs instructions that this CPU does not report" in sentence:
                raise Lacking(f"kernel {kernel}: this processor does not report its instructions")
            raise Failed(f"exit {code}: {sentence}")
        same(np.load(out), want, f"prompt {i}, kernel {kernel}")
        out.unlink()
    return f"{len(prompts)} prompts equal"


def threads_equal(bitnet, model, prompts, reference, options):
    for i, ids in enumerate(prompts):
        for n in (2, 3):
            same(bitnet.logits(model, ids, "--threads", n, *options), reference(ids), f"prompt {i}, {n} threads")
    return f"{len(prompts)} prompts x 2"


def prefix_equal(bitnet, model, prompts, reference, options):
    """A token's logits depend on nothing after it and not on how many are computed at once."""
    ids = max(prompts, key=len)
    for n in {1, len(ids) // 2, len(ids) - 1} - {0}:
        same(bitnet.logits(model, ids[:n], *options), reference(ids)[:n], f"first {n} of {len(ids)}")
    return f"{len(ids)} tokens"


def same(got, want, where):
    if got.shape != want.shape:
        raise Failed(f"{where}: shape {got.shape}, expected {want.shape}")
    unequal = got.view(np.uint32) != want.view(np.uint32)
    if unequal.any():
        t, v = np.argwhere(unequal)[0]
        worst = np.abs(got.astype(np.float64) - want.astype(np.float64)).max()
        raise Failed(f"{where}: {int(unequal.sum())} of {got.size} differ, first at token {t} id {v}, max {worst:.3g}")


def check_many(table, bitnet, directories, quick):
    for directory in directories:
        folder = directory / "expected" / "f32"
        # The fourth prompt of a hybrid is long: states must not depend on how many positions are computed at once.
        most = 4 if "qwen35-" in directory.name else 3
        prompts = [c["prompt_ids"] for c in load_json(folder / "cases.json")][: 2 if quick else most]
        check(table, bitnet, directory, directory.name, prompts, quick, load_json(directory / "config.json"))
