//! A template and a conversation, as `run --chat` and training take them: ids, answers in them, and no control token of a person.
#![no_main]

use bitnet_text::{
    ChatTemplate, GgufVocabulary, Message, TextError, Tokenizer, encode_chat, encode_dialogue, token_type,
};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

/// The token that only a person types.
const TYPED: &str = "<|typed|>";

fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let control = ["<s>", "</s>", TYPED, "<|im_start|>", "<|im_end|>"];
        let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
        let mut tokens = vec![("<unk>".to_owned(), token_type::UNKNOWN)];
        tokens.extend(control.map(|text| (text.to_owned(), token_type::CONTROL)));
        tokens.extend(bytes.map(|text| (text, token_type::BYTE)));
        let (tokens, token_types): (Vec<_>, Vec<_>) =
            tokens.into_iter().map(|(t, k)| (t.into_bytes(), k)).unzip();
        let scores = vec![0.0; tokens.len()];
        let vocabulary = GgufVocabulary {
            model: "llama".into(),
            tokens,
            token_types,
            scores,
            ..GgufVocabulary::default()
        };
        Tokenizer::from_gguf(vocabulary).expect("a byte vocabulary")
    })
}

// The template ends at the first zero byte; messages are parted by further ones.
fuzz_target!(|data: &str| {
    let mut parts = data.split('\0');
    let source = parts.next().unwrap_or_default();
    let Ok(template) = ChatTemplate::new(source, Some("<s>"), Some("</s>")) else { return };
    let roles = ["user", "assistant", "system", "tool"];
    let mut messages: Vec<Message> =
        parts.take(16).enumerate().map(|(at, text)| Message::new(roles[at % 4], text)).collect();
    messages.push(Message::new("user", format!("what is {TYPED}?")));
    messages.push(Message::new("assistant", "nothing"));
    let tokenizer = tokenizer();
    let typed = tokenizer.id_of(TYPED).expect("is in the vocabulary");
    // A template that can spell the token, or take a text apart, may write it.
    let innocent = !source.contains(['|', '[', '~', '+', '%', '.', '*', '\\']);
    for (count, open) in [(messages.len(), false), (messages.len() - 1, true)] {
        match encode_chat(tokenizer, &template, &messages[..count], open) {
            Ok(ids) => assert!(!(innocent && ids.contains(&typed)), "{source:?}"),
            Err(error) => told(&error),
        }
    }
    match encode_dialogue(tokenizer, &template, &messages) {
        Ok(dialogues) => {
            for dialogue in dialogues {
                assert!(dialogue.answers.iter().all(|answer| answer.end <= dialogue.ids.len()));
            }
        }
        Err(error) => told(&error),
    }
});

/// Errors are sentences, and not as long as the template.
fn told(error: &TextError) {
    assert!(!error.to_string().is_empty());
}
