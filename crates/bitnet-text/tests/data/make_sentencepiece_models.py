"""Trains small sentencepiece models and writes the ids that the sentencepiece library gives for texts.

Run in this directory: pip install sentencepiece==0.2.3, python make_sentencepiece_models.py
"""

import io
import json
import random
import tempfile

import sentencepiece

CORPUS = open("../../../../testdata/text/tinyshakespeare-6000.txt", encoding="utf-8").read()
RULES = [
    ("ﬁ", "fi"), ("Ａ", "A"), ("Ｂ", "B"), ("e\u0301", "é"), ("\u3000", " "), ("\t", " "), ("\n", " "), ("\u200b", ""),
    ("①", "1"), ("½", "1⁄2"),
]


def rules_file():
    codes = lambda text: " ".join(f"{ord(c):X}" for c in text)
    file = tempfile.NamedTemporaryFile("w", suffix=".tsv", delete=False)
    file.writelines(f"{codes(a)}\t{codes(b)}\n" for a, b in RULES)
    file.close()
    return file.name


def train(name, **options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines()), model_writer=out, minloglevel=2, hard_vocab_limit=False, **options
    )
    with open(f"sentencepiece-{name}.model", "wb") as file:
        file.write(out.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())


rules = rules_file()
models = {
    "bpe-bytes": train("bpe-bytes", vocab_size=600, model_type="bpe", byte_fallback=True,
                       normalization_rule_name="identity", remove_extra_whitespaces=False,
                       control_symbols=["<|im_end|>"]),
    "bpe-rules": train("bpe-rules", vocab_size=300, model_type="bpe", normalization_rule_tsv=rules),
    "unigram-bytes": train("unigram-bytes", vocab_size=700, model_type="unigram", byte_fallback=True,
                           normalization_rule_tsv=rules),
    "unigram-plain": train("unigram-plain", vocab_size=300, model_type="unigram", normalization_rule_name="identity",
                           add_dummy_prefix=False),
}
random.seed(7)
texts = [
    "", "hi", " ", "   ", "Hello, world!", "  two  spaces  ", "First Citizen:\nBefore we proceed any further, hear me speak.",
    "naïve café ﬁsh ＡＢ ①½ e\u0301", "日本語 and 中文", "\t tabs\tand\nlines\n\n", "a\u3000b\u200bc", "▁▁x ▁",
    "😀😀 smile 😀", "</s> <s> <unk> <|im_end|>", "The king's, the queen's; O, speak!", "a" * 37, "zzzzqqqq xkcd",
    "1234567890 3.14", "\u0301combining", "ñ Ñ ß ẞ ǅ", "end ",
]
words = CORPUS.split()
texts += [" ".join(random.choice(words) for _ in range(random.randint(1, 12))) for _ in range(30)]
texts += ["".join(random.choice("abcdefgh  ABC.,;'ﬁ①é\t\u3000日Ａ▁") for _ in range(random.randint(1, 20))) for _ in range(40)]
result = {"texts": texts, "ids": {name: [model.encode(text) for text in texts] for name, model in models.items()},
          "decoded": {name: [model.decode(model.encode(text)) for text in texts] for name, model in models.items()}}
with open("sentencepiece_models.json", "w", encoding="utf-8") as file:
    json.dump(result, file, ensure_ascii=False, separators=(",", ":"))
    file.write("\n")
