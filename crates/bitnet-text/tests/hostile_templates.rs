//! Templates that would overflow the stack, take all memory or never end: each ends with an error, and soon.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bitnet_text::{ChatTemplate, Message, TextError};

fn render(source: &str) -> Result<String, TextError> {
    let messages = [Message::new("user", "hi")];
    ChatTemplate::new(source, Some("<s>"), None)?.render(&messages, true)
}

/// What a link does to an expression, `n` times around `x`: before it, behind it, or both.
const LINKS: &[(&str, &str, &str)] = &[
    ("", "a", ".a"),
    ("", "messages", "[0]"),
    ("", "a", "()"),
    ("", "a", "(b)"),
    ("", "a", ".b(1)"),
    ("", "'a'", "[0:]"),
    ("", "'a'", "|trim"),
    ("", "'a'", "|replace('a', 'b')"),
    ("", "1", " is odd"),
    ("", "1", " is not odd"),
    ("", "1", " + 1"),
    ("", "1", " - 1"),
    ("", "1", " * 1"),
    ("", "1", " / 1"),
    ("", "1", " // 1"),
    ("", "1", " % 1"),
    ("", "1", " ** 1"),
    ("", "1", " ~ 1"),
    ("", "1", " and 1"),
    ("", "1", " or 1"),
    ("", "1", " < 1"),
    ("", "1", " == 1"),
    ("", "1", " in [1]"),
    ("", "1", " not in [1]"),
    ("", "1", " if 1 else 1"),
    ("", "1", " if 1"),
    ("1 if 1 else ", "1", ""),
    ("not ", "1", ""),
    ("- ", "1", ""),
    ("not - ", "1", ""),
    ("1 + ", "1", ""),
    ("1 ** ", "1", ""),
    ("(", "1", ")"),
    ("[", "1", "]"),
    ("{'a': ", "1", "}"),
    ("(", "1", ",)"),
    ("f(", "1", ")"),
    ("f(a=", "1", ")"),
    ("f(*", "a", ")"),
    ("a[", "1", "]"),
    ("a[1:", "1", "]"),
    ("not not not not (", "1", ")"),
    ("- - - [", "1", "]"),
    ("1 if 1 else (", "1", ")"),
    ("not (", "1", ") is odd"),
    ("1 + (", "1", ") + 1"),
    ("not (", "1", ""),
    ("- - - - [", "1", ""),
    ("1 ~ f(", "1", ""),
];

/// Where an expression may stand.
const PLACES: &[(&str, &str)] = &[
    ("{{ ", " }}"),
    ("{% if ", " %}{% endif %}"),
    ("{% if 1 %}{% elif ", " %}{% endif %}"),
    ("{% for x in ", " %}{% endfor %}"),
    ("{% for x in y if ", " %}{% endfor %}"),
    ("{% set x = ", " %}"),
    ("{% with x = ", " %}{% endwith %}"),
    ("{% do f(", ") %}"),
    ("{% macro f(a=", ") %}{% endmacro %}"),
    ("{% call f(", ") %}{% endcall %}"),
    ("{% filter replace('a', ", ") %}{% endfilter %}"),
];

/// Statements around, or behind, one another.
const STATEMENTS: &[(&str, &str)] = &[
    ("{% if 1 %}", "{% endif %}"),
    ("{% if 1 %}{% else %}", "{% endif %}"),
    ("{% elif 1 %}", ""),
    ("{% for x in y %}", "{% endfor %}"),
    ("{% with x = 1 %}", "{% endwith %}"),
    ("{% set x %}", "{% endset %}"),
    ("{% filter trim %}", "{% endfilter %}"),
    ("{% macro f() %}", "{% endmacro %}"),
    ("{% call f() %}", "{% endcall %}"),
    ("{% generation %}", "{% endgeneration %}"),
    ("{% block x %}", "{% endblock %}"),
    ("{% autoescape true %}", "{% endautoescape %}"),
];

