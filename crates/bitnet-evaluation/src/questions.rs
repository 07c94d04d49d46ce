//! Multiple-choice questions, one JSON object a line, under the field names of the usual harnesses.

use serde_json::Value;

/// Names that a question's context goes by, the one that is taken first.
const CONTEXT: [&str; 6] = ["query", "question", "ctx", "context", "prompt", "goal"];
/// Of the choices.
const CHOICES: [&str; 3] = ["choices", "endings", "options"];
/// Of the right choice.
const GOLD: [&str; 5] = ["gold", "label", "answer", "answerKey", "target"];
/// PIQA has its two choices in fields of their own.
const PAIR: [&str; 2] = ["sol1", "sol2"];

/// Bytes of a line; its values take some ten times as many while they are looked at.
const MOST_LINE: usize = 4 << 20;

/// A question and its possible answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its line in the file, from 1.
    pub line: usize,
    /// What the model reads first, as it stands.
    pub context: String,
    /// What may follow; two at least, none empty.
    pub choices: Vec<String>,
    /// Which of them is right.
    pub gold: usize,
}

/// A question that cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct TaskError {
    /// Its line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub kind: TaskErrorKind,
}

/// What can be wrong with a question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskErrorKind {
    /// The line is no JSON.
    #[error("this is not JSON: {0}")]
    Json(String),
    /// The line is JSON, and no object.
    #[error("a JSON object is needed, with a question, choices and an answer")]
    NotAnObject,
    /// No question.
    #[error("there is no question: it is looked for as a text under {}", CONTEXT.join(", "))]
    NoContext,
    /// No choices.
    #[error("there are no choices: they are looked for as a list of texts under {} (or sol1 and sol2)", CHOICES.join(", "))]
    NoChoices,
    /// Nothing to choose from.
    #[error("a question needs two choices at least, and this has {0}")]
    FewChoices(usize),
    /// A choice that is no text, or an empty one.
    #[error("choice {0} (counted from 0) is not a text, or is empty")]
    Choice(usize),
    /// No answer.
    #[error("there is no answer: it is looked for under {}", GOLD.join(", "))]
    NoAnswer,
    /// An answer that is none of the choices.
    #[error(
        "the answer {answer} is none of the {choices} choices: give an index from 0, a letter, a label or a choice's text"
    )]
    Answer {
        /// As it stands.
        answer: String,
        /// How many choices there are.
        choices: usize,
    },
    /// More tokens than the session has room for.
    #[error("question and answer have {needed} tokens, and the context has room for {room}")]
    TooLong {
        /// Tokens of the longest choice with its context.
        needed: usize,
        /// Positions of the session.
        room: usize,
    },
    /// A first token that nothing predicts.
    #[error(
        "the question is empty, and the model has no token that begins a text: nothing predicts the first token"
    )]
    NothingBefore,
    /// A line that is far too long for a question.
    #[error("the line has {0} bytes, and a question has at most {MOST_LINE}")]
    LongLine(usize),
    /// Without a single question.
    #[error("there is no question in the file")]
    Empty,
}

/// The questions in `text`, one a line; empty lines are passed over. Field names: see the guide on evaluation.
///
/// # Errors
/// [`TaskError`] for the first line that is no question.
pub fn read_questions(text: &str) -> Result<Vec<Question>, TaskError> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let questions: Result<Vec<_>, _> =
        lines.map(|(line, json)| question(line, json).map_err(|kind| TaskError { line, kind })).collect();
    match questions {
        Ok(questions) if questions.is_empty() => Err(TaskError { line: 1, kind: TaskErrorKind::Empty }),
        other => other,
    }
}

fn question(line: usize, json: &str) -> Result<Question, TaskErrorKind> {
    if json.len() > MOST_LINE {
        return Err(TaskErrorKind::LongLine(json.len()));
    }
    let value: Value = serde_json::from_str(json).map_err(|e| TaskErrorKind::Json(at_column(&e)))?;
    let object = value.as_object().ok_or(TaskErrorKind::NotAnObject)?;
    let text = |name: &&str| object.get(*name).and_then(Value::as_str);
    let context = CONTEXT.iter().find_map(text).ok_or(TaskErrorKind::NoContext)?;
    let (choices, labels) = choices(object)?;
    let answer = GOLD.iter().find_map(|name| object.get(*name)).ok_or(TaskErrorKind::NoAnswer)?;
    let gold = gold(answer, &choices, &labels)
        .ok_or_else(|| TaskErrorKind::Answer { answer: answer.to_string(), choices: choices.len() })?;
    Ok(Question { line, context: context.to_owned(), choices, gold })
}

/// The library counts lines within one object, which is one line here.
fn at_column(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((what, _)) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

/// The choices, and their labels where they have some (ARC has `{"text": [...], "label": [...]}`).
fn choices(object: &serde_json::Map<String, Value>) -> Result<(Vec<String>, Vec<String>), TaskErrorKind> {
    let found = CHOICES.iter().find_map(|name| object.get(*name));
    let pair = || PAIR.map(|name| object.get(name).cloned());
    let (texts, labels) = match (found, pair()) {
        (Some(Value::Array(texts)), _) => (texts.clone(), Vec::new()),
        (Some(Value::Object(both)), _) => {
            let list = |name| both.get(name).and_then(Value::as_array).cloned();
            (list("text").ok_or(TaskErrorKind::NoChoices)?, list("label").unwrap_or_default())
        }
        (None, [Some(first), Some(second)]) => (vec![first, second], Vec::new()),
        _ => return Err(TaskErrorKind::NoChoices),
    };
    if texts.len() < 2 {
        return Err(TaskErrorKind::FewChoices(texts.len()));
    }
    let text = |(at, value): (usize, &Value)| match value.as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(TaskErrorKind::Choice(at)),
    };
    let texts: Result<Vec<_>, _> = texts.iter().enumerate().map(text).collect();
    Ok((texts?, labels.iter().map(plain).collect()))
}

