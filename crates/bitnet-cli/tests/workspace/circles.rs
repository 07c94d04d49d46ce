//! Files of one crate that stand in a circle: none can be read without the others.
//!
//! A file refers to another when its code names something that the other defines, by whatever path or re-export. Declaring a
//! module is no reference. A crate's root that only declares and re-exports is no part of a circle, nor is any such file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{
    ORDER, root,
    source::{Modules, modules},
};

/// What a path leads to.
enum Found {
    /// The module of that path.
    Module(Vec<String>),
    /// Something that is defined in that file.
    Item(PathBuf),
}

/// Follows a path from a module through imports and re-exports; none where it leaves the crate. Imports can lead back to where they
/// began, so what was `seen`, a module with a name, is not looked up again.
fn follow(
    modules: &Modules,
    from: &[String],
    path: &[String],
    seen: &mut BTreeSet<(Vec<String>, String)>,
) -> Option<Found> {
    let Some((first, rest)) = path.split_first() else { return Some(Found::Module(from.to_vec())) };
    match first.as_str() {
        "crate" => return follow(modules, &[], rest, seen),
        "self" => return follow(modules, from, rest, seen),
        "super" => return follow(modules, &from[..from.len().checked_sub(1)?], rest, seen),
        _ => {}
    }
    match look_up(modules, from, first, seen)? {
        Found::Module(module) => follow(modules, &module, rest, seen),
        item => Some(item),
    }
}

/// What a name means in a module.
fn look_up(
    modules: &Modules,
    from: &[String],
    name: &str,
    seen: &mut BTreeSet<(Vec<String>, String)>,
) -> Option<Found> {
    if !seen.insert((from.to_vec(), name.to_owned())) {
        return None;
    }
    let module = modules.get(from)?;
    if module.items.iter().any(|item| item.name == name) {
        return Some(Found::Item(module.file.clone()));
    }
    let child: Vec<String> = from.iter().cloned().chain([name.to_owned()]).collect();
    if modules.contains_key(&child) {
        return Some(Found::Module(child));
    }
    let named = module.imports.iter().filter(|import| import.name.as_deref() == Some(name));
    let found = named.filter_map(|import| follow(modules, from, &import.path, seen)).next();
    found.or_else(|| {
        let globs = module.imports.iter().filter(|import| import.name.is_none());
        globs
            .filter_map(|import| match follow(modules, from, &import.path, seen)? {
                Found::Module(module) => look_up(modules, &module, name, seen),
                Found::Item(_) => None,
            })
            .next()
    })
}

/// The file in which that is defined which a path in a module names.
fn definer(modules: &Modules, from: &[String], path: &[String]) -> Option<PathBuf> {
    match follow(modules, from, path, &mut BTreeSet::new())? {
        Found::Item(file) => Some(file),
        Found::Module(_) => None,
    }
}

/// Which files each file refers to.
fn references(modules: &Modules) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let mut macros = BTreeMap::new();
    for module in modules.values() {
        for item in module.items.iter().filter(|item| item.kind == "macro_rules") {
            macros.insert(vec![item.name.clone()], module.file.clone());
        }
    }
    let mut graph: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    let with_code: BTreeSet<_> =
        modules.values().filter(|m| !m.items.is_empty() || !m.mentions.is_empty()).map(|m| &m.file).collect();
    for (path, module) in modules {
        let others = graph.entry(module.file.clone()).or_default();
        if !with_code.contains(&module.file) {
            continue;
        }
        for import in module.imports.iter().filter(|import| import.name.is_some()) {
            others.extend(definer(modules, path, &import.path));
        }
        for mention in &module.mentions {
            let first = mention.path[0].chars().next();
            // A lone small word that is not called is a variable or a field.
            if mention.path.len() > 1 || mention.called || first.is_some_and(char::is_uppercase) {
                others.extend(definer(modules, path, &mention.path));
            }
            if mention.called {
                others.extend(macros.get(&mention.path).cloned());
            }
        }
        others.remove(&module.file);
    }
    graph
}

/// What can be reached from a file by one reference or more.
fn reach(graph: &BTreeMap<PathBuf, BTreeSet<PathBuf>>, from: &PathBuf) -> BTreeSet<PathBuf> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        for other in &graph[file] {
            if seen.insert(other.clone()) {
                open.push(other);
            }
        }
    }
    seen
}

#[test]
fn files_stand_in_no_circle() {
    let mut wrong = Vec::new();
    let (mut in_circles, mut in_all) = (0, 0);
    for name in ORDER {
        let src = root().join("crates").join(name).join("src");
        let graph = references(&modules(&src));
        let reached: BTreeMap<_, _> = graph.keys().map(|file| (file, reach(&graph, file))).collect();
        let circle: Vec<_> = graph.keys().filter(|file| reached[file].contains(*file)).collect();
        in_circles += circle.len();
        in_all += graph.len();
        if !circle.is_empty() {
            let show = |file: &PathBuf| file.strip_prefix(&src).unwrap().display().to_string();
            let lines: Vec<String> = circle
                .iter()
                .map(|file| {
                    let back = graph[*file].iter().filter(|other| reached[*other].contains(*file));
                    format!(
                        "  {} names things of {}",
                        show(file),
                        back.map(show).collect::<Vec<_>>().join(", ")
                    )
                })
                .collect();
            wrong.push(format!("{name}: {} files in circles\n{}", circle.len(), lines.join("\n")));
        }
    }
    println!("{in_circles} of {in_all} files stand in circles");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
