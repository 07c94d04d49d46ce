"""Tokenizers, vocabulary-only GGUF files and chat templates, all exact."""

import json

from .command import Failed, Skipped, load_json

SEPARATOR = "\n__ggml_vocab_test__\n"


def check_directory(table, bitnet, directory, quick):
    path = directory / "expected" / "tokenizer_cases.json"
    if not path.exists():
        return
    cases = load_json(path)
    check_cases(table, bitnet, directory, directory.name, cases["encode"][: 4 if quick else None])
    if cases.get("chat"):
        table.run(f"{directory.name}/chat", "equal ids", lambda: chat(bitnet, directory, cases["chat"]))


def check_cases(table, bitnet, model, name, cases):
    table.run(f"{name}/encode", "equal ids", lambda: all_equal(cases, "ids", lambda c: bitnet.encode(model, c["text"])))
    table.run(
        f"{name}/encode-no-special",
        "equal ids",
        lambda: all_equal(cases, "ids_no_special", lambda c: bitnet.encode(model, c["text"], "--no-special")),
    )
    table.run(f"{name}/decode", "equal text", lambda: decoded(bitnet, model, cases))
    table.run(f"{name}/encode-argument", "equal ids", lambda: argument(bitnet, model, cases))


def all_equal(cases, key, run):
    for i, case in enumerate(cases):
        got = run(case)
        if got != case[key]:
            raise Failed(f"case {i} {case['text'][:40]!r}: {got}, expected {case[key]}")
    return f"{len(cases)} equal"


def decoded(bitnet, model, cases):
    count = 0
    for i, case in enumerate(cases):
        for key, options in (("decoded", ()), ("decoded_skip_special", ("--no-special",))):
            if key not in case:
                continue
            got = bitnet.decode(model, case["ids"], *options)
            if got not in (case[key], case[key] + "\n"):
                raise Failed(f"case {i} {key}: {got!r}, expected {case[key]!r}")
            count += 1
    return f"{count} equal"


def argument(bitnet, model, cases):
    """The text as an argument instead of a file."""
    case = next(c for c in cases if c["text"].strip() and "\0" not in c["text"] and not c["text"].startswith("-"))
    got = json.loads(bitnet.must("tokenize", model, case["text"]))
    if got != case["ids"]:
        raise Failed(f"{case['text']!r}: {got}, expected {case['ids']}")
    return "1 equal"


def chat(bitnet, model, cases):
    """`bitnet run MODEL PROMPT --chat [--system TEXT] --json` reports the prompt's ids.

    Conversations of several turns are the library's tests' business: the command has no form for them in one call.
    """
    prefix, compared = bitnet.encode(model, ""), 0
    for i, case in enumerate(cases):
        roles = [m["role"] for m in case["messages"]]
        if roles not in (["user"], ["system", "user"]) or not case["add_generation_prompt"]:
            continue
        *system, user = [m["content"] for m in case["messages"]]
        options = ["--chat", *(["--system", system[0]] if system else []), "--greedy", "--max-new-tokens", 1, "--json"]
        got = json.loads(bitnet.must("run", model, user, *options))["prompt_ids"]
        # Where the template leaves BOS out and the tokenizer puts one before every text, exactly one is right too.
        if got not in (case["ids"], prefix + case["ids"] if case["ids"][:1] != prefix[:1] else case["ids"]):
            raise Failed(f"case {i} {user[:30]!r}: {got}, expected {case['ids']}")
        compared += 1
    if not compared:
        raise Skipped("only conversations of several turns: the command cannot express them")
    return f"{compared} equal, {len(cases) - compared} not expressible"


def check_vocabularies(table, bitnet, oracle, quick):
    for path in sorted((oracle / "vocab").glob("*.gguf")):
        texts = path.with_suffix(".gguf.inp").read_bytes().decode("utf-8").split(SEPARATOR)
        lines = path.with_suffix(".gguf.out").read_text().split("\n")[: len(texts)]
        cases = [{"text": t, "ids_no_special": [int(x) for x in line.split()]} for t, line in zip(texts, lines)]
        cases = cases[: 8 if quick else None]
        table.run(
            f"vocab/{path.stem}",
            "equal ids",
            lambda p=path, c=cases: all_equal(c, "ids_no_special", lambda k: bitnet.encode(p, k["text"], "--no-special")),
        )
    tiktoken = oracle / "vocab" / "llama3-tiktoken-cases.json"
    model = oracle / "bitnet-r-llama3vocab-offline-packed"
    if tiktoken.exists() and model.exists():
        cases = load_json(tiktoken)["cases"][: 8 if quick else None]
        table.run("vocab/llama3-tiktoken/specials-parsed", "equal ids", lambda: all_equal(cases, "ids_special", lambda k: bitnet.encode(model, k["text"], "--no-special")))
        table.run("vocab/llama3-tiktoken/specials-as-text", "equal ids", lambda: specials_as_text(bitnet, model, cases))


def specials_as_text(bitnet, model, cases):
    usage = bitnet.must("tokenize", "--help").decode()
    flag = next((f for f in ("--plain", "--no-parse-special", "--specials-as-text") if f in usage), None)
    if flag is None:
        # Without a flag only the texts that hold no control token can be put to the command.
        same = [c for c in cases if c["ids"] == c["ids_special"]]
        all_equal(same, "ids", lambda k: bitnet.encode(model, k["text"], "--no-special"))
        if len(same) == len(cases):
            return f"{len(same)} equal"
        raise Skipped(f"{len(same)} equal; {len(cases) - len(same)} need a flag the command lacks")
    return all_equal(cases, "ids", lambda k: bitnet.encode(model, k["text"], "--no-special", flag))
