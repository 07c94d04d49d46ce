"""Makes splits.json: how the `tokenizers` package cuts texts by the expression of Qwen3.5, and of Qwen2 beside it.

The expressions are those of the two models' tokenizer.json files; `tokenizers` 0.23.3 was used. Run it in this folder.
"""

import json

from tokenizers import Regex, pre_tokenizers

TAIL = r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?"
EXPRESSIONS = {
    "qwen2": HEAD + r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+" + TAIL,
    "qwen35": HEAD + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+" + TAIL,
}
TEXTS = [
    "Hello, world! It's 12345 o'clock.",
    "DON'T we'Ll I'VE",
    "e\u0301te\u0301 na\u0308ive",
    "\u0301a \u0301 .\u0301. 1\u03012",
    "สวัสดีครับ ผมชื่ออเล็กซ์",
    "हिन्दी में लिखा हुआ",
    "שָׁלוֹם עוֹלָם",
    "x\u20dd y\ufe0f ✌\ufe0f👩\u200d👩\u200d👧",
    "你好，世界！2026年8月13日 🎉",
    "a\r\n\r\n  b\t\tc   ",
    "_j __init__(self):\n    return ½ + ² + Ⅷ",
    "\u00a0x\u2028y\u3000z",
    "...\u0300\n\n\u0301\n",
    "  \u0301  a",
]


def pieces(expression, text):
    return [piece for piece, _ in pre_tokenizers.Split(Regex(expression), "isolated").pre_tokenize_str(text)]


cases = [{"text": text, **{name: pieces(e, text) for name, e in EXPRESSIONS.items()}} for text in TEXTS]
assert all("".join(case[name]) == case["text"] for case in cases for name in EXPRESSIONS)
with open("splits.json", "w", encoding="utf-8") as out:
    json.dump({"expressions": EXPRESSIONS, "cases": cases}, out, ensure_ascii=True, indent=1)
    out.write("\n")
