//! What all pictures share: colours, text, and axes with round numbers. SVG without scripts, fonts or links, readable on light
//! and on dark ground.

use std::fmt::Write;

/// Colours that differ for most kinds of colour blindness (Okabe and Ito), none of them black or white.
pub const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8f7d00"];
const STYLE: &str = "\
svg{background:#fff;color:#222;font:13px system-ui,sans-serif}text{fill:currentColor}\
.grid{stroke:currentColor;stroke-opacity:.15}.axis{stroke:currentColor;stroke-opacity:.6}.title{font-weight:600}\
@media(prefers-color-scheme:dark){svg{background:#16181c;color:#ddd}}";

/// The whole file around `body`; `title` is escaped.
pub(crate) fn document(title: &str, [width, height]: [f64; 2], body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n<text class=\"title\" x=\"16\" y=\"24\">{title}</text>\n{body}</svg>\n"
    )
}

/// Text that cannot be taken for markup, in attributes too.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub(crate) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

/// When there are more lines than colours, the second round is dashed.
pub(crate) fn dashes(index: usize) -> &'static str {
    if index < COLORS.len() { "" } else { " stroke-dasharray=\"6 4\"" }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
pub(crate) fn nice_step(least: f64) -> f64 {
    if !(least.is_finite() && least > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= least * 0.999).unwrap_or(10.0);
    factor * power
}

/// An axis that begins and ends at round numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The lowest value of the axis.
    pub low: f64,
    /// The highest value of the axis.
    pub high: f64,
    /// From one line of the grid to the next.
    pub step: f64,
}

impl Scale {
    /// Around finite `values`. Values that are all alike stand on an axis from 0, so that their height says how large they are.
    pub fn around(values: impl Iterator<Item = f64>) -> Self {
        /// Below this share of the largest value, differences are those of rounding.
        const ALIKE: f64 = 1e-9;
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = match high - low {
            width if width.is_nan() || width < 0.0 => (0.0, 1.0),
            width if width > ALIKE * low.abs().max(high.abs()) => (low, high),
            _ if low == 0.0 => (0.0, 1.0),
            _ => (low.min(0.0), high.max(0.0)),
        };
        let step = nice_step((high - low) / 6.0);
        // What lies on a line of the grid may be a rounding beside it.
        let low = (low / step + ALIKE).floor() * step;
        let high = ((high / step - ALIKE).ceil() * step).max(low + step);
        Self { low, high, step }
    }

    /// Lines of the grid, the lowest first.
    pub fn ticks(self) -> impl Iterator<Item = f64> {
        let Self { low, high, step } = self;
        (0..=((high - low) / step).round() as usize).map(move |i| low + step * i as f64)
    }

    /// Where `value` lies: 0 at the low end, 1 at the high one.
    pub fn share(self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// A tick as it stands beside the axis, with as many digits as tell it from its neighbours.
    pub fn label(self, value: f64) -> String {
        let most = self.low.abs().max(self.high.abs());
        let value = if value.abs() < 1e-6 * self.step { 0.0 } else { value };
        // The power of ten of a number's first digit; a power of ten itself may be a rounding below.
        let power = |x: f64| (x.log10() + 1e-9).floor();
        let digits = |powers: f64| powers.clamp(0.0, 7.0) as usize;
        if !(1e-3..1e7).contains(&most) {
            let text = format!("{value:.*e}", digits(power(most) - power(self.step)));
            return if value == 0.0 { "0".into() } else { text };
        }
        format!("{value:.*}", digits(-power(self.step)))
    }
}

/// Every element is closed, in order.
#[cfg(test)]
pub(crate) fn well_formed(svg: &str) {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').expect("a tag ends");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.to_owned()));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap().to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!([nice_step(3.1), nice_step(0.2), nice_step(20.0), nice_step(0.0)], [5.0, 0.2, 20.0, 1.0]);
    }

    fn labels(values: &[f64]) -> Vec<String> {
        let scale = Scale::around(values.iter().copied());
        scale.ticks().map(|tick| scale.label(tick)).collect()
    }

    #[test]
    fn labels_are_short_and_differ() {
        assert_eq!(labels(&[0.0, 0.0]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&[1.0; 3]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&[-3.0]), ["-3.0", "-2.5", "-2.0", "-1.5", "-1.0", "-0.5", "0.0"]);
        assert_eq!(labels(&[12.0, 40.0]), ["10", "15", "20", "25", "30", "35", "40"]);
        assert_eq!(labels(&[]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let cases: [&[f64]; 7] = [
            &[0.999_990, 0.999_999],
            &[-1e-9, 2e-9],
            &[3e-5, 3.4e-5],
            &[1.5e8, 9e8],
            &[-0.3, 0.3],
            &[30.5, 31.25],
            &[0.5, 0.500_000_000_01],
        ];
        for values in cases {
            let found = labels(values);
            assert!(found.iter().all(|l| l.len() <= 9 && !l.starts_with("-0.0")), "{found:?}");
            assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "{found:?}");
        }
    }
}
