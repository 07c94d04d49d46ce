//! Ends of turns are found by name and by spelling, and are control tokens whatever a file says of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bitnet_text::{ChatTemplate, EncodeOptions, GgufVocabulary, Message, Tokenizer, encode_chat, token_type};
use serde_json::json;

const WORDS: [&str; 8] = ["<", "|", ">", "e", "o", "t", "_", "Ċ"];

/// A byte-level vocabulary of a few letters and these tokens.
fn gguf(tokens: &[(&str, i32)]) -> GgufVocabulary {
    let words = WORDS.iter().map(|w| (*w, token_type::NORMAL));
    let all: Vec<_> = words.chain(tokens.iter().copied()).collect();
    GgufVocabulary {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens: all.iter().map(|(t, _)| t.as_bytes().to_vec()).collect(),
        token_types: all.iter().map(|(_, kind)| *kind).collect(),
        ..GgufVocabulary::default()
    }
}

fn read(vocabulary: GgufVocabulary) -> Tokenizer {
    Tokenizer::from_gguf(vocabulary).unwrap()
}

fn parsed(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: true }).unwrap()
}

#[test]
fn known_spellings_end_turns_wherever_they_stand_and_whatever_type_they_carry() {
    for kind in [token_type::NORMAL, token_type::CONTROL, token_type::USER_DEFINED] {
        for end in [
            "<|eot_id|>",
            "<|im_end|>",
            "<end_of_turn>",
            "<|endoftext|>",
            "<EOT>",
            "<|eom_id|>",
            "<｜end▁of▁sentence｜>",
        ] {
            let tokenizer = read(gguf(&[("<|x|>", token_type::CONTROL), (end, kind)]));
            assert_eq!(tokenizer.end_ids(), [9], "{end}");
            assert!(tokenizer.is_special(9));
            // A template's is the token, a person's is text, and what is shown leaves it out.
            assert_eq!(parsed(&tokenizer, &format!("e{end}")), [3, 9]);
            assert!(!tokenizer.encode(end, EncodeOptions::default()).unwrap().contains(&9));
            assert_eq!(tokenizer.decode(&[3, 9], true), "e");
        }
    }
}

#[test]
fn named_ids_end_turns_and_are_control_tokens_unless_they_are_single_characters() {
    let odd = [
        ("<stop>", token_type::NORMAL),
        ("<turn>", token_type::NORMAL),
        ("<call>", token_type::USER_DEFINED),
    ];
    let named = GgufVocabulary { eos: Some(8), eot: Some(9), eom: Some(10), ..gguf(&odd) };
    let tokenizer = read(named);
    assert_eq!(tokenizer.end_ids(), [8, 9, 10]);
    assert_eq!(parsed(&tokenizer, "<stop><turn><call>"), [8, 9, 10]);
    // A model whose texts end with a line's end still reads lines.
    let lines = read(GgufVocabulary { eos: Some(7), ..gguf(&[]) });
    assert_eq!(lines.end_ids(), [7]);
    assert!(!lines.is_special(7));
    assert_eq!(lines.encode("e\n", EncodeOptions::default()).unwrap(), [3, 7]);
    // Without a name, an unknown spelling is only text.
    let plain = read(gguf(&[("<stop>", token_type::NORMAL)]));
    assert_eq!(plain.end_ids(), [0u32; 0]);
    let error = Tokenizer::from_gguf(GgufVocabulary { eot: Some(99), ..gguf(&[]) }).unwrap_err();
    assert!(error.to_string().contains("eot_token_id"), "{error}");
}

#[test]
fn spellings_that_mean_something_else_do_not_end_turns() {
    let control = token_type::CONTROL;
    let harmony = [("<|end|>", control), ("<|call|>", control), ("<|return|>", control)];
    assert_eq!(read(gguf(&harmony)).end_ids(), [9, 10]);
    assert_eq!(read(gguf(&[("<|end|>", control)])).end_ids(), [8]);
    // HTML's end of what is struck out, unless the file says that it is a control token.
    assert_eq!(read(gguf(&[("</s>", token_type::NORMAL)])).end_ids(), [0u32; 0]);
    assert_eq!(read(gguf(&[("</s>", control)])).end_ids(), [8]);
    assert_eq!(read(gguf(&[("</s>", control), ("<|tool_response>", control)])).end_ids(), [0u32; 0]);
    // Letters that spell an end are letters.
    let letters = read(gguf(&[]));
    assert_eq!(letters.end_ids(), [0u32; 0]);
    assert_eq!(parsed(&letters, "<|eot|>"), [0, 1, 3, 4, 5, 1, 2]);
}

fn json_file(vocab: &[&str], added: &[(&str, bool)]) -> String {
    let vocab: serde_json::Map<_, _> =
        WORDS.iter().chain(vocab).enumerate().map(|(id, t)| ((*t).to_owned(), json!(id))).collect();
    let added: Vec<_> = added
        .iter()
        .map(|(t, s)| json!({"id": 0, "content": t, "special": s, "normalized": false}))
        .collect();
    json!({"version": "1.0", "added_tokens": added, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []}})
    .to_string()
}

#[test]
fn a_tokenizer_json_is_read_by_the_same_rules() {
    for file in [
        json_file(&["<|eot_id|>"], &[]),
        json_file(&[], &[("<|eot_id|>", false)]),
        json_file(&[], &[("<|eot_id|>", true)]),
    ] {
        let tokenizer = Tokenizer::from_json(file).unwrap();
        assert_eq!(tokenizer.end_ids(), [8]);
        assert!(tokenizer.is_special(8));
        assert_eq!(parsed(&tokenizer, "<|eot_id|>"), [8]);
        assert!(!tokenizer.encode("<|eot_id|>", EncodeOptions::default()).unwrap().contains(&8));
        // Its own form gives the same again.
        assert_eq!(Tokenizer::from_json(tokenizer.to_json().unwrap()).unwrap().end_ids(), [8]);
    }
    let named = |tokenizer: Tokenizer| {
        (tokenizer.end_ids().to_vec(), tokenizer.is_special(8), parsed(&tokenizer, "<stop>"))
    };
    let file = || Tokenizer::from_json(json_file(&["<stop>"], &[])).unwrap();
    assert!(!named(file()).0.contains(&8));
    assert_eq!(named(file().with_ends(&[8, 4000]).unwrap()), (vec![8], true, vec![8]));
    assert_eq!(named(file().with_bos_eos(None, Some("<stop>")).unwrap()), (vec![8], true, vec![8]));
}

#[test]
fn a_template_writes_the_end_of_a_turn_as_one_token() {
    let tokenizer = read(gguf(&[("<|eot_id|>", token_type::NORMAL)]));
    let template =
        ChatTemplate::new("{% for m in messages %}{{ m.content }}<|eot_id|>{% endfor %}", None, None)
            .unwrap();
    let ids = encode_chat(&tokenizer, &template, &[Message::new("user", "<|eot_id|>te")], false).unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == 8).count(), 1);
    assert_eq!(ids.last(), Some(&8));
}
