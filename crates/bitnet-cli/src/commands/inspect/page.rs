//! `inspect --quality --html`: one page without scripts, fonts or links, readable on light and on dark ground.

use std::fmt::Write;

use bitnet_benchmarks::picture::{COLORS, Scale, escape};

use super::rows::{ActivationRows, Cells, MatrixRow, Quality};

const STYLE: &str = "\
body{font:14px system-ui,sans-serif;margin:2rem;max-width:1040px;background:#fff;color:#222}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}p{max-width:70ch}table{border-collapse:collapse;font-size:12px}\
td,th{padding:2px 8px;text-align:right;white-space:nowrap;border-bottom:1px solid #8884}td:first-child,th:first-child{text-align:left}\
figure{display:inline-block;margin:0 1rem 1rem 0}svg text{fill:currentColor;font:12px system-ui,sans-serif}\
.grid{stroke:currentColor;stroke-opacity:.15}.title{font-weight:600}.wide{overflow-x:auto}\
@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}}";
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 240.0;
/// Room around a plot: left, top, right, bottom.
const MARGIN: [f64; 4] = [72.0, 28.0, 78.0, 30.0];

/// A line of a plot: its name, and a value for some of the blocks.
type Line = (String, Vec<(f64, f64)>);

/// The report as one HTML page that needs no network.
pub fn html(quality: &Quality) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}</style>\n\
         <h1>Quality of {0}</h1>\n",
        escape(&quality.model)
    );
    for (what, name) in [
        ("Masters", &quality.masters),
        ("Against", &quality.against),
        ("Calibration text", &quality.calibration),
    ] {
        if let Some(name) = name {
            let _ = writeln!(page, "<p>{what}: {}</p>", escape(name));
        }
    }
    page += "<h2>Matrices</h2>\n<p>Over the blocks of the model, a line for each projection. Dead rows and columns are zero \
             throughout. SQNR is 10 log10(sum w&sup2; / sum (w - q)&sup2;) of masters w and trits times scales q. Flipped \
             trits differ from the other model's; scale drift is the mean scale over the other's, minus 1.</p>\n";
    page += &matrix_plots(quality);
    page += &table(quality.matrix_cells());
    if !quality.activations.is_empty() {
        page += "<h2>Activations</h2>\n<p>What int8 makes of the rows that the projections read. Saturated codes are -127 or \
                 127; the largest of every row is there by construction. The crest is a row's largest magnitude over its root \
                 mean square. Outliers are channels whose root mean square over the text is more than 6 times the median \
                 channel's; the largest are named with that ratio.</p>\n";
        page += &activation_plots(&quality.activations);
        page += &table(quality.activation_cells());
    }
    page + "</html>\n"
}

fn matrix_plots(quality: &Quality) -> String {
    let plot = |title: &str, value: &dyn Fn(&MatrixRow) -> Option<f64>| {
        let points = quality.matrices.iter().map(|m| (m.projection, m.layer, value(m)));
        figure(title, &lines(points))
    };
    let mut plots = plot("zeros, %", &|m| Some(100.0 * m.zeros));
    plots += &plot("scale (mean)", &|m| Some(m.scale));
    plots += &plot("dead rows and columns", &|m| Some((m.dead_rows + m.dead_columns) as f64));
    plots += &plot("SQNR, dB", &|m| m.sqnr_db);
    plots += &plot("cosine to the masters", &|m| m.cosine);
    plots += &plot("flipped trits, %", &|m| m.flipped.map(|f| 100.0 * f));
    plots += &plot("scale drift, %", &|m| m.scale_drift.map(|d| 100.0 * d));
    plots
}

fn activation_plots(rows: &[ActivationRows]) -> String {
    let plot = |title: &str, value: &dyn Fn(&ActivationRows) -> Option<f64>| {
        figure(title, &lines(rows.iter().map(|a| (a.input, a.layer, value(a)))))
    };
    let mut plots = plot("codes at +-127, %", &|a| Some(100.0 * a.saturated));
    plots += &plot("codes at 0, %", &|a| Some(100.0 * a.zeros));
    plots += &plot("int8 SQNR, dB", &|a| a.sqnr_db);
    plots += &plot("crest (mean)", &|a| Some(a.crest));
    plots += &plot("outlier channels", &|a| Some(a.outliers as f64));
    plots
}

