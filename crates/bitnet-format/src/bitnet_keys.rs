//! The keys of `__metadata__` in a `.bitnet` file.

/// Says that the file is one, and its version.
pub const FORMAT: &str = "bitnet.format";
/// The version that is written and read.
pub const VERSION: &str = "1";
/// The text of the model's `config.json`.
pub const CONFIG: &str = "bitnet.config";
/// The text of `generation_config.json`.
pub const GENERATION_CONFIG: &str = "bitnet.generation_config";
/// The text of the model's `tokenizer.json`.
pub const TOKENIZER: &str = "bitnet.tokenizer";
/// The text of `tokenizer_config.json`.
pub const TOKENIZER_CONFIG: &str = "bitnet.tokenizer_config";
/// The chat template, a Jinja text.
pub const CHAT_TEMPLATE: &str = "bitnet.chat_template";
/// How the names of filler tensors begin, which put the next tensor on a multiple of 64; readers hide them.
pub const FILLER: &str = "bitnet.filler.";
/// The tensor of digests that our writer adds, see [`Checkpoint::damaged`](crate::Checkpoint::damaged).
pub const DIGESTS: &str = "bitnet.filler.digests";
