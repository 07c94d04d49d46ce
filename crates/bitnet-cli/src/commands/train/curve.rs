//! A curve in the cells of a terminal, eight dots each (the Braille patterns of Unicode).

/// The dots of a cell: two columns of four, from the top.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// The values from left to right in so many columns and rows of cells, with the highest and the lowest value at the left. Values of
/// one column of dots are shown as their mean.
pub fn curve(values: &[f64], columns: usize, rows: usize) -> Vec<String> {
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let (dots, heights) = (2 * columns, 4 * rows);
    if finite.len() < 2 || columns == 0 || rows == 0 {
        return Vec::new();
    }
    let shown = dots.min(finite.len());
    let mean = |i: usize| {
        let part = &finite[i * finite.len() / shown..(i + 1) * finite.len() / shown];
        part.iter().sum::<f64>() / part.len() as f64
    };
    let means: Vec<f64> = (0..shown).map(mean).collect();
    let (low, high) = means.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let spread = (high - low).max(f64::MIN_POSITIVE);
    let mut cells = vec![0u32; columns * rows];
    for column in 0..dots {
        let value = means[column * shown / dots];
        let down = ((high - value) / spread * (heights - 1) as f64).round() as usize;
        cells[down / 4 * columns + column / 2] |= DOTS[column % 2][down % 4];
    }
    let labels = [high, low].map(|v| format!("{v:.2}"));
    let width = labels.iter().map(String::len).max().unwrap_or(0);
    let row = |(at, cells): (usize, &[u32])| {
        let label = match at {
            0 => labels[0].as_str(),
            _ if at + 1 == rows => labels[1].as_str(),
            _ => "",
        };
        let cells: String = cells.iter().map(|&c| char::from_u32(0x2800 + c).unwrap_or(' ')).collect();
        format!("{label:>width$} {cells}")
    };
    cells.chunks(columns).enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_lie_where_the_values_are() {
        let falling: Vec<f64> = (0..8).map(|i| 10.0 - f64::from(i)).collect();
        // Eight values over four columns of cells, two rows: a line from the top left to the bottom right.
        assert_eq!(
            curve(&falling, 4, 2),
            ["10.00 \u{2811}\u{2884}\u{2800}\u{2800}", " 3.00 \u{2800}\u{2800}\u{2811}\u{2884}"]
        );
        assert_eq!(curve(&[1.0, f64::NAN, 1.0], 2, 1), ["1.00 \u{2809}\u{2809}"]);
        let many: Vec<f64> = (0..1000).map(f64::from).collect();
        let shown = curve(&many, 3, 2);
        assert!(shown[0].starts_with("916.00 ") && shown[1].starts_with(" 82.50 "), "{shown:?}");
        assert!(curve(&[1.0], 5, 5).is_empty());
    }
}
