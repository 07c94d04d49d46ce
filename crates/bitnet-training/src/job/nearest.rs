//! The name that somebody may have meant.

/// The message of a reader that met an unknown name, with the known name that is nearest to it.
pub(super) fn explained(message: &str) -> String {
    let message = message.trim_end();
    let mut quoted =
        message.rsplit_once("unknown field ").map_or("", |(_, rest)| rest).split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next() else { return message.to_owned() };
    match nearest(unknown, quoted) {
        Some(name) => format!("{message}\ndid you mean `{name}`?"),
        None => message.to_owned(),
    }
}

/// What to say of a key that `table` has not.
pub(super) fn unknown(table: &toml::Table, section: &str, key: &str) -> String {
    let meant = match table.get(section).and_then(toml::Value::as_table) {
        Some(keys) => nearest(key, keys.keys().map(String::as_str)).map(|key| format!("{section}.{key}")),
        None => nearest(section, table.keys().map(String::as_str)).map(|section| format!("{section}.{key}")),
    };
    let meant = meant.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
    format!("there is no key {section}.{key}{meant}")
}

/// The name with the fewest letters to change, when they are few.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|n| (distance(name, n), n)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, n)| *distance <= name.len().max(n.len()) / 3 + 1).map(|(_, n)| n)
}

/// Letters to put in, take out, exchange or swap with a neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name() {
        let names = || ["steps", "batch", "positions", "learning_rate"].into_iter();
        assert_eq!(nearest("stpes", names()), Some("steps"));
        assert_eq!(nearest("learningrate", names()), Some("learning_rate"));
        assert_eq!(nearest("temperature", names()), None);
        assert_eq!((distance("ab", "ba"), distance("", "abc"), distance("kitten", "sitting")), (1, 3, 3));
        let told = explained("unknown field `stepz`, expected `steps` or `batch`\n");
        assert!(told.ends_with("\ndid you mean `steps`?"), "{told}");
        assert_eq!(explained("missing field `steps`"), "missing field `steps`");
    }
}
