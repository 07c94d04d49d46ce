//! Numbers as people read them, and columns that line up.

/// `1.6 MB`, in powers of ten, as disks and networks are sold.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be rounded up to four digits.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1.6 GiB`, in powers of two, as memory is.
pub fn memory(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
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

/// `2,413,871`.
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
        text
    }
}

/// A table with a head. Columns whose cells are numbers stand to the right.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|&h| h.to_owned()).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, each ended, without trailing blanks.
    pub fn text(&self) -> String {
        let columns = self.head.len();
        let cell = |row: &'_ Vec<String>, c: usize| row.get(c).cloned().unwrap_or_default();
        let rows = || std::iter::once(&self.head).chain(&self.rows);
        let widths: Vec<_> =
            (0..columns).map(|c| rows().map(|r| cell(r, c).chars().count()).max().unwrap_or(0)).collect();
        let right: Vec<_> = (0..columns)
            .map(|c| !self.rows.is_empty() && self.rows.iter().all(|r| numeric(&cell(r, c))))
            .collect();
        let mut text = String::new();
        for row in rows() {
            let cells = (0..columns).map(|c| {
                let (cell, width) = (cell(row, c), widths[c]);
                if right[c] { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            text += cells.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }
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
        assert_eq!([memory(1023), memory(1 << 20), memory(u64::MAX)], ["1023 B", "1.0 MiB", "16384.0 PiB"]);
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
        let mut table = Table::new(&["name", "n"]);
        table.row(vec!["x".into(), "10".into()]);
        table.row(vec!["yy".into(), "5".into()]);
        assert_eq!(table.text(), "name   n\nx     10\nyy     5\n");
    }
}
