//! How a byte-level vocabulary cuts text before merging: the table behind `tokenizer.ggml.pre`.
//!
//! The regular expressions are those of llama.cpp's `llama-vocab.cpp` (names too), in the spelling of the Hugging Face files
//! where the two say the same. Each expression of a list is applied to the pieces that the one before it left; what it does
//! not match stays a piece.
//!
//! | splitter | names | `ignore_merges` | adds BOS when the file does not say |
//! |---|---|---|---|
//! | LLaMA-3 | `llama-bpe`, `llama3`, `llama-v3`, `falcon3`, `falcon-h1`, `pixtral`, `midm-2.0`, `lfm2` | yes | yes |
//! | LLaMA-3 expression only | `smaug-bpe`, `dbrx`, `chatglm-bpe` | no | no |
//! | Qwen2 | `qwen2`, `deepseek-r1-qwen`, `stablelm2`, `megrez`, `hunyuan` | no | no |
//! | Qwen3.5 | `qwen35` | no | no |
//! | GPT-2 | `gpt-2`, `gpt2`, `phi-2`, `mpt`, `olmo`, `jina-es`, `jina-de`, `jais`, `trillion` | no | no |
//! | digits, then GPT-2 | `starcoder`, `refact`, `command-r`, `smollm`, `codeshell`, `exaone` | no | no |
//! | Falcon | `falcon` | no | no |
//! | Falcon-E | `falcon_e`, `falcon-e` | no | no |
//! | llama.cpp's default | `default` | no | no |
//!
//! `qwen35` is Qwen2 with marks (`\p{M}`) among the letters. `falcon3` follows upstream llama.cpp. `falcon_e` exists only in forks; it is punctuation runs, GPT-2, single digits.

use serde_json::{Value, json};

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(crate) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";
const PUNCTUATION_AND_BACKTICK: &str = r"[\p{P}\$\+<=>\^~\|`]+";

/// A pre-tokenizer by the names that GGUF files give it, with the expressions that cut a text into pieces.
#[derive(Debug)]
pub(crate) struct Splitter {
    /// The first name is the one that is written.
    names: &'static [&'static str],
    patterns: &'static [&'static str],
    /// A piece that is itself a token becomes it, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// What an absent `tokenizer.ggml.add_bos_token` means.
    pub(crate) adds_bos: bool,
}

const fn row(names: &'static [&'static str], patterns: &'static [&'static str]) -> Splitter {
    Splitter { names, patterns, ignore_merges: false, adds_bos: false }
}

static TABLE: [Splitter; 9] = [
    Splitter {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns: &[LLAMA3],
        ignore_merges: true,
        adds_bos: true,
    },
    row(&["smaug-bpe", "dbrx", "chatglm-bpe"], &[LLAMA3]),
    row(&["qwen2", "deepseek-r1-qwen", "stablelm2", "megrez", "hunyuan"], &[QWEN2]),
    row(&["qwen35"], &[QWEN35]),
    row(&["gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jina-es", "jina-de", "jais", "trillion"], &[GPT2]),
    row(&["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone"], &[r"\p{N}", GPT2]),
    row(&["falcon"], &[PUNCTUATION_AND_BACKTICK, GPT2, "[0-9][0-9][0-9]"]),
    row(&["falcon_e", "falcon-e"], &[PUNCTUATION_AND_BACKTICK, GPT2, "[0-9]"]),
    row(&["default"], &[PUNCTUATION, GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
];

/// Every name of a splitter that `tokenizer.ggml.pre` may hold.
pub fn splitter_names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|row| row.names.iter().copied())
}

impl Splitter {
    pub(crate) fn by_name(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|row| row.names.contains(&name))
    }

    /// The name that is written to GGUF files; others are read as well.
    pub(crate) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or("default")
    }

    /// The `pre_tokenizer` section of a tokenizer.json that cuts the same way.
    pub(crate) fn to_json(&self) -> Value {
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
        let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let steps: Vec<Value> = self.patterns.iter().map(split).chain([byte_level]).collect();
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    /// The splitter that a `pre_tokenizer` section of a byte-level tokenizer.json is.
    pub(crate) fn detect(pre_tokenizer: &Value, ignore_merges: bool) -> Option<&'static Self> {
        let mut found = Vec::new();
        collect_patterns(pre_tokenizer, &mut found)?;
        // What an expression leaves unmatched is a piece anyway, so this alternative at the end says nothing.
        let same = |a: &str, b: &str| a.trim_end_matches(r"|\s+") == b.trim_end_matches(r"|\s+");
        TABLE.iter().find(|row| {
            row.ignore_merges == ignore_merges
                && row.patterns.len() == found.len()
                && row.patterns.iter().zip(&found).all(|(a, b)| same(a, b))
        })
    }
}

/// The expressions of a section in order; `None` where a step is not one of the kinds that GGUF names can stand for.
fn collect_patterns(step: &Value, found: &mut Vec<String>) -> Option<()> {
    let flag = |key: &str, default: bool| step.get(key).and_then(Value::as_bool).unwrap_or(default);
    match step.get("type")?.as_str()? {
        "Sequence" => {
            for inner in step.get("pretokenizers")?.as_array()? {
                collect_patterns(inner, found)?;
            }
        }
        "Split" if step.get("behavior")?.as_str()? == "Isolated" && !flag("invert", false) => {
            found.push(step.get("pattern")?.get("Regex")?.as_str()?.to_string());
        }
        "ByteLevel" if !flag("add_prefix_space", true) => {
            if flag("use_regex", true) {
                found.push(GPT2.to_string());
            }
        }
        "Digits" if flag("individual_digits", false) => found.push(r"\p{N}".to_string()),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_splitter_is_recognised_in_its_own_json() {
        for row in &TABLE {
            let found = Splitter::detect(&row.to_json(), row.ignore_merges);
            assert_eq!(found.map(Splitter::name), Some(row.name()));
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = splitter_names().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_plain_byte_level_section_is_gpt2_and_a_prefix_space_is_not() {
        let section = |space| json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true});
        assert_eq!(Splitter::detect(&section(false), false).map(Splitter::name), Some("gpt-2"));
        assert!(Splitter::detect(&section(true), false).is_none());
    }
}
