//! `vocab.json` and `merges.txt`, the two files of byte-level vocabularies before there was tokenizer.json.

use crate::error::TextError;
use crate::splitter::Splitter;
use crate::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

impl Tokenizer {
    /// Builds the tokenizer of a `vocab.json` (ids by token) and a `merges.txt` (two tokens a line, best first). `added` are tokens
    /// that stand beside them: text, id, and whether it is a control token. `class` is `tokenizer_class` of
    /// tokenizer_config.json, which alone says how text is cut; what is not known there is cut as GPT-2 does.
    ///
    /// # Errors
    /// Files that are not of this form, and those of [`Tokenizer::from_json`].
    pub fn from_vocab_and_merges(
        vocab: &str,
        merges: &str,
        added: &[(String, u32, bool)],
        class: &str,
    ) -> Result<Self, TextError> {
        let json = |e: serde_json::Error| TextError::invalid("vocab.json", e.to_string());
        let mut vocab: Map<String, Value> = serde_json::from_str(vocab).map_err(json)?;
        let mut tokens = Vec::new();
        for (text, id, special) in added {
            vocab.entry(text.clone()).or_insert(json!(id));
            tokens.push(
                json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special}),
            );
        }
        // The first line tells a version; a token may itself begin with `#`.
        let lines = merges
            .lines()
            .enumerate()
            .filter(|(at, l)| !l.is_empty() && (*at > 0 || !l.starts_with("#version")));
        let merges: Vec<&str> = lines.map(|(_, line)| line).collect();
        let (splitter, qwen) = match class {
            _ if class.starts_with("Qwen3_5") => ("qwen35", true),
            _ if class.starts_with("Qwen2") => ("qwen2", true),
            _ => ("gpt2", false),
        };
        let splitter = Splitter::by_name(splitter);
        let file = json!({
            "version": "1.0",
            "added_tokens": tokens,
            "normalizer": if qwen { json!({"type": "NFC"}) } else { Value::Null },
            "pre_tokenizer": splitter.map(Splitter::to_json),
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "vocab": vocab, "merges": merges},
        });
        Self::from_json(file.to_string())
    }
}
