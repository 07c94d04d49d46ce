//! Tokens that end a text or a turn wherever they stand, by their spelling.

/// Whole vocabulary entries that end a turn or a text in published models. Most are those of llama.cpp's `llama-vocab.cpp`.
pub(crate) const SPELLINGS: [&str; 25] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<turn|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<|endofturn|>",
    "<|end_of_sentence|>",
    "<|end▁of▁sentence|>",
    "<｜end▁of▁sentence｜>",
    "<|eos|>",
    "<|eot|>",
    "<|eom|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<end_of_utterance>",
];

/// Whether a vocabulary entry of this text ends turns wherever it stands.
pub(crate) fn is_end(text: &str) -> bool {
    SPELLINGS.contains(&text)
}

/// Whether a token that a file names as the beginning or the end of a text must stay text, too: a line's end, a letter.
pub(crate) fn is_ordinary(text: &str) -> bool {
    // White space as vocabularies write it.
    let blank = |c: char| c.is_whitespace() || matches!(c, 'Ġ' | 'Ċ' | 'č' | 'ĉ' | '▁');
    text.chars().count() <= 1 || text.chars().all(blank)
}
