//! Curves over one axis as a picture, such as losses over steps.

use crate::picture::{COLORS, Scale, dashes, document, escape, line};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Room around the plot: left, top, right, bottom.
const MARGIN: [f64; 4] = [64.0, 64.0, 24.0, 52.0];
/// More points than the plot has columns would only make the file large.
const POINTS: usize = 600;

/// A named curve of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The curve's name in the legend.
    pub name: String,
    /// Points from left to right; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// The curves as an SVG file. The first may have many points: neighbours are drawn as their mean.
pub fn svg(title: &str, x_label: &str, y_label: &str, curves: &[Curve]) -> String {
    let drawn: Vec<Vec<(f64, f64)>> = curves.iter().map(|curve| thinned(&curve.points)).collect();
    let plot = Plot::around(drawn.iter().flatten());
    let mut body = String::new();
    plot.grid(&mut body, x_label, y_label);
    let [left, top, ..] = MARGIN;
    let mut x = left;
    for (index, (curve, points)) in curves.iter().zip(&drawn).enumerate() {
        let color = COLORS[index % COLORS.len()];
        let places: Vec<String> =
            points.iter().map(|&p| plot.place(p)).map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        let stroke = format!("fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"{}", dashes(index));
        line(&mut body, format_args!("<polyline {stroke} points=\"{}\"/>", places.join(" ")));
        if points.len() <= 60 {
            for &point in points {
                let [x, y] = plot.place(point);
                line(
                    &mut body,
                    format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>"),
                );
            }
        }
        let (name, y) = (escape(&curve.name), top - 16.0);
        line(&mut body, format_args!("<polyline {stroke} points=\"{x:.1},{y:.1} {:.1},{y:.1}\"/>", x + 24.0));
        line(&mut body, format_args!("<text x=\"{:.1}\" y=\"{:.1}\">{name}</text>", x + 30.0, y + 4.0));
        x += 60.0 + 8.0 * curve.name.chars().count() as f64;
    }
    document(&escape(title), [WIDTH, HEIGHT], &body)
}

/// At most [`POINTS`] points, each the mean of neighbours.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> =
        points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let each = finite.len().div_ceil(POINTS).max(1);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        (part.iter().map(|p| p.0).sum::<f64>() / n, part.iter().map(|p| p.1).sum::<f64>() / n)
    };
    finite.chunks(each).map(mean).collect()
}

/// Where values lie in the picture.
struct Plot {
    x: Scale,
    y: Scale,
}

impl Plot {
    fn around<'a>(points: impl Iterator<Item = &'a (f64, f64)> + Clone) -> Self {
        Self { x: Scale::around(points.clone().map(|p| p.0)), y: Scale::around(points.map(|p| p.1)) }
    }

    fn place(&self, (x, y): (f64, f64)) -> [f64; 2] {
        let [left, top, right, bottom] = MARGIN;
        [
            left + self.x.share(x) * (WIDTH - left - right),
            HEIGHT - bottom - self.y.share(y) * (HEIGHT - top - bottom),
        ]
    }

    fn grid(&self, out: &mut String, x_label: &str, y_label: &str) {
        let ([x0, y1], [x1, y0]) =
            (self.place((self.x.low, self.y.high)), self.place((self.x.high, self.y.low)));
        for value in self.y.ticks() {
            let [_, y] = self.place((self.x.low, value));
            line(
                out,
                format_args!(
                    "<line class=\"grid\" x1=\"{x0:.1}\" x2=\"{x1:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
                ),
            );
            let (x, y, text) = (x0 - 8.0, y + 4.0, self.y.label(value));
            line(out, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{text}</text>"));
        }
        for value in self.x.ticks() {
            let [x, _] = self.place((value, self.y.low));
            let (y, text) = (y0 + 18.0, self.x.label(value));
            line(out, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{text}</text>"));
        }
        line(
            out,
            format_args!(
                "<line class=\"axis\" x1=\"{x0:.1}\" x2=\"{x1:.1}\" y1=\"{y0:.1}\" y2=\"{y0:.1}\"/>"
            ),
        );
        let (x, y, text) = ((x0 + x1) / 2.0, y0 + 38.0, escape(x_label));
        line(out, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{text}</text>"));
        let (y, text) = ((y0 + y1) / 2.0, escape(y_label));
        line(
            out,
            format_args!(
                "<text transform=\"translate(16 {y:.1}) rotate(-90)\" text-anchor=\"middle\">{text}</text>"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::well_formed;

    #[test]
    fn curves_are_drawn_where_their_values_are() {
        let points: Vec<(f64, f64)> =
            (0..=5000).map(|i| (f64::from(i), 4.0 - f64::from(i) / 2500.0)).collect();
        let few = vec![(0.0, 4.0), (2500.0, 3.0), (f64::NAN, 1.0), (5000.0, f64::INFINITY), (5000.0, 2.0)];
        let curves =
            [("a <b>", points), ("few", few)].map(|(name, points)| Curve { name: name.into(), points });
        let picture = svg("loss & more", "steps", "nats", &curves);
        well_formed(&picture);
        for words in ["a &lt;b&gt;", "loss &amp; more", ">5000<", ">nats<", "prefers-color-scheme"] {
            assert!(picture.contains(words), "{words}");
        }
        // Three points of the second curve, and no more of the first than columns.
        assert_eq!(picture.matches("<circle").count(), 3);
        assert!(picture.lines().all(|line| line.matches(',').count() <= POINTS));
        let plot = Plot::around(curves[0].points.iter());
        let scale = |low, high, step| Scale { low, high, step };
        assert_eq!((plot.x, plot.y), (scale(0.0, 5000.0, 1000.0), scale(2.0, 4.0, 0.5)));
        assert_eq!(plot.place((0.0, 2.0)), [64.0, 368.0]);
        assert_eq!(plot.place((5000.0, 4.0)), [696.0, 64.0]);
        well_formed(&svg("nothing yet", "steps", "nats", &[]));
    }
}
