//! Rewrites a template so that every value it makes is weighed.
//!
//! The engine counts steps, but one step may double a text, and thirty doublings are a gigabyte. It has no hook for that, so
//! the template is parsed and printed again with each operation that can make a larger value, compare two values or walk one
//! wrapped in a call of a weighing function (see [`super::budget`]). What the template says stays the same.

use crate::error::TextError;
use minijinja::machinery::ast::{BinOpKind, Call, CallArg, CompareOpKind, Expr, Macro, Stmt, UnaryOpKind};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;

/// Weighs a value and returns it.
pub(super) const WEIGH: &str = "__bitnet_weigh";
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
            Stmt::ForLoop(each) => {
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
            }
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

    /// `name(args) | name(args)`, whose innermost input is the captured text.
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
        self.args(&filter.args)
    }

    fn weighed(&mut self, expr: &Expr<'_>) -> Printed {
        self.wrapped(|p| p.expr(expr))
    }

    fn wrapped(&mut self, inner: impl FnOnce(&mut Self) -> Printed) -> Printed {
        self.put(WEIGH);
        self.put("(");
        inner(self)?;
        self.put(")");
        Ok(())
    }

    fn grouped(&mut self, expr: &Expr<'_>) -> Printed {
        self.put("(");
        self.expr(expr)?;
        self.put(")");
        Ok(())
    }

    fn expr(&mut self, expr: &Expr<'_>) -> Printed {
        match expr {
            Expr::Var(var) => self.name(var.id)?,
            Expr::Const(constant) => self.constant(&constant.value)?,
            Expr::UnaryOp(unary) => {
                self.put(match unary.op {
                    UnaryOpKind::Not => "(not ",
                    UnaryOpKind::Neg => "(-",
                });
                self.grouped(&unary.expr)?;
                self.put(")");
            }
            Expr::BinOp(binary) => self.binary(binary.op, &binary.left, &binary.right)?,
            Expr::Compare(compare) => {
                self.put("(");
                self.weighed(&compare.expr)?;
                for op in &compare.ops {
                    self.put(comparison(op.op));
                    self.weighed(&op.expr)?;
                }
                self.put(")");
            }
            Expr::IfExpr(choice) => {
                self.put("(");
                self.grouped(&choice.true_expr)?;
                self.put(" if ");
                self.grouped(&choice.test_expr)?;
                if let Some(otherwise) = &choice.false_expr {
                    self.put(" else ");
                    self.grouped(otherwise)?;
                }
                self.put(")");
            }
            Expr::List(list) => self.wrapped(|p| {
                p.put("[");
                p.list(&list.items, Self::expr)?;
                p.put("]");
                Ok(())
            })?,
            Expr::Tuple(tuple) => self.wrapped(|p| {
                p.put("(");
                for item in &tuple.items {
                    p.expr(item)?;
                    p.put(",");
                }
                p.put(")");
                Ok(())
            })?,
            Expr::Map(map) => self.wrapped(|p| {
                p.put("{");
                for (key, value) in map.keys.iter().zip(&map.values) {
                    p.grouped(key)?;
                    p.put(":");
                    p.grouped(value)?;
                    p.put(",");
                }
                p.put("}");
                Ok(())
            })?,
            other => self.access(other)?,
        }
        Ok(())
    }

    /// Looking into values and applying functions to them.
    fn access(&mut self, expr: &Expr<'_>) -> Printed {
        match expr {
            Expr::Slice(slice) => self.wrapped(|p| {
                p.grouped(&slice.expr)?;
                p.put("[");
                for (index, bound) in [&slice.start, &slice.stop, &slice.step].into_iter().enumerate() {
                    p.put(if index > 0 { ":" } else { "" });
                    bound.iter().try_for_each(|b| p.grouped(b))?;
                }
                p.put("]");
                Ok(())
            }),
            Expr::Filter(filter) => {
                let Some(input) = &filter.expr else { return refuse("a filter without input") };
                self.wrapped(|p| {
                    p.grouped(input)?;
                    p.put("|");
                    p.name(filter.name)?;
                    p.args(&filter.args)
                })
            }
            Expr::Test(test) => {
                self.put("(");
                self.grouped(&test.expr)?;
                self.put(" is ");
                self.name(test.name)?;
                if !test.args.is_empty() {
                    self.args(&test.args)?;
                }
                self.put(")");
                Ok(())
            }
            Expr::GetAttr(attr) => {
                self.grouped(&attr.expr)?;
                self.put(".");
                self.name(attr.name)
            }
            Expr::GetItem(item) => {
                self.grouped(&item.expr)?;
                self.put("[");
                self.expr(&item.subscript_expr)?;
                self.put("]");
                Ok(())
            }
            Expr::Call(call) => self.wrapped(|p| p.call(call)),
            _ => refuse("this expression"),
        }
    }

    fn call(&mut self, call: &Call<'_>) -> Printed {
        match &call.expr {
            // `name(..)` and `value.name(..)` mean something else than `(name)(..)`.
            Expr::Var(var) => self.name(var.id)?,
            Expr::GetAttr(attr) => {
                self.grouped(&attr.expr)?;
                self.put(".");
                self.name(attr.name)?;
            }
            other => self.grouped(other)?,
        }
        self.args(&call.args)
    }

    fn args(&mut self, args: &[CallArg<'_>]) -> Printed {
        self.put("(");
        self.list(args, |p, arg| match arg {
            CallArg::Pos(value) => p.weighed(value),
            CallArg::Kwarg(name, value) => {
                p.name(name)?;
                p.put("=");
                p.weighed(value)
            }
            CallArg::PosSplat(value) => {
                p.put("*");
                p.weighed(value)
            }
            CallArg::KwargSplat(value) => {
                p.put("**");
                p.weighed(value)
            }
        })?;
        self.put(")");
        Ok(())
    }

    fn binary(&mut self, op: BinOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Printed {
        let symbol = match op {
            BinOpKind::ScAnd | BinOpKind::ScOr => {
                self.put("(");
                self.grouped(left)?;
                self.put(if matches!(op, BinOpKind::ScAnd) { " and " } else { " or " });
                self.grouped(right)?;
                self.put(")");
                return Ok(());
            }
            BinOpKind::Mul => {
                self.put(TIMES);
                self.put("(");
                self.weighed(left)?;
                self.put(", ");
                self.weighed(right)?;
                self.put(")");
                return Ok(());
            }
            BinOpKind::Eq => " == ",
            BinOpKind::Ne => " != ",
            BinOpKind::Lt => " < ",
            BinOpKind::Lte => " <= ",
            BinOpKind::Gt => " > ",
            BinOpKind::Gte => " >= ",
            BinOpKind::In => " in ",
            BinOpKind::Add => " + ",
            BinOpKind::Sub => " - ",
            BinOpKind::Div => " / ",
            BinOpKind::FloorDiv => " // ",
            BinOpKind::Rem => " % ",
            BinOpKind::Pow => " ** ",
            BinOpKind::Concat => " ~ ",
        };
        self.wrapped(|p| {
            p.weighed(left)?;
            p.put(symbol);
            p.weighed(right)
        })
    }

    fn constant(&mut self, value: &minijinja::Value) -> Printed {
        match value.kind() {
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Bool | ValueKind::None | ValueKind::Number => self.put(&format!("({value})")),
            _ => refuse("this constant")?,
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        self.put("\"");
        for c in text.chars() {
            match c {
                '"' => self.put("\\\""),
                '\\' => self.put("\\\\"),
                '\n' => self.put("\\n"),
                '\r' => self.put("\\r"),
                c => self.out.push(c),
            }
        }
        self.put("\"");
    }
}

fn comparison(op: CompareOpKind) -> &'static str {
    match op {
        CompareOpKind::Eq => " == ",
        CompareOpKind::Ne => " != ",
        CompareOpKind::Lt => " < ",
        CompareOpKind::Lte => " <= ",
        CompareOpKind::Gt => " > ",
        CompareOpKind::Gte => " >= ",
        CompareOpKind::In => " in ",
        CompareOpKind::NotIn => " not in ",
    }
}
