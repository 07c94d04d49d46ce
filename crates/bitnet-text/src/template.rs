//! Chat templates: Jinja as the models ship it.

mod armour;
mod budget;
mod depth;
mod guard;
mod python;

use crate::error::TextError;
use budget::Budget;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Environment, Error, UndefinedBehavior, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Larger templates are refused; the longest that models ship have some tens of thousands of bytes.
const MAX_SOURCE: usize = 256 << 10;

/// The format of BitNet b1.58 2B-4T: `Role: content<|eot_id|>` without newlines, then `Assistant: `.
///
/// The GGUF files of this model carry a placeholder instead of a template.
const BITNET_2B_4T: &str = "{{ bos_token }}{% for message in messages %}\
    {{ message.role | capitalize }}: {{ message.content | trim }}<|eot_id|>{% endfor %}\
    {% if add_generation_prompt %}Assistant: {% endif %}";

/// One message of a conversation, as templates get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`. Templates print it next to control tokens, so it must come from the
    /// application and never from the person who types; only letters, digits, `_`, `-` and spaces are taken.
    pub role: String,
    /// What is said. Plain text, whatever it contains.
    pub content: String,
}

impl Message {
    /// A message of `role` with that content.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A chat template, checked and ready to render. Immutable; share it freely between threads.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    /// The shipped text, for searching it.
    source: String,
    /// The template's source with checks added, which is what the template engine runs.
    armoured: String,
    bos: Option<String>,
    eos: Option<String>,
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the texts that `bos_token` and `eos_token` stand for; a model without one
    /// leaves it undefined, as the Hugging Face library does.
    ///
    /// The placeholder in the GGUF files of BitNet b1.58 2B-4T (it contains `BITNET`) is replaced by that model's format.
    ///
    /// # Errors
    /// What is not Jinja, and what a template for one conversation has no use for (including other templates).
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self, TextError> {
        if source.len() > MAX_SOURCE {
            return Err(TextError::Limit(format!("{MAX_SOURCE} bytes of source")));
        }
        let source = if source.contains("BITNET") { BITNET_2B_4T } else { source };
        let plain = without_markers(source);
        depth::check(&plain, syntax()?)?;
        let armoured = armour::armour(&plain, syntax()?)?;
        let template = Self {
            source: source.to_string(),
            armoured,
            bos: bos.map(str::to_string),
            eos: eos.map(str::to_string),
        };
        // The engine's own compiler has the last word on names and arguments.
        template.load(&mut Environment::empty())?;
        Ok(template)
    }

    /// The template of a model that ships none, where its family has one format: the BitNet b1.58 2B-4T architectures.
    /// `None` for others; guessing a format would give plausible nonsense.
    pub fn for_architecture(architecture: &str, bos: Option<&str>, eos: Option<&str>) -> Option<Self> {
        let known = ["bitnet-b1.58", "bitnet-25", "BitNetForCausalLM"].contains(&architecture);
        if known { Self::new(BITNET_2B_4T, bos, eos).ok() } else { None }
    }

    /// The prompt as text. To get ids use [`crate::encode_chat`], which knows what the messages brought in.
    ///
    /// # Errors
    /// A template that refuses the conversation ([`TextError::Refused`]), fails, or exceeds its limits.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TextError> {
        check_roles(messages)?;
        self.render_unchecked(messages, add_generation_prompt)
    }

    pub(crate) fn render_unchecked(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let said: usize = messages.iter().map(|m| m.role.len() + m.content.len() + 64).sum();
        let budget = Budget::new(said + self.source.len());
        let mut env = Environment::empty();
        env.set_undefined_behavior(UndefinedBehavior::Lenient);
        env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        guard::install(&mut env, &budget);
        env.add_function("strftime_now", |format: &str| python::strftime_now(format));
        self.load(&mut env)?;
        let turns: Vec<Value> = messages.iter().map(|m| Value::from_object(Turn(m.clone()))).collect();
        let none = Value::from(());
        let mut context = BTreeMap::from([
            ("messages", Value::from(turns)),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            ("tools", none.clone()),
            ("documents", none),
        ]);
        context.extend(self.bos.iter().map(|t| ("bos_token", Value::from(t.as_str()))));
        context.extend(self.eos.iter().map(|t| ("eos_token", Value::from(t.as_str()))));
        let run = || -> Result<String, Error> { env.get_template("chat")?.render(Value::from(context)) };
        run().map_err(|e| budget.explain(&e))
    }

    fn load<'a>(&'a self, env: &mut Environment<'a>) -> Result<(), TextError> {
        env.add_template("chat", &self.armoured).map_err(|e| TextError::Template(e.to_string()))
    }

    /// Whether a character occurs in anything the template can write by itself.
    pub(crate) fn contains(&self, c: char) -> bool {
        let texts = [Some(&self.source), self.bos.as_ref(), self.eos.as_ref()];
        texts.into_iter().flatten().any(|text| text.contains(c))
    }
}

/// White space as the Hugging Face library sets it.
fn syntax() -> Result<SyntaxConfig, TextError> {
    let built = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    built.map_err(|e| TextError::Template(e.to_string()))
}

/// `{% generation %}` only marks, for training, what the assistant says; it is read as a condition that always holds.
fn without_markers(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        // From 2 on: in `{%}` the two marks share a character.
        let Some(end) = tag[2..].find("%}").map(|end| end + 2) else {
            rest = tag;
            break;
        };
        let inner = &tag[2..end];
        match inner.trim_matches(['-', '+']).trim() {
            "generation" => out.push_str(&["{%", &inner.replace("generation", "if true"), "%}"].concat()),
            "endgeneration" => out.push_str(&["{%", &inner.replace("endgeneration", "endif"), "%}"].concat()),
            _ => out.push_str(&tag[..end + 2]),
        }
        rest = &tag[end + 2..];
    }
    out.push_str(rest);
    out
}

/// Refuses roles that could spell parts of control tokens.
pub(crate) fn check_roles(messages: &[Message]) -> Result<(), TextError> {
    for (index, message) in messages.iter().enumerate() {
        let fine = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ');
        if message.role.is_empty() || message.role.len() > 64 || !message.role.chars().all(fine) {
            let reason =
                format!("{:?} is not a role (1 to 64 letters, digits, `_`, `-`, spaces)", message.role);
            return Err(TextError::Message { index, reason });
        }
    }
    Ok(())
}

/// A message as a template sees it: a mapping in the order in which Python would print it.
#[derive(Debug)]
struct Turn(Message);

impl Object for Turn {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "role" => Some(Value::from(self.0.role.as_str())),
            "content" => Some(Value::from(self.0.content.as_str())),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["role", "content"])
    }
}
