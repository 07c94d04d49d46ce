//! The modules of a crate, their items, imports and the paths that their code names, read from tokens. No types are resolved: what
//! is called as a method without naming its type is not seen.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Something defined in a module.
pub struct Item {
    /// The word that makes it: `struct`, `fn`, `macro_rules` and so on.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it is `pub` without a restriction in parentheses.
    pub public: bool,
}

/// One leaf of a `use` tree.
pub struct Import {
    /// The name that it brings; none for `*`.
    pub name: Option<String>,
    /// What it stands for, as written.
    pub path: Vec<String>,
}

/// A path in the code outside `use`, as written.
pub struct Mention {
    /// Its segments.
    pub path: Vec<String>,
    /// Whether it is called, as a function or as a macro.
    pub called: bool,
}

/// A module outside `#[cfg(test)]`; inline ones have the file of the module around them.
pub struct Module {
    /// The file that it stands in.
    pub file: PathBuf,
    /// What it defines.
    pub items: Vec<Item>,
    /// What it imports, in functions too.
    pub imports: Vec<Import>,
    /// What its code names.
    pub mentions: Vec<Mention>,
}

/// The modules of one crate by their paths; the root's path is empty.
pub type Modules = BTreeMap<Vec<String>, Module>;

/// Reads the crate whose `src` folder is given, following `mod` from its root.
pub fn modules(src: &Path) -> Modules {
    let root =
        ["lib.rs", "main.rs"].map(|name| src.join(name)).into_iter().find(|path| path.exists()).unwrap();
    let mut found = Modules::new();
    read_file(&root, src, &[], &mut found);
    found
}

/// `children` is the folder that the files of its child modules stand in.
fn read_file(file: &Path, children: &Path, path: &[String], found: &mut Modules) {
    let text = fs::read_to_string(file).unwrap();
    let tokens: TokenStream = text.parse().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    read_module(tokens, file, children, path, found);
}

fn read_module(tokens: TokenStream, file: &Path, children: &Path, path: &[String], found: &mut Modules) {
    let mut module =
        Module { file: file.to_owned(), items: Vec::new(), imports: Vec::new(), mentions: Vec::new() };
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        let end = item_end(&tokens, at);
        let item = &tokens[at..end];
        at = end;
        let (start, test) = skip_attributes(item);
        if test {
            continue;
        }
        let Some((kind, name, public)) = header(&item[start..]) else {
            mentions(item, &mut module);
            continue;
        };
        if kind == "mod" {
            let child: Vec<String> = path.iter().cloned().chain([name.clone()]).collect();
            let folder = children.join(&name);
            if let Some(TokenTree::Group(body)) = item.last() {
                read_module(body.stream(), file, &folder, &child, found);
            } else {
                let beside = children.join(format!("{name}.rs"));
                let inside = folder.join("mod.rs");
                read_file(if beside.exists() { &beside } else { &inside }, &folder, &child, found);
            }
            continue;
        }
        module.items.push(Item { kind, name, public });
        mentions(item, &mut module);
    }
    found.insert(path.to_owned(), module);
}

fn is_ident(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(i)) if i == word)
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == sign)
}

fn is_brace(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace)
}

/// Where the tokens after leading attributes begin, and whether one of these is `#[cfg(test)]`.
fn skip_attributes(tokens: &[TokenTree]) -> (usize, bool) {
    let (mut at, mut test) = (0, false);
    while is_punct(tokens.get(at), '#') {
        at += 1 + usize::from(is_punct(tokens.get(at + 1), '!'));
        if let Some(attribute) = tokens.get(at) {
            test |= attribute.to_string().replace(' ', "") == "[cfg(test)]";
        }
        at += 1;
    }
    (at, test)
}

