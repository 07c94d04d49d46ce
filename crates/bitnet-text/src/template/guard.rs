//! The functions, filters, tests and methods that a template may use, each charged before it runs.
//!
//! The engine starts empty and is given what stands in the tables here. Every filter and test pays for its input and arguments
//! first, whether it is written in the template or reached through `map` and `select`. What could make more than it was
//! given (`replace`, `join`, `indent`, `format`, `*`) tells the size of its result before it makes it.

use super::armour;
use super::budget::{Budget, FUEL, NODE, items};
use super::python;
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, filters, functions, tests};
use minijinja_contrib::pycompat;
use std::sync::Arc;

/// What a filter or test looks at.
#[derive(Clone, Copy)]
enum Look {
    /// The kind of the value: a string, a list, a number.
    Kind,
    /// The value itself, but not its items.
    Value,
    /// Everything in it, with every argument once for each item.
    Items,
    /// As `Items`, and every character of a text is compared with the arguments.
    Characters,
    /// As `Items`, and a text becomes a list of characters or lines.
    Parts,
    /// As `Items`, and a text becomes a list of what stands between its separators.
    Split,
    /// As `Items`, and each item is added to a sum that grows.
    Sum,
}

/// Puts everything a template may use into an empty `env`.
pub(super) fn install(env: &mut Environment<'_>, budget: &Arc<Budget>) {
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(64);
    install_functions(env, budget);
    install_filters(env, budget);
    install_tests(env, budget);
    let b = Arc::clone(budget);
    env.set_formatter(move |out, _, value| emit(&b, out, value));
    let b = Arc::clone(budget);
    env.set_unknown_method_callback(move |state, value, method, args| {
        call_method(&b, state, value, method, args)
    });
}

fn install_functions(env: &mut Environment<'_>, budget: &Arc<Budget>) {
    let b = Arc::clone(budget);
    env.add_function(armour::WEIGH, move |value: Value| weighed(&b, value));
    // Behind a `|` in a chain of filters.
    let b = Arc::clone(budget);
    env.add_filter(armour::WEIGH, move |value: Value| weighed(&b, value));
    let b = Arc::clone(budget);
    env.add_function(armour::GLANCE, move |value: Value| b.glance(&value).map(|()| value));
    let b = Arc::clone(budget);
    env.add_function(armour::WALK, move |value: Value| b.walk(&value).map(|()| value));
    let b = Arc::clone(budget);
    env.add_function(armour::TIMES, move |left: Value, right: Value| times(&b, &left, &right));
    let b = Arc::clone(budget);
    env.add_function("raise_exception", move |reason: String| -> Result<Value, Error> {
        Err(b.refuse(reason))
    });
    env.add_function("range", functions::range);
    env.add_function("dict", functions::dict);
    env.add_function("namespace", functions::namespace);
}