/// Values by name, in the order in which the names come.
fn lines<'a>(points: impl Iterator<Item = (&'a str, usize, Option<f64>)>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (name, layer, value) in points {
        let Some(value) = value.filter(|v| v.is_finite()) else { continue };
        let at = lines.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            lines.push((name.to_owned(), Vec::new()));
            lines.len() - 1
        });
        lines[at].1.push((layer as f64, value));
    }
    lines
}

/// A plot over the blocks; nothing where there is nothing to show.
fn figure(title: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|(_, points)| points);
    if points().next().is_none() {
        return String::new();
    }
    let values = Scale::around(points().map(|p| p.1));
    let plot = Plot { last: points().fold(1.0f64, |m, p| m.max(p.0)), values };
    let drawn: String = lines.iter().enumerate().map(|(index, line)| plot.line(index, line)).collect();
    let title = escape(title);
    format!(
        "<figure><svg width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{title}\">\
         <text class=\"title\" x=\"{}\" y=\"16\">{title}</text>{}{drawn}</svg></figure>\n",
        MARGIN[0],
        plot.axes()
    )
}

/// What a plot spans: blocks from 0 to `last`, and values.
struct Plot {
    last: f64,
    values: Scale,
}

impl Plot {
    const RIGHT: f64 = WIDTH - MARGIN[2];

    fn x(&self, layer: f64) -> f64 {
        MARGIN[0] + (Self::RIGHT - MARGIN[0]) * layer / self.last
    }

    fn y(&self, value: f64) -> f64 {
        let height = HEIGHT - MARGIN[1] - MARGIN[3];
        MARGIN[1] + height * (1.0 - self.values.share(value))
    }

    fn axes(&self) -> String {
        let (left, right) = (MARGIN[0], Self::RIGHT);
        let mut svg = String::new();
        for value in self.values.ticks() {
            let at = self.y(value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                at + 4.0,
                self.values.label(value)
            );
        }
        let (foot, last) = (HEIGHT - 10.0, self.last);
        let _ = write!(
            svg,
            "<text x=\"{left}\" y=\"{foot}\">block 0</text>\
             <text x=\"{right}\" y=\"{foot}\" text-anchor=\"end\">{last}</text>"
        );
        svg
    }

    /// A line, its points, and its name beside the plot.
    fn line(&self, index: usize, (name, points): &Line) -> String {
        let color = COLORS[index % COLORS.len()];
        let path: Vec<String> =
            points.iter().map(|&(l, v)| format!("{:.1},{:.1}", self.x(l), self.y(v))).collect();
        let path = path.join(" ");
        let mut svg =
            format!("<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\" points=\"{path}\"/>");
        for &(l, v) in points {
            let (x, y) = (self.x(l), self.y(v));
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{color}\"/>");
        }
        let (at, line) = (Self::RIGHT + 12.0, MARGIN[1] + 10.0 + 18.0 * index as f64);
        let _ = write!(
            svg,
            "<circle cx=\"{at}\" cy=\"{}\" r=\"4\" fill=\"{color}\"/><text x=\"{}\" y=\"{line}\">{}</text>",
            line - 4.0,
            at + 8.0,
            escape(name)
        );
        svg
    }
}

fn table(cells: Cells) -> String {
    let mut text = format!("<div class=\"wide\"><table>\n{}", row("th", cells.head.iter().copied()));
    for cells in &cells.rows {
        text += &row("td", cells.iter().map(String::as_str));
    }
    text + "</table></div>\n"
}

fn row<'a>(tag: &str, cells: impl Iterator<Item = &'a str>) -> String {
    let cells: String = cells.map(|c| format!("<{tag}>{}</{tag}>", escape(c))).collect();
    format!("<tr>{cells}</tr>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_lines_and_survives_one_value() {
        let svg =
            figure("<t>", &[("a<b".into(), vec![(0.0, 1.0), (1.0, 2.0)]), ("c".into(), vec![(0.0, 1.5)])]);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("a&lt;b").count()), (2, 1), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let flat = figure("t", &[("a".into(), vec![(0.0, 0.0)])]);
        assert!(flat.contains("<circle") && !flat.contains("NaN"), "{flat}");
        assert_eq!(figure("t", &[("a".into(), vec![])]), "");
        // What is 0 throughout stands on an axis from 0.
        assert!(flat.contains(">0.0<") && flat.contains(">1.0<") && !flat.contains("-0"), "{flat}");
    }
}