/// Where the item that begins at `start` with its attributes ends.
fn item_end(tokens: &[TokenTree], start: usize) -> usize {
    let first = start + skip_attributes(&tokens[start..]).0;
    // The body of these may hold braces before the semicolon that ends them.
    let mut to_semicolon = false;
    for (at, token) in tokens.iter().enumerate().skip(first) {
        match token {
            TokenTree::Ident(i) if i == "use" || i == "static" || i == "type" => to_semicolon = true,
            TokenTree::Ident(i) if i == "const" => to_semicolon |= !is_fn_word(tokens.get(at + 1)),
            TokenTree::Ident(i)
                if !to_semicolon && (i == "fn" || i == "impl" || i == "struct" || i == "trait") =>
            {
                return body_end(tokens, at);
            }
            _ if is_punct(Some(token), ';') => return at + 1,
            _ if is_brace(token) && !to_semicolon => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn is_fn_word(token: Option<&TokenTree>) -> bool {
    ["fn", "unsafe", "extern", "async"].iter().any(|word| is_ident(token, word))
}

/// The first brace or semicolon from `at` on, whatever words come before it.
fn body_end(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| is_brace(token) || is_punct(Some(token), ';');
    tokens[at..].iter().position(ends).map_or(tokens.len(), |n| at + n + 1)
}

/// Kind, name and openness of a definition; none for `impl`, `use` and macros that are called.
fn header(tokens: &[TokenTree]) -> Option<(String, String, bool)> {
    let (mut at, mut public) = (0, false);
    if is_ident(tokens.first(), "pub") {
        at = 1;
        public = true;
        if matches!(tokens.get(1), Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Parenthesis) {
            at = 2;
            public = false;
        }
    }
    while at < tokens.len() {
        let TokenTree::Ident(word) = &tokens[at] else {
            // The name of a calling convention stands between the words of a function.
            if matches!(tokens[at], TokenTree::Literal(_)) {
                at += 1;
                continue;
            }
            return None;
        };
        let word = word.to_string();
        match word.as_str() {
            "unsafe" | "extern" | "async" => at += 1,
            "const" if is_fn_word(tokens.get(at + 1)) => at += 1,
            "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "mod" | "union" => {
                return Some((word, tokens.get(at + 1)?.to_string(), public));
            }
            "macro_rules" => return Some((word, tokens.get(at + 2)?.to_string(), public)),
            _ => return None,
        }
    }
    None
}

/// Collects imports and named paths of these tokens and of all groups in them.
fn mentions(tokens: &[TokenTree], module: &mut Module) {
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Punct(p) if p.as_char() == '#' => {
                let (skipped, test) = skip_attributes(&tokens[at..]);
                at = if test { item_end(tokens, at) } else { at + skipped.max(1) };
            }
            // The name of a lifetime or a label.
            TokenTree::Punct(p) if p.as_char() == '\'' => at += 2,
            TokenTree::Group(group) => {
                mentions(&group.stream().into_iter().collect::<Vec<_>>(), module);
                at += 1;
            }
            TokenTree::Ident(word) if word == "use" => {
                let end = body_end(tokens, at).max(at + 1);
                let end = tokens[at..].iter().position(|t| is_punct(Some(t), ';')).map_or(end, |n| at + n);
                imports(&tokens[at + 1..end], &[], &mut module.imports);
                at = end + 1;
            }
            TokenTree::Ident(_) => {
                let of_value = at > 0 && is_punct(tokens.get(at - 1), '.');
                let range = at > 1 && is_punct(tokens.get(at - 2), '.');
                let after_type =
                    at > 0 && is_punct(tokens.get(at - 1), ':') && at > 1 && is_path_sign(tokens, at - 2);
                let (path, end) = path(tokens, at);
                if (!of_value || range) && !after_type {
                    let round = matches!(tokens.get(end), Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Parenthesis);
                    module.mentions.push(Mention { path, called: round || is_punct(tokens.get(end), '!') });
                }
                at = end;
            }
            _ => at += 1,
        }
    }
}

/// Whether `::` begins here.
fn is_path_sign(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

/// The path that begins at a word, and where it ends.
fn path(tokens: &[TokenTree], start: usize) -> (Vec<String>, usize) {
    let (mut path, mut at) = (vec![tokens[start].to_string()], start + 1);
    while is_path_sign(tokens, at) {
        let Some(TokenTree::Ident(word)) = tokens.get(at + 2) else { break };
        path.push(word.to_string());
        at += 3;
    }
    (path, at)
}

/// The leaves of a `use` tree without its `use` and `;`.
fn imports(tokens: &[TokenTree], before: &[String], found: &mut Vec<Import>) {
    for tree in tokens.split(|t| is_punct(Some(t), ',')) {
        let mut path = before.to_vec();
        let mut name = None;
        let mut leaf = !tree.is_empty();
        for (at, token) in tree.iter().enumerate() {
            match token {
                TokenTree::Ident(word) if word == "as" => {
                    name = tree.get(at + 1).map(ToString::to_string);
                    break;
                }
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Group(group) => {
                    imports(&group.stream().into_iter().collect::<Vec<_>>(), &path, found);
                    leaf = false;
                }
                TokenTree::Punct(p) if p.as_char() == '*' => {
                    found.push(Import { name: None, path: path.clone() });
                    leaf = false;
                }
                _ => {}
            }
        }
        if leaf {
            let name = name.or_else(|| path.last().cloned());
            found.push(Import { name, path });
        }
    }
}