/// The filters of Jinja2 that the engine has, without those that make as much as a number in the template says (`batch`,
/// `slice`, `center`, `format`).
fn install_filters(env: &mut Environment<'_>, budget: &Arc<Budget>) {
    use Look::{Characters, Items, Kind, Parts, Split, Sum, Value as Whole};
    let b = Arc::clone(budget);
    let replaced = Value::from_function(move |text: &str, from: &str, to: &str, count: Option<usize>| {
        replace(&b, text, from, to, count)
    });
    let b = Arc::clone(budget);
    let joined =
        Value::from_function(move |items: Value, separator: Option<String>, attribute: Option<String>| {
            join(&b, &items, separator.as_deref().unwrap_or(""), attribute.as_deref())
        });
    let b = Arc::clone(budget);
    let indented = Value::from_function(move |text: &str, rest: Rest<Value>, options: Kwargs| {
        indent(&b, text, &rest, &options)
    });
    let json = |value: Value, options: Kwargs| python::to_json(&value, &options);
    let table: [(&'static str, Look, Value); 42] = [
        ("abs", Kind, Value::from_function(filters::abs)),
        ("attr", Kind, Value::from_function(filters::attr)),
        ("bool", Kind, Value::from_function(filters::bool)),
        ("capitalize", Whole, Value::from_function(filters::capitalize)),
        ("count", Whole, Value::from_function(filters::length)),
        ("d", Kind, Value::from_function(filters::default)),
        ("default", Kind, Value::from_function(filters::default)),
        ("dictsort", Items, Value::from_function(filters::dictsort)),
        ("e", Items, Value::from_function(filters::escape)),
        ("escape", Items, Value::from_function(filters::escape)),
        ("first", Whole, Value::from_function(filters::first)),
        ("float", Whole, Value::from_function(filters::float)),
        ("groupby", Items, Value::from_function(filters::groupby)),
        ("indent", Items, indented),
        ("int", Whole, Value::from_function(filters::int)),
        ("items", Items, Value::from_function(filters::items)),
        ("join", Items, joined),
        ("last", Whole, Value::from_function(filters::last)),
        ("length", Whole, Value::from_function(filters::length)),
        ("lines", Parts, Value::from_function(filters::lines)),
        ("list", Parts, Value::from_function(filters::list)),
        ("lower", Whole, Value::from_function(filters::lower)),
        ("map", Items, Value::from_function(filters::map)),
        ("max", Items, Value::from_function(filters::max)),
        ("min", Items, Value::from_function(filters::min)),
        ("reject", Items, Value::from_function(filters::reject)),
        ("rejectattr", Items, Value::from_function(filters::rejectattr)),
        ("replace", Items, replaced),
        ("reverse", Items, Value::from_function(filters::reverse)),
        ("round", Kind, Value::from_function(filters::round)),
        ("safe", Whole, Value::from_function(filters::safe)),
        ("select", Items, Value::from_function(filters::select)),
        ("selectattr", Items, Value::from_function(filters::selectattr)),
        ("sort", Parts, Value::from_function(filters::sort)),
        ("split", Split, Value::from_function(filters::split)),
        ("string", Items, Value::from_function(filters::string)),
        ("sum", Sum, Value::from_function(filters::sum)),
        ("title", Whole, Value::from_function(filters::title)),
        ("tojson", Items, Value::from_function(json)),
        ("trim", Characters, Value::from_function(filters::trim)),
        ("unique", Parts, Value::from_function(filters::unique)),
        ("upper", Whole, Value::from_function(filters::upper)),
    ];
    for (name, look, filter) in table {
        let b = Arc::clone(budget);
        env.add_filter(
            name,
            move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
                let args = args.into_values();
                pay(&b, look, &args)?;
                filter.call(state, &args)
            },
        );
    }
}

fn install_tests(env: &mut Environment<'_>, budget: &Arc<Budget>) {
    use Look::{Items, Kind};
    macro_rules! table {
        ($($look:ident: $($name:literal = $function:ident),*;)*) => {
            [$($(($name, $look, Value::from_function(tests::$function))),*),*]
        };
    }
    let table = table! {
        Kind: "defined" = is_defined, "undefined" = is_undefined, "none" = is_none, "boolean" = is_boolean, "odd" = is_odd,
            "even" = is_even, "divisibleby" = is_divisibleby, "number" = is_number, "integer" = is_integer,
            "float" = is_float, "string" = is_string, "sequence" = is_sequence, "iterable" = is_iterable,
            "mapping" = is_mapping, "true" = is_true, "false" = is_false, "filter" = is_filter, "test" = is_test;
        Items: "startingwith" = is_startingwith, "endingwith" = is_endingwith, "lower" = is_lower, "upper" = is_upper,
            "sameas" = is_sameas, "eq" = is_eq, "equalto" = is_eq, "==" = is_eq, "ne" = is_ne, "!=" = is_ne, "lt" = is_lt,
            "lessthan" = is_lt, "<" = is_lt, "le" = is_le, "<=" = is_le, "gt" = is_gt, "greaterthan" = is_gt, ">" = is_gt,
            "ge" = is_ge, ">=" = is_ge, "in" = is_in;
    };
    for (name, look, test) in table {
        let b = Arc::clone(budget);
        env.add_test(
            name,
            move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| -> Result<bool, Error> {
                let args = args.into_values();
                pay(&b, look, &args)?;
                test.call(state, &args).map(|answer| answer.is_true())
            },
        );
    }
}