/// The right choice: an index from 0 (or its digits), a label of the choices, a choice itself, or a letter from A.
fn gold(answer: &Value, choices: &[String], labels: &[String]) -> Option<usize> {
    let within = |index: usize| Some(index).filter(|&i| i < choices.len());
    if let Some(index) = answer.as_u64() {
        let label = labels.iter().position(|l| *l == plain(answer));
        return label.or_else(|| usize::try_from(index).ok()).and_then(within);
    }
    let answer = answer.as_str()?;
    let same = |list: &[String]| list.iter().position(|item| item == answer);
    let letter = || match answer.as_bytes() {
        [byte @ b'A'..=b'Z'] => Some(usize::from(byte - b'A')),
        [byte @ b'a'..=b'z'] => Some(usize::from(byte - b'a')),
        _ => None,
    };
    same(labels).or_else(|| same(choices)).or_else(letter).or_else(|| answer.parse().ok()).and_then(within)
}

/// A label as it is written, whether text or number.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(json: &str) -> Result<Question, TaskErrorKind> {
        read_questions(json).map(|mut all| all.remove(0)).map_err(|e| e.kind)
    }

    #[test]
    fn the_forms_of_the_harnesses() {
        let forms = [
            (r#"{"query": "q", "choices": ["a", "b", "c"], "gold": 1}"#, "q", 1),
            (r#"{"ctx": "q", "activity_label": "x", "endings": ["a", "b", "c"], "label": "2"}"#, "q", 2),
            (r#"{"question": "q", "choices": ["a b", "c", "d"], "answer": "A"}"#, "q", 0),
            (
                r#"{"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}"#,
                "q",
                1,
            ),
            (r#"{"question": "q", "choices": {"text": ["x", "y"], "label": [1, 2]}, "answer": 1}"#, "q", 0),
            (r#"{"goal": "q", "sol1": "x", "sol2": "y", "label": 1}"#, "q", 1),
            (r#"{"prompt": "", "options": ["b", "a"], "target": "a"}"#, "", 1),
        ];
        for (json, context, gold) in forms {
            let told = one(json).unwrap();
            assert_eq!((told.context.as_str(), told.gold, told.line), (context, gold, 1), "{json}");
        }
    }

    #[test]
    fn each_mistake_has_its_own_words_and_its_line() {
        use TaskErrorKind as E;
        let answer = |answer: &str, choices| E::Answer { answer: answer.into(), choices };
        let wrong = [
            (r#"["q"]"#, E::NotAnObject),
            (r#"{"choices": ["a", "b"], "gold": 0}"#, E::NoContext),
            (r#"{"query": 7, "choices": ["a", "b"], "gold": 0}"#, E::NoContext),
            (r#"{"query": "q", "gold": 0}"#, E::NoChoices),
            (r#"{"query": "q", "choices": "ab", "gold": 0}"#, E::NoChoices),
            (r#"{"query": "q", "choices": {"label": ["A"]}, "gold": 0}"#, E::NoChoices),
            (r#"{"query": "q", "choices": ["a"], "gold": 0}"#, E::FewChoices(1)),
            (r#"{"query": "q", "choices": ["a", ""], "gold": 0}"#, E::Choice(1)),
            (r#"{"query": "q", "choices": [3, "a"], "gold": 0}"#, E::Choice(0)),
            (r#"{"query": "q", "choices": ["a", "b"]}"#, E::NoAnswer),
            (r#"{"query": "q", "choices": ["a", "b"], "gold": 2}"#, answer("2", 2)),
            (r#"{"query": "q", "choices": ["a", "b"], "gold": -1}"#, answer("-1", 2)),
            (r#"{"query": "q", "choices": ["x", "y"], "gold": "C"}"#, answer("\"C\"", 2)),
            (r#"{"query": "q", "choices": ["x", "y"], "gold": null}"#, answer("null", 2)),
            ("", E::Empty),
        ];
        for (json, kind) in wrong {
            assert_eq!(one(json).unwrap_err(), kind, "{json}");
        }
        let good = r#"{"query": "q", "choices": ["a", "b"], "gold": 0}"#;
        let told = read_questions(&format!("{good}\n\n{good}\n{{\"query\": \n")).unwrap_err();
        assert_eq!((told.line, matches!(told.kind, E::Json(_))), (4, true), "{told}");
        assert!(
            told.to_string().starts_with("line 4: this is not JSON: EOF while parsing a value at column"),
            "{told}"
        );
        let long = format!("{good}\n[{}]", "[],".repeat(2 << 20));
        assert!(matches!(
            read_questions(&long),
            Err(TaskError { line: 2, kind: TaskErrorKind::LongLine(_) })
        ));
        assert_eq!(read_questions(&format!("\n{good}\n\n{good}")).unwrap()[1].line, 4);
    }
}
