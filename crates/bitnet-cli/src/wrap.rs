//! Text in lines of a width.

/// `text` in lines of at most `width` characters, broken at blanks. A line goes on below where its last column begins, or where it began
/// itself. Colours take no room.
pub fn wrapped(text: &str, width: usize) -> String {
    text.split('\n').map(|line| wrapped_line(line, width)).collect::<Vec<_>>().join("\n")
}

fn wrapped_line(line: &str, width: usize) -> String {
    if seen(line) <= width {
        return line.to_owned();
    }
    // Blanks stand between columns, and what is left of them has to leave room for words.
    let begin = line.len() - line.trim_start().len();
    let column =
        line[begin..].find("  ").map_or(begin, |at| line.len() - line[begin + at..].trim_start().len());
    let hang =
        Some(seen(&line[..column])).filter(|&hang| hang <= 2 * width / 3).unwrap_or(begin.min(width / 2));
    let mut lines = vec![line[..column].to_owned()];
    for word in line[column..].split_inclusive(' ') {
        let (last, blank) = (lines.len() - 1, " ".repeat(hang));
        let fits = seen(&lines[last]) + seen(word.trim_end()) <= width;
        if fits || lines[last].trim().is_empty() {
            lines[last].push_str(word);
        } else {
            lines.push(blank + word);
        }
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// Characters that are seen: an escape sequence of a colour ends with its first letter.
fn seen(text: &str) -> usize {
    let mut escaped = false;
    text.chars()
        .filter(|&c| {
            let hidden = escaped || c == '\x1b';
            escaped = hidden && (c == '\x1b' || !c.is_ascii_alphabetic());
            !hidden
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_at_blanks() {
        let told = wrapped("  -n, --new <N>  Stop after so many tokens\nshort\n", 30);
        assert_eq!(told, "  -n, --new <N>  Stop after so\n                 many tokens\nshort\n");
        assert_eq!(wrapped("    one two three", 11), "    one two\n    three");
        assert_eq!(wrapped("\x1b[1mone\x1b[0m two", 7), "\x1b[1mone\x1b[0m two");
        assert_eq!(wrapped("a/path/without/blanks b", 9), "a/path/without/blanks\nb");
    }
}