/// Charges for what a filter or test looks at: `args` are its input and its arguments.
fn pay(budget: &Budget, look: Look, args: &[Value]) -> Result<(), Error> {
    let Some((input, rest)) = args.split_first() else { return Ok(()) };
    match look {
        Look::Kind => return Ok(()),
        Look::Value => return budget.glance(input),
        Look::Items | Look::Characters | Look::Parts | Look::Split | Look::Sum => {}
    }
    let weight = budget.weigh(input)?;
    let mut arguments = 0;
    for argument in rest {
        arguments += budget.weigh(argument)?;
    }
    budget.work(arguments.saturating_mul(items(input) as u64))?;
    match (look, input.as_str()) {
        (Look::Characters, Some(text)) => budget.work((text.len() as u64).saturating_mul(arguments)),
        (Look::Parts, Some(text)) => budget.work((text.len() as u64).saturating_mul(NODE)),
        (Look::Split, Some(text)) => budget.work(parts(text, rest).saturating_mul(NODE)),
        (Look::Sum, _) if !input.try_iter()?.all(|item| item.kind() == ValueKind::Number) => {
            budget.work(weight.saturating_mul(items(input) as u64))
        }
        _ => Ok(()),
    }
}

/// How many parts a text falls into at most: cut at the separator, or at white space without one.
fn parts(text: &str, args: &[Value]) -> u64 {
    let count = match args.first().and_then(Value::as_str) {
        Some(separator) => text.matches(separator).count(),
        None => text.split_whitespace().count(),
    };
    count as u64 + 1
}

/// A value that has been weighed. What is only promised (a slice, a list in reverse) is made, so that promises do not stand on
/// promises in long rows.
fn weighed(budget: &Budget, value: Value) -> Result<Value, Error> {
    budget.weigh(&value)?;
    match value.kind() {
        ValueKind::Iterable => Ok(Value::from(value.try_iter()?.collect::<Vec<Value>>())),
        _ => Ok(value),
    }
}
/// Writes a value as Python would.
fn emit(budget: &Budget, out: &mut Output<'_>, value: &Value) -> Result<(), Error> {
    budget.weigh(value)?;
    let written = match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::None => out.write_str("None"),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
        _ => match value.as_str() {
            Some(text) => out.write_str(text),
            None => write!(out, "{value}"),
        },
    };
    written.map_err(|_| Error::new(ErrorKind::WriteFailure, "could not write"))
}

fn times(budget: &Budget, left: &Value, right: &Value) -> Result<Value, Error> {
    let wrong = || {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("cannot multiply {} and {}", left.kind(), right.kind()),
        )
    };
    match (left.kind(), right.kind()) {
        (ValueKind::Number, ValueKind::Number) => match (left.as_i64(), right.as_i64()) {
            (Some(a), Some(b)) if left.is_integer() && right.is_integer() => {
                a.checked_mul(b).map(Value::from).ok_or_else(wrong)
            }
            _ => {
                let (a, b) = (f64::try_from(left.clone())?, f64::try_from(right.clone())?);
                Ok(Value::from(a * b))
            }
        },
        (ValueKind::Number, _) => times(budget, right, left),
        (ValueKind::String | ValueKind::Seq, ValueKind::Number) => {
            let count = right.as_i64().ok_or_else(wrong)?.max(0) as u64;
            budget.charge(budget.weigh(left)?.saturating_mul(count))?;
            if let Some(text) = left.as_str() {
                return Ok(Value::from(text.repeat(count as usize)));
            }
            let items: Vec<Value> = left.try_iter()?.collect();
            let length = items.len() * count as usize;
            Ok(items.into_iter().cycle().take(length).collect())
        }
        _ => Err(wrong()),
    }
}

fn replace(budget: &Budget, text: &str, from: &str, to: &str, count: Option<usize>) -> Result<String, Error> {
    let found = text.matches(from).count().min(count.unwrap_or(usize::MAX)) as u64;
    budget.charge(text.len() as u64 + found.saturating_mul(to.len() as u64))?;
    Ok(match count {
        Some(count) => text.replacen(from, to, count),
        None => text.replace(from, to),
    })
}

