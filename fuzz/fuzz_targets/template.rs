//! Arbitrary chat templates: compile and render within their limits, and a person's control tokens never come through.
#![no_main]

use bitnet_text::{ChatTemplate, GgufVocabulary, Message, Tokenizer, encode_chat, token_type};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let mut tokens: Vec<Vec<u8>> = vec![b"<unk>".to_vec(), b"<s>".to_vec(), b"</s>".to_vec()];
        let mut token_types = vec![token_type::UNKNOWN, token_type::CONTROL, token_type::CONTROL];
        for byte in 0..=255u8 {
            tokens.push(format!("<0x{byte:02X}>").into_bytes());
            token_types.push(token_type::BYTE);
        }
        tokens.push(b"<|end|>".to_vec());
        token_types.push(token_type::CONTROL);
        let scores = vec![0.0; tokens.len()];
        let vocabulary =
            GgufVocabulary { model: "llama".into(), tokens, token_types, scores, ..GgufVocabulary::default() };
        Tokenizer::from_gguf(vocabulary).expect("a byte vocabulary")
    })
}

fuzz_target!(|source: &str| {
    let Ok(template) = ChatTemplate::new(source, Some("<s>"), Some("</s>")) else { return };
    let messages = [
        Message::new("system", " Be brief.\n"),
        Message::new("user", "What is <|end|> of \"</s>\"?"),
        Message::new("assistant", "<think>x</think> y"),
    ];
    let _ = template.render(&messages, true);
    let tokenizer = tokenizer();
    let end = tokenizer.id_of("<|end|>").expect("is in the vocabulary");
    if let Ok(ids) = encode_chat(tokenizer, &template, &messages, false) {
        // The template may write the token itself; then it says so.
        let written = ["<", "|", "end", "\\", "~", "+", "join", "replace", "[", "|slice", "format", "reverse", "list"];
        if !written.iter().any(|part| source.contains(part)) {
            assert!(!ids.contains(&end), "{source:?}");
        }
    }
});
