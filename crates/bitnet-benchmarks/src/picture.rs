//! What all pictures share: colours, text, and axes with round numbers. SVG without scripts, fonts or links, readable on light
//! and on dark ground.

use std::fmt::Write;

/// Colours that differ for most kinds of colour blindness (Okabe and Ito), none of them black or white.
pub(crate) const COLORS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8f7d00"];
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

pub(crate) fn escape(text: &str) -> String {
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

pub(crate) fn number(value: f64) -> String {
    if value == value.round() { format!("{value:.0}") } else { format!("{value:.2}") }
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
}
