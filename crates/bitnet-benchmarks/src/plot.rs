//! A sweep as a picture: one SVG file without scripts, fonts or links, readable on light and on dark ground.
//!
//! For each test two panels stand side by side: tokens/s with a bar from the slowest to the fastest repetition, and the part of
//! the limit. The setting with the most values (threads, depth or batch) is the axis; every combination of the others is a line.

use crate::{
    Row, Test,
    picture::{COLORS, Scale, dashes, document, escape, line},
};

const WIDTH: f64 = 960.0;
const PANEL: f64 = 300.0;
/// Room around a panel's plot: left, top, right, bottom.
const MARGIN: [f64; 4] = [80.0, 44.0, 16.0, 52.0];
const LEGEND_LINE: f64 = 20.0;

/// A setting of a row that a picture can have on its axis.
#[derive(Clone, Copy, PartialEq)]
enum Axis {
    Threads,
    Depth,
    Batch,
}

impl Axis {
    const ALL: [Self; 3] = [Self::Threads, Self::Depth, Self::Batch];

    fn of(self, row: &Row) -> usize {
        match self {
            Self::Threads => row.threads,
            Self::Depth => row.depth,
            Self::Batch => row.batch,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Depth => "depth",
            Self::Batch => "batch",
        }
    }

    /// The words under the axis.
    fn label(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Depth => "depth (positions held before)",
            Self::Batch => "batch (sequences run together)",
        }
    }

    /// The distinct values of the setting among the rows, in order.
    fn values(self, rows: &[Row]) -> Vec<usize> {
        let mut values: Vec<_> = rows.iter().map(|row| self.of(row)).collect();
        values.sort_unstable();
        values.dedup();
        values
    }
}

/// The number of a row that a panel shows.
#[derive(Clone, Copy, PartialEq)]
enum Measure {
    Speed,
    OfLimit,
}

impl Measure {
    fn of(self, row: &Row) -> f64 {
        match self {
            Self::Speed => row.tokens_per_s,
            Self::OfLimit => 100.0 * row.of_limit,
        }
    }
}

/// The rows as a picture, the text of an SVG file.
pub fn svg(rows: &[Row]) -> String {
    let tests: Vec<Test> =
        [Test::Generation, Test::Prompt].into_iter().filter(|t| rows.iter().any(|r| r.test == *t)).collect();
    let mut body = String::new();
    let mut y = 34.0;
    for test in tests {
        let rows: Vec<Row> = rows.iter().filter(|r| r.test == test).cloned().collect();
        let figure = Figure::new(&rows);
        for (i, measure) in [Measure::Speed, Measure::OfLimit].into_iter().enumerate() {
            figure.panel(&mut body, measure, test, [i as f64 * WIDTH / 2.0, y]);
        }
        y += PANEL;
        y = figure.legend(&mut body, y) + 16.0;
    }
    let title = rows.first().map_or_else(String::new, |row| {
        let s = &row.setting;
        escape(&format!(
            "{}{}, {}, {}",
            s.model,
            if s.synthetic { " (synthetic)" } else { "" },
            s.kernel,
            s.cpu
        ))
    });
    document(&title, [WIDTH, y], &body)
}

/// The rows of one test, by axis and lines.
struct Figure<'a> {
    rows: &'a [Row],
    axis: Axis,
    ticks: Vec<usize>,
    /// The settings of each line, in the order of [`Axis::ALL`] without the axis.
    lines: Vec<Vec<(Axis, usize)>>,
}

impl<'a> Figure<'a> {
    fn new(rows: &'a [Row]) -> Self {
        let count = |axis: &Axis| axis.values(rows).len();
        // Of equals the first: threads are what people ask for.
        let axis = Axis::ALL.into_iter().rev().max_by_key(count).unwrap_or(Axis::Threads);
        let others: Vec<Axis> = Axis::ALL.into_iter().filter(|a| *a != axis).collect();
        let mut lines: Vec<Vec<(Axis, usize)>> =
            rows.iter().map(|row| others.iter().map(|&a| (a, a.of(row))).collect()).collect();
        lines.sort_by_key(|line: &Vec<(Axis, usize)>| line.iter().map(|&(_, v)| v).collect::<Vec<_>>());
        lines.dedup();
        Self { rows, axis, ticks: axis.values(rows), lines }
    }

    /// The rows of a line, from left to right.
    fn of_line(&self, line: &[(Axis, usize)]) -> Vec<&Row> {
        let mut rows: Vec<_> =
            self.rows.iter().filter(|row| line.iter().all(|&(a, v)| a.of(row) == v)).collect();
        rows.sort_by_key(|row| self.axis.of(row));
        rows
    }

