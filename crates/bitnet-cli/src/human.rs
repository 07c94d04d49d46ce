//! Numbers as people read them, and columns that line up.

use crate::terminal;

/// `1.6 MB`, in powers of ten everywhere, so that files and memory can be compared.
pub fn bytes(n: u64) -> String {
    match n {
        0..1000 => format!("{n} B"),
        _ => scaled(n as f64, ["kB", "MB", "GB", "TB", "PB"]),
    }
}

/// A number of operations with a unit, `4.2 GOP`.
pub fn operations(n: f64) -> String {
    scaled(n, ["kOP", "MOP", "GOP", "TOP", "POP"])
}

/// `n` in the unit in which it has one to three digits before the point.
fn scaled(n: f64, units: [&str; 5]) -> String {
    let mut value = n / 1000.0;
    let mut unit = 0;
    // 999.95 would be rounded up to four digits.
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

/// `+1.25 %` of 0.0125; what is rounded to nothing has no minus.
pub fn signed_percent(share: f64) -> String {
    let text = format!("{:+.2} %", 100.0 * share);
    if text == "-0.00 %" { "+0.00 %".into() } else { text }
}

/// `850 us`, `12 ms`, `3.4 s`, `2 min 5 s`.
pub fn seconds(s: f64) -> String {
    if !s.is_finite() || s < 0.0 {
        return "?".into();
    }
    match s {
        s if s < 0.001 => format!("{:.0} us", s * 1e6),
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 59.95 => format!("{s:.1} s"),
        s => {
            let whole = s.round() as u64;
            match whole / 60 {
                minutes if minutes < 60 => format!("{minutes} min {} s", whole % 60),
                minutes => format!("{} h {} min", minutes / 60, minutes % 60),
            }
        }
    }
}

/// A whole number with its thousands parted, `2,413,871`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Labels on the left, values beside them, all starting in one column.
#[derive(Default)]
pub struct Pairs {
    rows: Vec<(String, String)>,
}

impl Pairs {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn row(&mut self, label: &str, value: impl ToString) {
        self.rows.push((label.to_owned(), value.to_string()));
    }

    /// The lines, each ended. Further lines of a value stand under its first.
    pub fn text(&self) -> String {
        let width = self.rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for (label, value) in &self.rows {
            let mut lines = value.lines();
            let first = lines.next().unwrap_or("");
            text += format!("{label:<width$}  {first}").trim_end();
            text.push('\n');
            for line in lines {
                text += &format!("{:width$}  {line}\n", "");
            }
        }
        terminal::fitted(text)
    }
}

/// Blanks between the columns of a table.
const GAP: usize = 2;

/// A table with a head. Columns whose cells are numbers stand to the right.
pub struct TextTable {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    key: usize,
}

impl TextTable {
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&h| h.to_owned()).collect(), rows: Vec::new(), key: 1 }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The first `columns` say what a row is of. (One does, unless this is called.)
    pub fn key(mut self, columns: usize) -> Self {
        self.key = columns;
        self
    }

    /// The lines, each ended, without trailing blanks. Columns for which the terminal has no room stand in further tables below, each
    /// behind the key.
    pub fn text(&self) -> String {
        self.text_within(terminal::width())
    }

    fn text_within(&self, width: Option<usize>) -> String {
        let (columns, rows) = self.laid_out();
        let long =
            |part: &[usize]| part.iter().map(|&c| columns[c].0 + GAP).sum::<usize>().saturating_sub(GAP);
        let keys: Vec<usize> = (0..self.key.min(columns.len())).collect();
        let mut parts = vec![keys.clone()];
        for column in keys.len()..columns.len() {
            let last = parts.len() - 1;
            let longer = [parts[last].as_slice(), &[column]].concat();
            if parts[last].len() > keys.len() && width.is_some_and(|width| long(&longer) > width) {
                parts.push([keys.as_slice(), &[column]].concat());
            } else {
                parts[last] = longer;
            }
        }
        let table = |part: &Vec<usize>| rows.iter().map(|row| line(row, &columns, part)).collect::<String>();
        parts.iter().map(table).collect::<Vec<_>>().join("\n")
    }

    /// Every column's width and whether it stands to the right; all rows, the head first.
    fn laid_out(&self) -> (Vec<(usize, bool)>, Vec<&Vec<String>>) {
        let cell = |row: &Vec<String>, c: usize| row.get(c).cloned().unwrap_or_default();
        let rows: Vec<_> = std::iter::once(&self.head).chain(&self.rows).collect();
        let column = |c: usize| {
            let width = rows.iter().map(|row| cell(row, c).chars().count()).max().unwrap_or(0);
            (width, !self.rows.is_empty() && self.rows.iter().all(|row| numeric(&cell(row, c))))
        };
        ((0..self.head.len()).map(column).collect(), rows)
    }
}

/// The cells of the columns in `part`.
fn line(row: &[String], columns: &[(usize, bool)], part: &[usize]) -> String {
    let cells = part.iter().map(|&c| {
        let (cell, (width, right)) = (row.get(c).map_or("", String::as_str), columns[c]);
        if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    });
    cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned() + "\n"
}

fn numeric(cell: &str) -> bool {
    cell.is_empty() || cell == "-" || cell.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_change_where_a_reader_expects_it() {
        assert_eq!([bytes(0), bytes(999), bytes(1000), bytes(999_960)], ["0 B", "999 B", "1.0 kB", "1.0 MB"]);
        assert_eq!([operations(20.0), operations(2.5e6)], ["0.0 kOP", "2.5 MOP"]);
        assert_eq!([signed_percent(-1e-6), signed_percent(-0.125)], ["+0.00 %", "-12.50 %"]);
        assert_eq!([seconds(0.0), seconds(0.0123), seconds(3.44)], ["0 us", "12 ms", "3.4 s"]);
        assert_eq!(
            [seconds(59.96), seconds(125.0), seconds(7320.0)],
            ["1 min 0 s", "2 min 5 s", "2 h 2 min"]
        );
        assert_eq!([seconds(f64::NAN), seconds(-1.0)], ["?", "?"]);
        assert_eq!([count(7), count(1000), count(2_413_871)], ["7", "1,000", "2,413,871"]);
    }

    #[test]
    fn columns_line_up() {
        let mut pairs = Pairs::new();
        pairs.row("a", "1\n2");
        pairs.row("long", "");
        assert_eq!(pairs.text(), "a     1\n      2\nlong\n");
        let mut table = TextTable::new(&["name", "n"]);
        table.row(vec!["x".into(), "10".into()]);
        table.row(vec!["yy".into(), "5".into()]);
        assert_eq!(table.text(), "name   n\nx     10\nyy     5\n");
        let mut wide = TextTable::new(&["name", "a", "b", "long"]);
        wide.row(["x", "1", "2", "3"].map(str::to_owned).to_vec());
        assert_eq!(wide.text_within(Some(10)), "name  a  b\nx     1  2\n\nname  long\nx        3\n");
        // What is wider than the terminal stands alone with its key.
        assert_eq!(wide.text_within(Some(5)).matches("name").count(), 3);
        assert_eq!(wide.text_within(Some(16)), wide.text());
    }
}
