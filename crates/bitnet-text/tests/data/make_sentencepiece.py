"""Writes sentencepiece.json: a small BPE vocabulary trained by sentencepiece itself, as the GGUF keys would hold it, and the ids
that sentencepiece gives for some texts. Needs `pip install sentencepiece` (written with 0.2); trained on this very file."""

import io
import json
import pathlib

import sentencepiece as spm

here = pathlib.Path(__file__)
WORDS = """the quick brown fox jumps over the lazy dog; a ternary weight is minus one, zero or one, and the activations are eight
bit integers: aaaa aaa aa a, ababab abab aba, !!!! ???? .... ==== ---- 0000 1111 2024, naive cafe, int main(void) { return 0; }
    indented    text   with  spaces, and again the text with the spaces, banana bandana cabana anna nana mississippi
the theory of the thermal theatre there; other others mother brother bother another; in inn inner winner dinner thinner"""
model = io.BytesIO()
spm.SentencePieceTrainer.train(
    sentence_iterator=iter((WORDS.splitlines() + here.read_text().splitlines()) * 3),
    model_writer=model,
    model_type="bpe",
    vocab_size=620,
    byte_fallback=True,
    split_digits=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    add_dummy_prefix=True,
    allow_whitespace_only_pieces=True,
    user_defined_symbols=["</line>"],
    max_sentence_length=10000,
)
sp = spm.SentencePieceProcessor(model_proto=model.getvalue())


def kind(i):
    if sp.is_unknown(i):
        return 2
    if sp.is_control(i):
        return 3
    if sp.is_byte(i):
        return 6
    return 4 if sp.id_to_piece(i) == "</line>" else 1


TEXTS = [
    "the quick brown fox", "The theory of another brother", "banana bandana cabana", "mississippi", "aaaaaaa aaaaa aaa",
    "abababab ababab", "  two  spaces  ", " ", "   ", "\n\n\ttabs\r\n", "0123456789 2024", "naïve café — 中文字 😀", "!!!!!!!",
    "int main(void) {\n    return 0;\n}", "a", "e\u0301 \u200b x\u0000y", "ßüöä ÿ", "<s> </s> <unk> <0x41>", "▁under▁score", "winnerdinnerthinner",
    "====----====", "thethethethe", "nananananana annanna", "in the inn, in the inner inn",
]
data = {
    "tokens": [sp.id_to_piece(i) for i in range(sp.get_piece_size())],
    "scores": [sp.get_score(i) for i in range(sp.get_piece_size())],
    "types": [kind(i) for i in range(sp.get_piece_size())],
    "cases": [{"text": t, "ids": sp.encode(t), "decoded": sp.decode(sp.encode(t))} for t in TEXTS],
}
here.with_name("sentencepiece.json").write_text(json.dumps(data, ensure_ascii=False) + "\n")
