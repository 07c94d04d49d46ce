//! Rewrites a template so that every value it makes is weighed.
//!
//! The engine counts steps, but one step may double a text, and thirty doublings are a gigabyte. It has no hook for that, so
//! the template is parsed and printed again with each operation that can make a larger value, compare two values or walk one
//! wrapped in a call of a weighing function (see [`super::guard`], which also charges for filters, tests and methods). What the
//! template says stays the same.

mod expressions;

use crate::error::TextError;
use minijinja::machinery::ast::{Expr, ForLoop, Macro, Stmt};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;

/// The function that checks the size of a value and returns it, under a name that no template uses.
pub(super) const WEIGH: &str = "__bitnet_weigh";
/// Charges for a look at one item or character of a value and returns the value.
pub(super) const GLANCE: &str = "__bitnet_glance";
/// Charges for a walk along a value and returns it.
pub(super) const WALK: &str = "__bitnet_walk";
/// Multiplies, after looking at what the product would weigh.
pub(super) const TIMES: &str = "__bitnet_times";
/// A template may not use names of this kind.
const RESERVED: &str = "__bitnet";

/// The weighed form of `source`, to be compiled with the engine's default white space rules.
pub(super) fn armour(source: &str, syntax: SyntaxConfig) -> Result<String, TextError> {
    let tree = parse(source, "chat template", syntax).map_err(|e| TextError::Template(e.to_string()))?;
    let mut printer = Printer { out: String::with_capacity(source.len() * 2) };
    printer.statement(&tree)?;
    Ok(printer.out)
}

fn refuse<T>(what: &str) -> Result<T, TextError> {
    Err(TextError::Template(format!("{what} has no place in a chat template")))
}

struct Printer {
    out: String,
}

type Printed = Result<(), TextError>;

impl Printer {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn statements(&mut self, body: &[Stmt<'_>]) -> Printed {
        body.iter().try_for_each(|s| self.statement(s))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Printed {
        match statement {
            Stmt::Template(t) => self.statements(&t.children)?,
            Stmt::EmitExpr(e) => {
                self.put("{{ ");
                // A recursive loop is only recognised where its call is the whole expression.
                match &e.expr {
                    Expr::Call(call) if matches!(&call.expr, Expr::Var(v) if v.id == "loop") => {
                        self.call(call)?
                    }
                    other => self.expr(other)?,
                }
                self.put(" }}");
            }
            Stmt::EmitRaw(raw) => {
                self.put("{{ ");
                self.string(raw.raw);
                self.put(" }}");
            }
            Stmt::IfCond(cond) => {
                self.tag("if ", |p| p.expr(&cond.expr))?;
                self.statements(&cond.true_body)?;
                if !cond.false_body.is_empty() {
                    self.put("{% else %}");
                    self.statements(&cond.false_body)?;
                }
                self.put("{% endif %}");
            }
            Stmt::Do(call) => self.tag("do ", |p| p.call(&call.call))?,
            Stmt::Continue(_) => self.put("{% continue %}"),
            Stmt::Break(_) => self.put("{% break %}"),
            other => self.scope(other)?,
        }
        Ok(())
    }

    /// The statements that open a scope or assign.
    fn scope(&mut self, statement: &Stmt<'_>) -> Printed {
        match statement {
            Stmt::ForLoop(each) => self.for_loop(each)?,
            Stmt::WithBlock(with) => {
                self.tag("with ", |p| {
                    p.list(&with.assignments, |p, (target, value)| p.assign(target, value))
                })?;
                self.statements(&with.body)?;
                self.put("{% endwith %}");
            }
            Stmt::Set(set) => self.tag("set ", |p| p.assign(&set.target, &set.expr))?,
            Stmt::SetBlock(set) => {
                self.tag("set ", |p| {
                    p.target(&set.target)?;
                    set.filter.iter().try_for_each(|f| p.filter_chain(f, true))
                })?;
                self.statements(&set.body)?;
                self.put("{% endset %}");
            }
            Stmt::FilterBlock(block) => {
                self.tag("filter ", |p| p.filter_chain(&block.filter, false))?;
                self.statements(&block.body)?;
                self.put("{% endfilter %}");
            }
            Stmt::Macro(declared) => {
                let signature = |p: &mut Self| {
                    p.name(declared.name)?;
                    p.signature(declared)
                };
                self.tag("macro ", signature)?;
                self.statements(&declared.body)?;
                self.put("{% endmacro %}");
            }
            Stmt::CallBlock(block) => {
                self.tag("call", |p| {
                    p.signature(&block.macro_decl)?;
                    p.put(" ");
                    p.call(&block.call)
                })?;
                self.statements(&block.macro_decl.body)?;
                self.put("{% endcall %}");
            }
            Stmt::AutoEscape(_) => refuse("`autoescape`")?,
            _ => refuse("inheritance or inclusion of other templates")?,
        }
        Ok(())
    }

    fn for_loop(&mut self, each: &ForLoop<'_>) -> Printed {
        self.tag("for ", |p| {
            p.target(&each.target)?;
            p.put(" in ");
            p.weighed(&each.iter)?;
            if let Some(filter) = &each.filter_expr {
                p.put(" if ");
                p.expr(filter)?;
            }
            p.put(if each.recursive { " recursive" } else { "" });
            Ok(())
        })?;
        self.statements(&each.body)?;
        if !each.else_body.is_empty() {
            self.put("{% else %}");
            self.statements(&each.else_body)?;
        }
        self.put("{% endfor %}");
        Ok(())
    }

    fn tag(&mut self, keyword: &str, inner: impl FnOnce(&mut Self) -> Printed) -> Printed {
        self.put("{% ");
        self.put(keyword);
        inner(self)?;
        self.put(" %}");
        Ok(())
    }

    fn list<T>(&mut self, items: &[T], mut print: impl FnMut(&mut Self, &T) -> Printed) -> Printed {
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.put(", ");
            }
            print(self, item)?;
        }
        Ok(())
    }

