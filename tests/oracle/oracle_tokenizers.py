"""Small tokenizers of every kind the model families use, trained with the `tokenizers` package.

Each function returns a `tokenizers.Tokenizer`; `write_cases` computes the expected encodings with that package.
"""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _specials(tokenizer, names):
    tokenizer.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])


def _prepend(tokenizer, token):
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, tokenizer.token_to_id(token))]
    )


def _train_bytes(tokenizer, text, size, first=()):
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(first),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)


def llama3(text, vocabulary):
    """Byte-level BPE with the LLaMA-3 splitter, BOS prepended, specials last."""
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    t.decoder = decoders.ByteLevel()
    _train_bytes(t, text, vocabulary - len(names))
    _specials(t, names)
    _prepend(t, names[0])
    return t


def falcon3(text, vocabulary):
    """Byte-level BPE after Punctuation, the GPT-2 splitter and single digits; BOS is not prepended."""
    names = ["<|endoftext|>", "<|user|>", "<|assistant|>"]
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation("contiguous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    t.decoder = decoders.ByteLevel()
    _train_bytes(t, text, vocabulary, first=names)
    return t


def neox(text, vocabulary):
    """GPT-NeoX: NFC, GPT-2 splitter, `<|endoftext|>` is id 0, nothing prepended."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    t.decoder = decoders.ByteLevel()
    _train_bytes(t, text, vocabulary - 2, first=["<|endoftext|>", "<|padding|>"])
    # GPT-NeoX carries runs of spaces as added tokens that are not special.
    t.add_tokens([AddedToken("   ", normalized=True, special=False), AddedToken("  ", normalized=True, special=False)])
    return t


def qwen2(text, vocabulary):
    """Qwen2/3: NFC, splitter with single digits, ChatML specials last, nothing prepended."""
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    t.decoder = decoders.ByteLevel()
    _train_bytes(t, text, vocabulary - len(names))
    _specials(t, names)
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return t


def sentencepiece(text, vocabulary):
    """LLaMA-2 style: `<unk> <s> </s>`, 256 byte tokens, pieces with U+2581, byte fallback; two added tokens last.

    The merges list holds every pair whose join is a piece, ordered by the piece's score, as transformers' converter
    does, so merging by rank and merging by score are the same thing.
    """
    seed = Tokenizer(models.BPE())
    seed.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    # Word pieces only: cut before each U+2581.
    seed.pre_tokenizer = pre_tokenizers.Split(Regex("\u2581?[^\u2581]+|\u2581+"), "isolated")
    wanted = vocabulary - 3 - 256 - 2
    seed.train_from_iterator([text], trainers.BpeTrainer(vocab_size=wanted, show_progress=False))
    pieces = [p for p, _ in sorted(seed.get_vocab().items(), key=lambda kv: kv[1])]
    # sentencepiece puts merged pieces first (best first) and single characters after them.
    merged = [p for p in pieces if len(p) > 1]
    single = [p for p in pieces if len(p) == 1]
    order = merged + single
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + order
    scores = [0.0] * 259 + [-float(i) for i in range(len(order))]
    ids = {tok: i for i, tok in enumerate(tokens)}
    merges = []
    for piece in merged:
        pairs = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in ids and piece[i:] in ids]
        merges.extend(sorted(pairs, key=lambda p: (ids[p[0]], ids[p[1]])))
    t = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    t.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    t.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in ("<unk>", "<s>", "</s>")])
    t.add_tokens([AddedToken("<pad>", special=True, normalized=False), AddedToken("</line>", special=False, normalized=False)])
    _prepend(t, "<s>")
    # Kept for the GGUF writer; a Tokenizer object takes no attributes, so it travels beside it.
    return t, {"tokens": tokens + ["<pad>", "</line>"], "scores": scores + [-1e4, -1e4]}


TEXTS = [
    "Hello, world!",
    "",
    " ",
    "  two  spaces   three ",
    "\n\nFirst Citizen:\n\tWe are accounted poor citizens,\r\n",
    "it's IT'S we'Ll 1234567 12.5% 3/4",
    "naïve café e\u0301 中文 \U0001f600 \u200d\ufe0f",
    "Привет, мир! שלום עולם ١٢٣ ½",
    "a\u00a0b\u2003c\u3000d",
    "x" * 33 + "....!!!???---",
    "<|eot_id|>x<|endoftext|></s> y<|im_end|>",
    "speak, speak.\u0000\u0001",
]


def write_cases(tokenizer, path, skip=None):
    """Expected values of `tokenizers` for TEXTS, in the shape of the shipped `tokenizer_cases.json`."""
    cases = []
    for text in TEXTS:
        if skip and skip in text:
            continue
        ids = tokenizer.encode(text).ids
        cases.append(
            {
                "text": text,
                "ids": ids,
                "ids_no_special": tokenizer.encode(text, add_special_tokens=False).ids,
                "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                "decoded_skip_special": tokenizer.decode(ids, skip_special_tokens=True),
            }
        )
    path.write_text(json.dumps({"encode": cases}, ensure_ascii=True, indent=0) + "\n")