fn chains(links: usize) -> Vec<String> {
    let mut all = Vec::new();
    for (before, operand, behind) in LINKS {
        let expression = [&before.repeat(links), *operand, &behind.repeat(links)].concat();
        all.extend(PLACES.iter().map(|(open, close)| [*open, &expression, *close].concat()));
    }
    for (open, close) in STATEMENTS {
        all.push([&open.repeat(links), "x", &close.repeat(links)].concat());
        all.push(["{% if 1 %}", &open.repeat(links), "x", &close.repeat(links), "{% endif %}"].concat());
    }
    let repeat = |part: &str| part.repeat(links);
    all.push(format!("{{% set {}a{} = 1 %}}", repeat("("), repeat(",)")));
    all.push(format!("{{% for {}a{} in x %}}{{% endfor %}}", repeat("("), repeat(",)")));
    all.push(format!("{{% set ns{} = 1 %}}", repeat(".a")));
    all.push(format!("{{% set x{} %}}{{% endset %}}", repeat("|trim")));
    all.push(format!("{{% filter trim{} %}}{{% endfilter %}}", repeat("|trim")));
    all.push(format!("{{{{ 'a'|trim{} }}}}", repeat(".a")));
    all
}

#[test]
fn long_chains_of_every_kind_end_with_an_answer_on_a_small_stack() {
    let run = || {
        for links in [60, 150, 255, 2000, 20_000] {
            for source in chains(links) {
                let begin: String = source.chars().take(60).collect();
                match ChatTemplate::new(&source, None, None) {
                    // A few chains cost nothing in depth: comparisons are one list.
                    Ok(_) | Err(TextError::Limit(_) | TextError::Template(_)) => {}
                    Err(other) => panic!("{begin}: {other:?}"),
                }
            }
        }
    };
    // A thread of a library's user has 2 MiB.
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn chains_as_long_as_people_write_them_are_taken() {
    let sum = ["{{ 'a'", &" + 'a'".repeat(20), " }}"].concat();
    assert_eq!(render(&sum).unwrap(), "a".repeat(21));
    let either = ["{% if x == 1", &" or x == 1".repeat(20), " %}{% else %}no{% endif %}"].concat();
    assert_eq!(render(&either).unwrap(), "no");
    let cases = ["{% if x == 1 %}", &"{% elif x == 1 %}".repeat(60), "{% else %}no{% endif %}"].concat();
    assert_eq!(render(&cases).unwrap(), "no");
    let list = ["{% set l = ['a'", &", 'a'".repeat(2000), "] %}{{ l | length }}"].concat();
    assert_eq!(render(&list).unwrap(), "2001");
}

#[test]
fn a_chain_that_is_too_long_is_told_its_limit() {
    for source in [
        ["{{ a", &".a".repeat(40_000), " }}"].concat(),
        ["{{ 'a'", &"|trim".repeat(40_000), " }}"].concat(),
        ["{{ ", &"not ".repeat(40_000), "x }}"].concat(),
        ["{% if x %}", &"{% elif x %}".repeat(20_000), "{% endif %}"].concat(),
    ] {
        let error = ChatTemplate::new(&source, None, None).unwrap_err();
        assert!(matches!(error, TextError::Limit(_)), "{error}");
    }
}

/// The limit that ends a template.
#[track_caller]
fn limit(source: &str) -> String {
    match render(source) {
        Err(TextError::Limit(what)) => what,
        other => panic!("{}: {other:?}", &source[..source.len().min(200)]),
    }
}

/// Looks at a megabyte, over and over: `text`, `list`, `nested` and `map` are large.
const LOOKS: &[&str] = &[
    "text.count('b')",
    "text.find('b')",
    "text.rfind('b')",
    "text.islower()",
    "text.isupper()",
    "text.isascii()",
    "text.isalpha()",
    "text.isalnum()",
    "text.isdigit()",
    "text.isspace()",
    "text.startswith(text)",
    "text.endswith(text)",
    "text.strip()",
    "text.strip(text)",
    "text.lstrip('ab')",
    "text.split('b')",
    "text.splitlines()",
    "text.title()",
    "text.capitalize()",
    "text.replace('b', 'c')",
    "'{}'.format(text)",
    "','.join(list)",
    "text|length",
    "text|count",
    "text|first",
    "text|last",
    "text|lower",
    "text|trim",
    "text|trim('ab')",
    "text|trim(text)",
    "text|int",
    "text|float",
    "text|string",
    "text|safe",
    "text|split('b')",
    "text|lines",
    "text|list",
    "text|unique",
    "text|sort",
    "text|reverse",
    "text|escape",
    "text|tojson",
    "text|indent",
    "text is lower",
    "text is upper",
    "text is startingwith(text)",
    "text is endingwith(text)",
    "text is eq(text)",
    "text is in(list)",
    "text == other",
    "text < other",
    "'b' in text",
    "text[-1]",
    "text[5:6]",
    "text[::-1]",
    "{text: 1}[other]",
    "list|max",
    "list|min",
    "list|sum",
    "list|sort",
    "list|unique",
    "list|list",
    "list|string",
    "list|join",
    "list|tojson",
    "list|reverse",
    "list|map('string')|length",
    "list|map(attribute='a')|length",
    "list|select('odd')|length",
    "list|select('in', list)|length",
    "list|reject('eq', text)|length",
    "list|selectattr(text)|length",
    "list|groupby('a')",
    "list.count(1)",
    "list == list",
    "1 in list",
    "list[1:2]",
    "list[::-1]",
    "list + list",
    "map|dictsort",
    "map|items|list",
    "map.items()|list",
    "map.keys()|list",
    "map.values()|list",
    "map|tojson",
    "map == map",
    "strings|sum(start='')",
    "strings|join(text)",
    "strings|map('replace', 'a', text)|list",
    "strings|map('trim', text)|list",
];

#[test]
fn what_is_looked_at_is_paid_for() {
    let large = "{% set text = 'a' * 1000000 %}{% set other = 'a' * 1000000 %}{% set list = range(9000)|list %}\
                 {% set strings = ['a' * 300] * 2000 %}{% set map = dict(a=list, b='b' * 100000) %}";
    for look in LOOKS {
        let loops = "{% for i in range(9000) %}{% for j in range(9000) %}";
        let what =
            limit(&format!("{large}{loops}{{% if {look} %}}{{% endif %}}{{% endfor %}}{{% endfor %}}"));
        // Millions of steps that look at a megabyte each would take hours: their bytes must have run out long before.
        assert_ne!(what, "steps", "{look}");
    }
}

#[test]
fn what_would_be_large_is_not_made() {
    let large = "{% set text = 'a' * 900000 %}{% set list = ['a' * 900] * 900 %}";
    for make in [
        "('{}' * 1000).format(text)",
        "('{0}' * 1000).format(text)",
        "('{x}' * 1000).format(x=text)",
        "('{!r}' * 1000).format(text)",
        "('{0[0]}' * 9000).format(list)",
        "('{}' * 1000).format(list)",
        "text.replace('', text)",
        "text|replace('a', text)",
        "text.join(list)",
        "list|join(text)",
        "text|list|join(text)",
        "text * 1000",
        "list * 1000",
        "'a\nb'|indent(900000000)",
        "list|map('replace', 'a', text)|list",
        "list|map('indent', 900000, true)|list",
        "text.split('')|map('replace', 'a', text)|list",
        "range(99999)|list",
        "text|list|tojson(indent=16)",
    ] {
        let what = limit(&format!("{large}{{{{ {make} }}}}"));
        assert_ne!(what, "steps", "{make}");
    }
}

#[test]
fn promises_do_not_stand_on_promises() {
    for step in [
        "n.x[0:]",
        "n.x|reverse",
        "n.x|list",
        "n.x + []",
        "(n.x + [])[0:]",
        "n.x|reverse|reverse",
        "n.x|sort|reverse",
        "n.m.items()",
        "n.x|unique",
    ] {
        let source = format!(
            "{{% set n = namespace(x=[1], m=dict(a=1)) %}}{{% for i in range(200) %}}{{% for j in range(100) %}}\
             {{% set n.x = {step} %}}{{% endfor %}}{{% endfor %}}{{{{ n.x | length }}}}"
        );
        let text = render(&source);
        assert!(matches!(&text, Ok(text) if text == "1"), "{step}: {text:?}");
    }
}

#[test]
fn what_templates_do_with_a_long_conversation_is_no_work() {
    let message =
        |i: usize| Message::new(["user", "assistant"][i % 2], "some words of a message. ".repeat(20));
    let messages: Vec<Message> = (0..2000).map(message).collect();
    let source = "{% for m in messages %}{% if loop.index0 == messages|length - 1 or messages[loop.index0 - 1].role %}\
        {% set c = m.content.split('</think>')[-1].lstrip('\n').rstrip() %}{% if messages is defined %}\
        {{ m.role | upper }}: {{ c | trim }}{{ (messages | first).role }}{% endif %}{% endif %}{% endfor %}";
    let text = ChatTemplate::new(source, None, None).unwrap().render(&messages, true).unwrap();
    assert!(text.len() > 1_000_000 && text.starts_with("USER: some words"));
}
