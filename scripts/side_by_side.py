"""Times `bitnet` and llama-cpp-python on one GGUF file, in turns, and prints medians and ratios.

    python side_by_side.py MODEL.gguf --bitnet PATH [--rounds N] [--threads 1,2] [--prompt N] [--generate N]

Each turn is a process of its own, so that neither finds the other's caches, threads or memory. Both prefill the same number of
tokens and then generate greedily; loading is outside the clock.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time


def llama(model, threads, prompt, generate):
    """One turn of llama.cpp, through its C interface: tokens/s of prompt and generation."""
    import ctypes

    import llama_cpp as lib
    import numpy as np

    engine = lib.Llama(
        model_path=model, n_ctx=prompt + generate + 16, n_batch=512, n_ubatch=512, n_threads=threads,
        n_threads_batch=threads, verbose=False,
    )
    vocab = engine.n_vocab()
    context = engine._ctx.ctx

    def decode(ids):
        array = (lib.llama_token * len(ids))(*ids)
        if lib.llama_decode(context, lib.llama_batch_get_one(array, len(ids))) != 0:
            sys.exit("llama_decode failed")

    def forget():
        lib.llama_memory_clear(lib.llama_get_memory(context), True)

    def last():
        logits = np.ctypeslib.as_array(ctypes.cast(lib.llama_get_logits_ith(context, -1), ctypes.POINTER(ctypes.c_float)), (vocab,))
        return int(logits.argmax())

    ids = [(i * 6151 + 3) % vocab for i in range(prompt)]
    speeds = {"pp": [], "tg": []}
    for turn in range(3):
        forget()
        if prompt:
            start = time.perf_counter()
            decode(ids)
            last()
            speeds["pp"].append(prompt / (time.perf_counter() - start))
        forget()
        token = 1
        decode([token])
        start = time.perf_counter()
        for _ in range(generate):
            decode([token])
            token = last()
        speeds["tg"].append(generate / (time.perf_counter() - start))
    return {test: statistics.median(all) for test, all in speeds.items() if all}


def child(model, threads, prompt, generate):
    """llama.cpp in a process of its own."""
    command = [sys.executable, __file__, model, "--child", "--threads", str(threads), "--prompt", str(prompt), "--generate", str(generate)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"llama-cpp-python failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def bitnet(program, model, threads, prompt, generate):
    """One turn of ours, with the limits measured around it."""
    command = [program, "bench", model, "--threads", str(threads), "--prompt", str(prompt), "--generate", str(generate)]
    command += ["--repetitions", "3", "--no-breakdown", "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bitnet bench failed:\n{done.stderr[-2000:]}")
    return {row["test"]: row for row in json.loads(done.stdout)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--bitnet", default="target/release/bitnet")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--generate", type=int, default=32)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(llama(args.model, int(args.threads), args.prompt, args.generate)))
        return
    print(f"{'test':8} {'threads':>7} {'ours':>10} {'llama.cpp':>10} {'ratio':>8} {'ratios of the rounds':>24} {'of limit':>9}")
    for threads in map(int, args.threads.split(",")):
        ours, theirs = [], []
        for _ in range(args.rounds):
            ours.append(bitnet(args.bitnet, args.model, threads, args.prompt, args.generate))
            theirs.append(child(args.model, threads, args.prompt, args.generate))
        for test, tokens in (("pp", args.prompt), ("tg", args.generate)):
            if not tokens:
                continue
            a = [row[test]["tokens_per_s"] for row in ours]
            b = [speeds[test] for speeds in theirs]
            ratios = [x / y for x, y in zip(a, b)]
            limit = statistics.median(row[test]["of_limit"] for row in ours)
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(
                f"{test + str(tokens):8} {threads:7} {statistics.median(a):10.2f} {statistics.median(b):10.2f}"
                f" {statistics.median(ratios):8.2f} {spread:>24} {100 * limit:7.1f} %"
            )


if __name__ == "__main__":
    main()