fn join(budget: &Budget, items: &Value, separator: &str, attribute: Option<&str>) -> Result<String, Error> {
    let mut out = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let item = match attribute {
            Some(name) => item.get_attr(name)?,
            None => item,
        };
        if index > 0 {
            out.push_str(separator);
        }
        match item.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&item.to_string()),
        }
        if out.len() as u64 > budget.largest() {
            break;
        }
    }
    budget.charge(out.len() as u64)?;
    Ok(out)
}

/// Jinja's `indent(width=4, first=false, blank=false)`; the width may be a text.
fn indent(budget: &Budget, text: &str, rest: &[Value], options: &Kwargs) -> Result<String, Error> {
    let option = |index: usize, name: &str| -> Result<Value, Error> {
        let named: Option<Value> = options.get(name)?;
        Ok(named.or_else(|| rest.get(index).cloned()).unwrap_or_default())
    };
    let width = option(0, "width")?;
    let (first, blank) = (option(1, "first")?.is_true(), option(2, "blank")?.is_true());
    options.assert_all_used()?;
    let size = width.as_usize().unwrap_or(4);
    let lines = text.lines().count() as u64 + 1;
    let step = width.as_str().map_or(size, str::len) as u64;
    budget.charge((text.len() as u64).saturating_add(lines.saturating_mul(step)))?;
    let margin = width.as_str().map_or_else(|| " ".repeat(size), str::to_string);
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if (index > 0 || first) && (blank || !line.is_empty()) {
            out.push_str(&margin);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// Python's methods of strings, lists and dictionaries.
fn call_method(
    budget: &Budget,
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        // `get` looks one key up; `count` compares every item, and `items`, `keys` and `values` are weighed as what they give.
        if method == "count" {
            pay(budget, Look::Items, &[std::slice::from_ref(value), args].concat())?;
        }
        return pycompat::unknown_method_callback(state, value, method, args);
    };
    budget.glance(value)?;
    match (method, args) {
        ("replace", [from, to, rest @ ..]) => {
            let (Some(from), Some(to)) = (from.as_str(), to.as_str()) else {
                return Err(Error::new(ErrorKind::InvalidOperation, "replace wants two strings"));
            };
            let count = rest.first().and_then(Value::as_usize);
            return replace(budget, text, from, to, count).map(Value::from);
        }
        ("join", [items]) => {
            budget.weigh(items)?;
            return join(budget, items, text, None).map(Value::from);
        }
        ("format", _) => before_format(budget, text, args)?,
        ("split", _) => budget.work(parts(text, args).saturating_mul(NODE))?,
        ("splitlines", _) => budget.work(parts(text, &[Value::from("\n")]).saturating_mul(NODE))?,
        ("strip" | "lstrip" | "rstrip", [set]) => {
            let set = set.as_str().map_or(0, str::len);
            budget.work((text.len() as u64).saturating_mul(set as u64))?;
        }
        _ => {}
    }
    pycompat::unknown_method_callback(state, value, method, args)
}

/// Charges for what `str.format` could make of `text`: each brace may become the largest argument.
fn before_format(budget: &Budget, text: &str, args: &[Value]) -> Result<(), Error> {
    // Field widths make as much as a number in the template says.
    if text.contains(':') {
        return Err(Error::new(ErrorKind::InvalidOperation, "format with field widths is not supported"));
    }
    // What is written with `repr`, as text in lists is, may take several characters for one.
    const ESCAPED: u64 = 10;
    let mut largest = 0;
    for argument in args {
        let weight = budget.weigh(argument)?;
        largest = largest.max(match argument.as_str() {
            Some(argument) if !text.contains('!') => argument.len() as u64,
            _ => weight.saturating_mul(ESCAPED),
        });
    }
    let fields = text.matches('{').count() as u64;
    budget.charge((text.len() as u64).saturating_add(fields.saturating_mul(largest)))
}
