//! From a conversation to ids.
//!
//! A template writes control tokens around what people say, and the joined text is read with control tokens. So that a person
//! who types `<|eot_id|>` says these ten characters and nothing else, the messages are marked before the template sees them: a
//! character that occurs nowhere else is put behind the first character of everything in them that is a control token, and of
//! everything at their edges that could become one together with what the template writes there. White space at the edges
//! stays where it is, so filters such as `trim` see what they would see. After rendering the marks are taken out and their
//! places noted: a control token is one only if no mark lies in it. Text without control tokens is not marked at all.

use crate::error::TextError;
use crate::gate::Gate;
use crate::template::{ChatTemplate, Message, check_roles};
use crate::tokenizer::Tokenizer;
use std::ops::Range;

/// The ids of a conversation as `template` puts it, ready for a model. With `add_generation_prompt` the template also opens
/// the answer.
///
/// The joined text is tokenized as one, as the Hugging Face library does. The prompt has exactly one BOS if the tokenizer
/// puts one in front of texts, whether or not the template writes it.
///
/// # Errors
/// Those of [`ChatTemplate::render`] and [`Tokenizer::encode`].
pub fn encode_chat(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
    add_generation_prompt: bool,
) -> Result<Vec<u32>, TextError> {
    check_roles(messages)?;
    let text = Marked::new(tokenizer, template, messages)?.render(messages.len(), add_generation_prompt)?;
    let mut ids = Vec::new();
    text.encode(tokenizer, 0..text.text.len(), &mut ids)?;
    one_bos(tokenizer, &mut ids);
    Ok(ids)
}

/// Exactly one BOS in front, if the tokenizer puts one in front of texts; at most one otherwise.
pub(crate) fn one_bos(tokenizer: &Tokenizer, ids: &mut Vec<u32>) {
    if let Some(bos) = tokenizer.bos() {
        let leading = ids.iter().take_while(|&&id| id == bos).count();
        if leading == 0 && tokenizer.adds_bos() {
            ids.insert(0, bos);
        }
        ids.drain(..leading.saturating_sub(1));
    }
}

/// A conversation whose messages are marked.
pub(crate) struct Marked<'a> {
    template: &'a ChatTemplate,
    messages: Vec<Message>,
    mark: char,
}

/// A rendered text without its marks, and where they were.
pub(crate) struct Rendered {
    pub(crate) text: String,
    marks: Vec<usize>,
}

impl<'a> Marked<'a> {
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        template: &'a ChatTemplate,
        messages: &[Message],
    ) -> Result<Self, TextError> {
        let mark = unused_character(template, messages)?;
        let controls: Vec<&str> = tokenizer.control_texts().collect();
        let marked =
            |m: &Message| Message { role: m.role.clone(), content: marked(&m.content, &controls, mark) };
        Ok(Self { template, messages: messages.iter().map(marked).collect(), mark })
    }

    /// The first `count` messages as the template puts them.
    pub(crate) fn render(&self, count: usize, add_generation_prompt: bool) -> Result<Rendered, TextError> {
        let rendered = self.template.render_unchecked(&self.messages[..count], add_generation_prompt)?;
        let (text, marks) = unmarked(&rendered, self.mark);
        Ok(Rendered { text, marks })
    }
}

impl Rendered {
    /// Whether this begins with all of `other`.
    pub(crate) fn continues(&self, other: &Self) -> bool {
        self.text.starts_with(&other.text)
    }

    /// Appends the ids of a piece of the text.
    pub(crate) fn encode(
        &self,
        tokenizer: &Tokenizer,
        piece: Range<usize>,
        ids: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let gate = |range: Range<usize>| {
            is_template(&self.marks, &(range.start + piece.start..range.end + piece.start))
        };
        tokenizer.encode_gated(&self.text[piece.clone()], &Gate::At(&gate), ids)
    }
}

/// A private-use character that neither the conversation nor the template contains.
fn unused_character(template: &ChatTemplate, messages: &[Message]) -> Result<char, TextError> {
    // A conversation would have to hold 65,534 different ones to use them all up.
    let free = |c: &char| !template.contains(*c) && !messages.iter().any(|m| m.content.contains(*c));
    ('\u{F0000}'..='\u{FFFFD}').find(free).ok_or_else(|| TextError::Message {
        index: 0,
        reason: "uses every private character there is".into(),
    })
}

/// `content` with `mark` behind the first character of whatever is, or could become, a control token.
fn marked(content: &str, controls: &[&str], mark: char) -> String {
    let mut places = Vec::new();
    let (head, tail) = (content.len() - content.trim_start().len(), content.trim_end());
    for control in controls {
        let width = control.chars().next().map_or(0, char::len_utf8);
        places.extend(content.match_indices(control).map(|(at, _)| at + width));
        for (at, _) in control.char_indices().skip(1) {
            let (first, last) = control.split_at(at);
            if tail.ends_with(first) {
                places.push(tail.len() - first.len() + width);
            }
            if content[head..].starts_with(last) {
                places.push(head + last.chars().next().map_or(0, char::len_utf8));
            }
        }
    }
    places.sort_unstable();
    places.dedup();
    let mut out = String::with_capacity(content.len() + places.len() * mark.len_utf8());
    let mut done = 0;
    for place in places {
        out.push_str(&content[done..place]);
        out.push(mark);
        done = place;
    }
    out.push_str(&content[done..]);
    out
}

/// The text without marks, and the places in it where they were.
fn unmarked(text: &str, mark: char) -> (String, Vec<usize>) {
    let mut out = String::with_capacity(text.len());
    let mut marks = Vec::new();
    for part in text.split(mark) {
        out.push_str(part);
        marks.push(out.len());
    }
    // The last part ends the text, not at a mark.
    marks.pop();
    (out, marks)
}

/// Whether a control token was written by the template alone: no mark behind any of its characters.
fn is_template(marks: &[usize], range: &Range<usize>) -> bool {
    let next = marks.partition_point(|&m| m <= range.start);
    marks.get(next).is_none_or(|&m| m > range.end)
}
