//! Why the engine cannot do what was asked.

/// What went wrong in loading or generating.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model or its files.
    #[error(transparent)]
    Model(#[from] bitnet_model::ModelError),
    /// The model on its device, or a step.
    #[error(transparent)]
    Decoder(#[from] bitnet_decoder::DecoderError),
    /// The device.
    #[error(transparent)]
    Device(#[from] bitnet_device::DeviceError),
    /// A file that cannot be taken for a model.
    #[error(transparent)]
    Source(#[from] bitnet_source::SourceError),
    /// The file itself.
    #[error(transparent)]
    Format(#[from] bitnet_format::FormatError),
    /// The tokenizer or the chat template.
    #[error(transparent)]
    Text(#[from] bitnet_text::TextError),
    /// A kernel that cannot be used here.
    #[error(transparent)]
    Kernel(#[from] bitnet_kernels::KernelError),
    /// Memory.
    #[error(transparent)]
    Core(#[from] bitnet_core::Error),
    /// Text was given or asked for, and the model came without a tokenizer.
    #[error(
        "the model has no tokenizer: give token ids, or put its tokenizer.json, its tokenizer.model, or its vocab.json and merges.txt beside it"
    )]
    NoTokenizer,
    /// A conversation was asked for, and the model came without a chat template.
    #[error("the model has no chat template")]
    NoChatTemplate,
    /// A conversation was asked for, and the model came with several chat templates, none of them the default.
    #[error(
        "the model has several chat templates and none is the default: {names}; put the one you mean beside it as \
         chat_template.jinja"
    )]
    NamedTemplates {
        /// Their names, separated by commas.
        names: String,
    },
    /// There is nothing to continue.
    #[error("the prompt is empty and the model has no token that begins a text: give at least one token")]
    EmptyPrompt,
    /// A sampling option that cannot be.
    #[error("{0}")]
    Sampling(String),
    /// A prompt that leaves no room.
    #[error(
        "the prompt has {tokens} tokens, but the context has room for {room}: shorten it or raise the context length"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Positions that are left.
        room: usize,
    },
    /// A context that no memory holds.
    #[error("a context of {context} positions does not fit into memory: ask for a shorter one")]
    ContextTooLarge {
        /// Positions asked for.
        context: usize,
    },
    /// A model whose logits are not finite.
    #[error("the model's logits are no finite numbers: its weights are damaged, or it was never trained")]
    NotANumber,
}
