//! Conversations with their answers: what stands before an answer is what the model is asked with.
#![allow(clippy::unwrap_used)]

use bitnet_text::{ChatTemplate, Message, Tokenizer, encode_chat, encode_dialogue};
use serde_json::Value;
use std::fs;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/oracle/bitnet-a-offline-packed");
const BOS: &str = "<|begin_of_text|>";
const EOS: &str = "<|end_of_text|>";

fn tokenizer() -> Tokenizer {
    let json = fs::read(format!("{DIR}/tokenizer.json")).unwrap();
    Tokenizer::from_json(json).unwrap().with_bos_eos(Some(BOS), Some(EOS)).unwrap()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, Some(BOS), Some(EOS)).unwrap()
}

fn talk() -> Vec<Message> {
    let said = [
        ("user", "What is a cat?"),
        ("assistant", "An animal, and it says <|eot_id|>."),
        ("user", "And a dog? <|end_of_text|>"),
        ("assistant", " Another one\nof them. "),
    ];
    said.map(|(role, content)| Message::new(role, content)).to_vec()
}

/// What stands before an answer, and the answer.
type Answer = (Vec<u32>, Vec<u32>);

/// Every answer of `messages`, and how many dialogues they are in.
fn answers(template: &ChatTemplate, messages: &[Message]) -> (usize, Vec<Answer>) {
    let dialogues = encode_dialogue(&tokenizer(), template, messages).unwrap();
    let of = |d: &bitnet_text::Dialogue| -> Vec<_> {
        assert_eq!(d.answers.last().unwrap().end, d.ids.len(), "nothing stands behind the last answer");
        d.answers.iter().map(|r| (d.ids[..r.start].to_vec(), d.ids[r.clone()].to_vec())).collect()
    };
    (dialogues.len(), dialogues.iter().flat_map(of).collect())
}

#[test]
fn templates_of_the_models_put_answers_where_they_are_asked_for() {
    let tokenizer = tokenizer();
    let file: Value = serde_json::from_str(include_str!("data/chat_renderings.json")).unwrap();
    let shipped = fs::read_to_string(format!("{DIR}/chat_template.jinja")).unwrap();
    let idioms = ["chatml", "headers", "instructions", "roles", "thinking"];
    let sources = idioms.map(|name| (name, file["templates"][name].as_str().unwrap()));
    for (name, source) in sources.into_iter().chain([("shipped", shipped.as_str())]) {
        // The end of a turn by the name that it has in this vocabulary.
        let template = template(&source.replace("<|im_end|>", "<|eot_id|>"));
        let mut messages = talk();
        if name == "thinking" {
            messages[1].content.insert_str(0, "<think>\nhm\n</think>\n\n");
        }
        let (dialogues, answers) = answers(&template, &messages);
        assert_eq!(dialogues, if name == "thinking" { 2 } else { 1 }, "{name}");
        for (at, (before, answer)) in [1, 3].into_iter().zip(&answers) {
            let asked = encode_chat(&tokenizer, &template, &messages[..at], true).unwrap();
            // In one dialogue later prompts follow what the model has said itself; the first is the same in any case.
            if at == 1 || dialogues == 2 {
                assert_eq!(before, &asked, "{name}: {:?}", tokenizer.decode(before, false));
            }
            let said = tokenizer.decode(answer, false);
            assert!(said.contains(messages[at].content.trim()), "{name}: {said:?}");
            assert!(tokenizer.is_special(*answer.last().unwrap()), "{name}: {said:?} ends");
            let typed = answer[..answer.len() - 1].iter().filter(|&&id| tokenizer.is_special(id)).count();
            assert_eq!(typed, 0, "{name}: what is typed is text");
        }
        // What the next person says is no part of an answer.
        assert!(!tokenizer.decode(&answers[0].1, false).contains("dog"), "{name}");
    }
}

#[test]
fn a_template_that_hides_answers_is_refused() {
    let messages = talk();
    let hidden = template(
        "{% for m in messages %}{{ m.role }} {% endfor %}{% if add_generation_prompt %}answer: {% endif %}",
    );
    let error = encode_dialogue(&tokenizer(), &hidden, &messages).unwrap_err().to_string();
    assert!(error.contains("what it opens an answer with"), "{error}");
    assert!(encode_dialogue(&tokenizer(), &hidden, &messages[..1]).unwrap().is_empty());
}