    fn assign(&mut self, target: &Expr<'_>, value: &Expr<'_>) -> Printed {
        self.target(target)?;
        self.put(" = ");
        self.weighed(value)
    }

    /// A name, `namespace.name`, or several of them to unpack into.
    fn target(&mut self, target: &Expr<'_>) -> Printed {
        match target {
            Expr::Var(var) => self.name(var.id),
            Expr::GetAttr(attr) => {
                self.target(&attr.expr)?;
                self.put(".");
                self.name(attr.name)
            }
            Expr::List(list) => self.targets(&list.items),
            Expr::Tuple(tuple) => self.targets(&tuple.items),
            _ => refuse("assigning to this"),
        }
    }

    fn targets(&mut self, items: &[Expr<'_>]) -> Printed {
        self.put("(");
        self.list(items, |p, item| p.target(item))?;
        self.put(",)");
        Ok(())
    }

    fn name(&mut self, name: &str) -> Printed {
        if name.starts_with(RESERVED) {
            return refuse("a name that begins with `__bitnet`");
        }
        self.put(name);
        Ok(())
    }

    fn signature(&mut self, declared: &Macro<'_>) -> Printed {
        // Defaults belong to the last arguments.
        let plain = declared.args.len().saturating_sub(declared.defaults.len());
        self.put("(");
        for (index, arg) in declared.args.iter().enumerate() {
            self.put(if index > 0 { ", " } else { "" });
            self.target(arg)?;
            if let Some(default) = index.checked_sub(plain).and_then(|i| declared.defaults.get(i)) {
                self.put("=");
                self.weighed(default)?;
            }
        }
        self.put(")");
        Ok(())
    }

    /// `name(args) | name(args)`, whose innermost input is the captured text. Each result is weighed.
    fn filter_chain(&mut self, filter: &Expr<'_>, piped: bool) -> Printed {
        let Expr::Filter(filter) = filter else { return refuse("this filter") };
        match &filter.expr {
            Some(inner) => {
                self.filter_chain(inner, piped)?;
                self.put("|");
            }
            None => self.put(if piped { "|" } else { "" }),
        }
        self.name(filter.name)?;
        self.args(&filter.args)?;
        self.put("|");
        self.put(WEIGH);
        Ok(())
    }
}