    fn panel(&self, out: &mut String, measure: Measure, test: Test, origin: [f64; 2]) {
        let [left, top, right, bottom] = MARGIN;
        let (width, height) = (WIDTH / 2.0 - left - right, PANEL - top - bottom);
        let (x0, y0) = (origin[0] + left, origin[1] + top + height);
        let highest = match measure {
            Measure::Speed => self.rows.iter().map(|r| r.summary.max.max(r.tokens_per_s)).fold(0.0, f64::max),
            Measure::OfLimit => 100.0,
        };
        let scale = Scale::around([0.0, highest].into_iter());
        let gap = width / self.ticks.len() as f64;
        let place = |value: usize| {
            let at = self.ticks.iter().position(|&t| t == value).unwrap_or(0);
            x0 + gap * (at as f64 + 0.5)
        };
        let level = |value: f64| y0 - height * scale.share(value);
        let what = match test {
            Test::Generation => "generation",
            Test::Prompt => "prompt",
        };
        let (unit, title) = match measure {
            Measure::Speed => ("tokens/s", format!("{what}: tokens/s")),
            Measure::OfLimit => ("%", format!("{what}: % of the measured limit")),
        };
        line(
            out,
            format_args!(
                "<text class=\"title\" x=\"{x0:.1}\" y=\"{:.1}\">{title}</text>",
                y0 - height - 14.0
            ),
        );
        for value in scale.ticks() {
            let y = level(value);
            line(
                out,
                format_args!(
                    "<line class=\"grid\" x1=\"{x0:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                    x0 + width
                ),
            );
            line(
                out,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                    x0 - 8.0,
                    y + 4.0,
                    scale.label(value)
                ),
            );
        }
        line(
            out,
            format_args!(
                "<line class=\"axis\" x1=\"{x0:.1}\" x2=\"{:.1}\" y1=\"{y0:.1}\" y2=\"{y0:.1}\"/>",
                x0 + width
            ),
        );
        line(
            out,
            format_args!(
                "<text transform=\"translate({:.1} {:.1}) rotate(-90)\" text-anchor=\"middle\">{unit}</text>",
                origin[0] + 14.0,
                y0 - height / 2.0
            ),
        );
        for &tick in &self.ticks {
            line(
                out,
                format_args!(
                    "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>",
                    place(tick),
                    y0 + 18.0
                ),
            );
        }
        line(
            out,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                x0 + width / 2.0,
                y0 + 38.0,
                self.axis.label()
            ),
        );
        self.curves(out, measure, &place, &level);
    }

    fn curves(
        &self,
        out: &mut String,
        measure: Measure,
        place: &dyn Fn(usize) -> f64,
        level: &dyn Fn(f64) -> f64,
    ) {
        for (index, settings) in self.lines.iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            let rows = self.of_line(settings);
            // Lines that share a setting must not hide each other's bars.
            let shift = (index as f64 - (self.lines.len() as f64 - 1.0) / 2.0) * 4.0;
            let at = |row: &Row| (place(self.axis.of(row)) + shift, level(measure.of(row)));
            let points: Vec<String> =
                rows.iter().map(|row| at(row)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            line(
                out,
                format_args!(
                    "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"{} points=\"{}\"/>",
                    dashes(index),
                    points.join(" ")
                ),
            );
            for row in rows {
                let (x, y) = at(row);
                if measure == Measure::Speed {
                    let (top, bottom) = (level(row.summary.max), level(row.summary.min));
                    line(
                        out,
                        format_args!(
                            "<line stroke=\"{color}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>"
                        ),
                    );
                }
                let fill = if row.reliable { color } else { "none" };
                line(
                    out,
                    format_args!(
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{color}\"/>"
                    ),
                );
            }
        }
    }

    /// The lines' settings, two columns; returns where it ends.
    fn legend(&self, out: &mut String, y: f64) -> f64 {
        for (index, settings) in self.lines.iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            let (x, y) = (MARGIN[0] + (index % 2) as f64 * WIDTH / 2.0, y + (index / 2) as f64 * LEGEND_LINE);
            let words: Vec<_> =
                settings.iter().map(|(axis, value)| format!("{} {value}", axis.name())).collect();
            line(
                out,
                format_args!(
                    "<line stroke=\"{color}\" stroke-width=\"2\"{} x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
                    dashes(index),
                    x + 28.0,
                    y - 4.0,
                    y - 4.0
                ),
            );
            line(out, format_args!("<text x=\"{:.1}\" y=\"{y:.1}\">{}</text>", x + 36.0, words.join(", ")));
        }
        y + self.lines.len().div_ceil(2) as f64 * LEGEND_LINE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{picture::well_formed, row::tests::row};

    fn sweep() -> Vec<Row> {
        let mut rows = Vec::new();
        for (threads, depth) in [(1, 0), (2, 0), (1, 2048), (2, 2048)] {
            for test in [Test::Generation, Test::Prompt] {
                let mut made = row();
                (made.test, made.threads, made.depth) = (test, threads, depth);
                "a <model> & \"more\"".clone_into(&mut made.setting.model);
                rows.push(made);
            }
        }
        rows
    }

    #[test]
    fn the_picture_is_whole() {
        let picture = svg(&sweep());
        well_formed(&picture);
        assert!(picture.contains("a &lt;model&gt; &amp; &quot;more&quot;"));
        // Two tests, two panels, two lines of two points.
        assert_eq!((picture.matches("<circle").count(), picture.matches("<polyline").count()), (16, 8));
        for words in
            ["tokens/s", "% of the measured limit", "threads", "depth 2048, batch 1", "prefers-color-scheme"]
        {
            assert!(picture.contains(words), "{words}");
        }
        well_formed(&svg(&[]));
    }

    #[test]
    fn the_axis_is_the_longest_sweep() {
        let mut rows = sweep();
        let mut more = row();
        more.depth = 512;
        rows.push(more);
        assert!(Figure::new(&rows).axis == Axis::Depth);
        assert!(Figure::new(&sweep()).axis == Axis::Threads, "of equals the first");
    }
}
