//! From a conversation to ids of which the answers are known, for those who learn them.
//!
//! What stands before an answer is exactly what [`encode_chat`](crate::encode_chat) gives for the messages before it with the
//! answer opened, so a model is taught with the ids that it will be asked with. An answer ends with the control token that
//! the template puts behind it, and what the template writes after that is not part of it.

use std::ops::Range;

use crate::{
    ChatTemplate, Message, TextError, Tokenizer,
    chat::{Marked, Rendered, one_bos},
    template::check_roles,
};

/// Ids, and the ranges of them that the assistant says, each with the token that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialogue {
    /// The ids of the whole conversation, in order.
    pub ids: Vec<u32>,
    /// Where in `ids` the assistant's answers stand: what a model is trained to say.
    pub answers: Vec<Range<usize>>,
}

impl Dialogue {
    /// Leaves out what stands behind the last answer. Where a template ends an answer only when something follows, that end is
    /// learned with it; behind the last answer it is the tokenizer's end of a text.
    fn end(&mut self, tokenizer: &Tokenizer) {
        let special = |id: Option<&u32>| id.is_some_and(|&id| tokenizer.is_special(id));
        for answer in &mut self.answers {
            let ended = special(self.ids[answer.clone()].last());
            if !ended && special(self.ids.get(answer.end)) {
                answer.end += 1;
            }
        }
        if let Some(answer) = self.answers.last_mut() {
            self.ids.truncate(answer.end);
            let eos = tokenizer.eos().filter(|_| !special(self.ids.last()));
            self.ids.extend(eos);
            answer.end = self.ids.len();
        }
    }
}

/// The ids of a conversation with its answers. One [`Dialogue`] holds them all where the template writes a conversation as it
/// has written the beginnings of it; templates that rewrite what is past (leaving out earlier thoughts, for instance) get
/// one for each answer, with the messages before it as they stand when it is given.
///
/// # Errors
/// Those of [`encode_chat`](crate::encode_chat); [`TextError::Message`] where the template does not write an answer behind what
/// it opens answers with.
pub fn encode_dialogue(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
) -> Result<Vec<Dialogue>, TextError> {
    check_roles(messages)?;
    let marked = Marked::new(tokenizer, template, messages)?;
    let answers: Vec<usize> =
        messages.iter().enumerate().filter(|(_, m)| m.role == "assistant").map(|(at, _)| at).collect();
    if let Some(&last) = answers.last()
        && let Some(whole) = dialogue(tokenizer, &marked, &answers, last)?
    {
        return Ok(vec![whole]);
    }
    let one = |&at: &usize| {
        let reason = || "the template does not put it behind what it opens an answer with".to_owned();
        let alone = dialogue(tokenizer, &marked, &[at], at)?;
        alone.ok_or_else(|| TextError::Message { index: at, reason: reason() })
    };
    answers.iter().map(one).collect()
}

/// The conversation up to message `last`, with those `answers`; `None` when the template does not continue what it has written
/// before one of them.
fn dialogue(
    tokenizer: &Tokenizer,
    marked: &Marked<'_>,
    answers: &[usize],
    last: usize,
) -> Result<Option<Dialogue>, TextError> {
    let whole = marked.render(last + 1, false)?;
    let mut found = Dialogue { ids: Vec::new(), answers: Vec::new() };
    let mut done = 0;
    for &at in answers {
        let prompt = marked.render(at, true)?;
        let said = marked.render(at + 1, false)?;
        let begins = prompt.text.len() > done
            && said.continues(&prompt)
            && whole.continues(&said)
            && said.text.len() > prompt.text.len();
        if !begins {
            return Ok(None);
        }
        extend(tokenizer, &whole, done..prompt.text.len(), &mut found.ids)?;
        let first = found.ids.len();
        extend(tokenizer, &whole, prompt.text.len()..said.text.len(), &mut found.ids)?;
        // What the person or the assistant typed is plain text, so the control tokens are the template's.
        let end = found.ids[first..].iter().rposition(|&id| tokenizer.is_special(id));
        found.answers.push(first..end.map_or(found.ids.len(), |end| first + end + 1));
        done = said.text.len();
    }
    found.end(tokenizer);
    Ok(Some(found))
}

/// Appends the ids of a piece to those of all that stands before it. Where reading everything at once begins with the same
/// ids, its further ones are taken; else the piece is read alone.
fn extend(
    tokenizer: &Tokenizer,
    whole: &Rendered,
    piece: Range<usize>,
    ids: &mut Vec<u32>,
) -> Result<(), TextError> {
    let mut all = Vec::new();
    whole.encode(tokenizer, 0..piece.end, &mut all)?;
    one_bos(tokenizer, &mut all);
    match all.strip_prefix(&ids[..]) {
        Some(further) => ids.extend(further),
        None => whole.encode(tokenizer, piece, ids)?,
    }
    Ok(())
}
