//! Printing expressions.

use super::{GLANCE, Printed, Printer, TIMES, WALK, WEIGH, refuse};
use minijinja::machinery::ast::{BinOpKind, Call, CallArg, CompareOpKind, Expr, UnaryOpKind};
use minijinja::value::ValueKind;

impl Printer {
    pub(super) fn weighed(&mut self, expr: &Expr<'_>) -> Printed {
        self.wrapped(|p| p.expr(expr))
    }

    fn wrapped(&mut self, inner: impl FnOnce(&mut Self) -> Printed) -> Printed {
        self.within(WEIGH, inner)
    }

    fn within(&mut self, function: &str, inner: impl FnOnce(&mut Self) -> Printed) -> Printed {
        self.put(function);
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

    pub(super) fn expr(&mut self, expr: &Expr<'_>) -> Printed {
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
            Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => self.wrapped(|p| p.collection(expr))?,
            other => self.access(other)?,
        }
        Ok(())
    }

    fn collection(&mut self, expr: &Expr<'_>) -> Printed {
        match expr {
            Expr::List(list) => {
                self.put("[");
                self.list(&list.items, Self::expr)?;
                self.put("]");
            }
            Expr::Tuple(tuple) => {
                self.put("(");
                for item in &tuple.items {
                    self.expr(item)?;
                    self.put(",");
                }
                self.put(")");
            }
            Expr::Map(map) => {
                self.put("{");
                for (key, value) in map.keys.iter().zip(&map.values) {
                    self.grouped(key)?;
                    self.put(":");
                    self.grouped(value)?;
                    self.put(",");
                }
                self.put("}");
            }
            _ => refuse("this literal")?,
        }
        Ok(())
    }

    /// Looking into values and applying functions to them.
    fn access(&mut self, expr: &Expr<'_>) -> Printed {
        match expr {
            Expr::Slice(slice) => self.wrapped(|p| {
                p.within(WALK, |p| p.expr(&slice.expr))?;
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
                self.within(GLANCE, |p| p.expr(&item.expr))?;
                self.put("[");
                match &item.subscript_expr {
                    constant @ Expr::Const(_) => self.expr(constant)?,
                    key => self.weighed(key)?,
                }
                self.put("]");
                Ok(())
            }
            Expr::Call(call) => self.wrapped(|p| p.call(call)),
            _ => refuse("this expression"),
        }
    }

    pub(super) fn call(&mut self, call: &Call<'_>) -> Printed {
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

    pub(super) fn args(&mut self, args: &[CallArg<'_>]) -> Printed {
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

    pub(super) fn string(&mut self, text: &str) {
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
