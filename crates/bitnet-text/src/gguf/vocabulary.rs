//! The vocabulary as the keys of a GGUF file.

/// The `tokenizer.ggml.*` keys of a GGUF file, as they stand there. This crate reads no files: the caller fills this in.
///
/// `Default` is an empty vocabulary, so that a caller can name only what the file has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (sentencepiece BPE).
    pub model: String,
    /// `tokenizer.ggml.pre`, the splitter; see [`crate::splitter_names`].
    pub pre: Option<String>,
    /// `general.architecture`; decides the splitter of a file that names none: the `bitnet*` architectures, and
    /// vocabularies of 128256 tokens, are LLaMA-3's; others get llama.cpp's default.
    pub architecture: String,
    /// `tokenizer.ggml.tokens`, UTF-8, by id.
    pub tokens: Vec<Vec<u8>>,
    /// `tokenizer.ggml.scores`, by id; empty or as long as `tokens`.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.token_type`, by id (values: [`token_type`](crate::token_type)); empty (all normal) or as long as `tokens`.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`, `left right`, best first.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`, the beginning of a text.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`, the end of a text.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`, the end of a turn.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`, the end of a message that calls a tool.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`; absent means what llama.cpp takes it for (yes for `llama` and LLaMA-3).
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`; absent means no.
    pub add_eos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`; absent means yes for `llama`; `gpt2` has none.
    pub add_space_prefix: Option<bool>,
    /// Written by [`Tokenizer::to_gguf_vocabulary`](crate::Tokenizer::to_gguf_vocabulary): what the format cannot say, one sentence each. Ignored when read.
    pub losses: Vec<String>,
}
