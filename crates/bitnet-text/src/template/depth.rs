//! How deep a template's tree would be, told from its tokens before anything is parsed.
//!
//! The engine's parser refuses deep nesting, but reads chains (`a.a.a`, `x|trim|trim`, `1 + 1 + 1`, `not not x`, `elif` after
//! `elif`) in loops, and the tree of a chain is as deep as the chain is long. The compiler, the printer and the tree's own
//! destructor then descend it with one call a link, and a stack overflow cannot be caught. So links are counted first.
//!
//! A tree is at most as deep as the links at one level of brackets, plus the deepest pair of brackets among them. A comma or a
//! colon begins a new element of a list, a mapping or arguments, and elements stand beside each other.

use crate::error::TextError;
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

/// Links on the way to the deepest part of an expression. Templates that models ship stay below 60.
const MAX_LINKS: usize = 256;
/// `elif` branches in the whole template. Templates that models ship have some tens.
const MAX_BRANCHES: usize = 256;

/// Refuses a template whose tree would be deep.
pub(super) fn check(source: &str, syntax: SyntaxConfig) -> Result<(), TextError> {
    let mut branches = 0;
    let mut expression = Expression::default();
    for token in tokenize(source, false, syntax) {
        let (token, _) = token.map_err(|e| TextError::Template(e.to_string()))?;
        branches += usize::from(matches!(token, Token::Ident("elif")));
        if branches > MAX_BRANCHES {
            return Err(TextError::Limit(format!("{MAX_BRANCHES} `elif` branches")));
        }
        if expression.take(&token) > MAX_LINKS {
            return Err(TextError::Limit(format!("{MAX_LINKS} operations on one another")));
        }
    }
    Ok(())
}

/// The brackets that are open in an expression, outermost first.
#[derive(Default)]
struct Expression {
    outer: Vec<Level>,
    /// Links of all of them: the parser descends those in front of a bracket before it reads what is in it.
    outer_links: usize,
    level: Level,
}

/// One pair of brackets, as far as it has been read.
#[derive(Default)]
struct Level {
    /// Links of the element that is being read.
    links: usize,
    /// Depth of the deepest brackets in it.
    inner: usize,
    /// Depth of the deepest element before it.
    before: usize,
}

impl Level {
    fn depth(&self) -> usize {
        self.before.max(self.links + self.inner)
    }

    fn next_element(&mut self) {
        *self = Self { before: self.depth(), ..Self::default() };
    }
}

impl Expression {
    /// Reads a token; returns the depth of what is open at least.
    fn take(&mut self, token: &Token<'_>) -> usize {
        match token {
            Token::BlockStart | Token::BlockEnd | Token::VariableStart | Token::VariableEnd => {
                *self = Self::default();
            }
            Token::TemplateData(_) => {}
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => {
                self.outer_links += self.level.links + 1;
                self.outer.push(std::mem::take(&mut self.level));
            }
            Token::BracketClose | Token::ParenClose | Token::BraceClose => {
                let closed = std::mem::take(&mut self.level).depth();
                if let Some(outer) = self.outer.pop() {
                    self.outer_links -= outer.links + 1;
                    self.level = outer;
                }
                self.level.links += 1;
                self.level.inner = self.level.inner.max(closed);
            }
            Token::Comma | Token::Colon => self.level.next_element(),
            // Operands are leaves.
            Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Int128(_) | Token::Float(_) => {}
            Token::Ident(name) if !is_operator(name) => {}
            _ => self.level.links += 1,
        }
        self.outer_links + self.level.depth()
    }
}

/// Words that join or change operands.
fn is_operator(word: &str) -> bool {
    ["and", "or", "not", "in", "is", "if", "else"].contains(&word)
}
