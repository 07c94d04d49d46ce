//! Which numbers a group of weights may become: levels, and the levels of least squared error.

use bitnet_quant::weights::mean_abs;
use half::f16;

use crate::Grid;

/// Rounds of alternation between codes and scales; they settle in fewer.
const ROUNDS: usize = 20;

/// The numbers that weights of one group may become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Levels {
    /// A trit times a scale: `scale * t`.
    Ternary(f32),
    /// A trit times a scale, shifted: `scale * t + offset`.
    Shifted(f32, f32),
    /// Two trits with a scale each: `first * t + second * u`.
    Planes(f32, f32),
    /// `step * i`, with `i` from the first limit to the second.
    Steps(f32, i8, i8),
}

impl Levels {
    /// The nearest level to `w`: its codes (the second is 0 where there is only one) and its value.
    pub fn nearest(self, w: f32) -> ([i8; 2], f32) {
        // Comparisons as in `bitnet_quant::weights::trit`: halves go to 0.
        let trit = |w: f32, scale: f32| i8::from(w > 0.5 * scale) - i8::from(w < -0.5 * scale);
        let coded = |codes: [i8; 2]| (codes, self.value(codes));
        match self {
            Self::Ternary(s) => coded([trit(w, s), 0]),
            Self::Shifted(s, offset) => coded([trit(w - offset, s), 1]),
            Self::Planes(..) => {
                let all = (-1..=1).flat_map(|t| (-1..=1).map(move |u| [t, u]));
                // The nearest one; of equals the one of fewest nonzero trits, so that zero stays zero.
                let weight = |c: [i8; 2]| i32::from(c[0].abs()) + i32::from(c[1].abs());
                let far = |c: [i8; 2]| (self.value(c) - w).abs();
                let best = all.min_by(|&a, &b| far(a).total_cmp(&far(b)).then(weight(a).cmp(&weight(b))));
                coded(best.unwrap_or_default())
            }
            Self::Steps(step, low, high) => {
                let i = if step > 0.0 { (w / step).round_ties_even() } else { 0.0 };
                coded([i.clamp(f32::from(low), f32::from(high)) as i8, 0])
            }
        }
    }

    /// The number that codes stand for.
    pub fn value(self, [t, u]: [i8; 2]) -> f32 {
        let (t, u) = (f32::from(t), f32::from(u));
        match self {
            Self::Ternary(s) | Self::Steps(s, ..) => s * t,
            // As the engine adds two planes.
            Self::Shifted(a, b) | Self::Planes(a, b) => a * t + b * u,
        }
    }

    /// The scales of its planes, or its step.
    pub fn scales(self) -> [f32; 2] {
        match self {
            Self::Ternary(s) | Self::Steps(s, ..) => [s, 0.0],
            Self::Shifted(a, b) | Self::Planes(a, b) => [a, b],
        }
    }

    /// The sum of squared errors over `weights` when each takes its nearest level.
    pub fn error(self, weights: &[f32]) -> f64 {
        weights.iter().map(|&w| f64::from(w - self.nearest(w).1).powi(2)).sum()
    }
}

/// The levels of `grid` for the weights of one group. `short` scales are rounded to f16, as files keep them.
pub fn levels(grid: Grid, weights: &[f32], short: bool) -> Levels {
    let kept = |scale: f32| if short { f16::from_f32(scale).to_f32() } else { scale };
    match grid {
        Grid::Absmean => Levels::Ternary(kept(mean_abs(weights, weights.len()))),
        Grid::Ternary => Levels::Ternary(kept(ternary(weights))),
        Grid::Shifted => {
            let (scale, offset) = shifted(weights);
            Levels::Shifted(kept(scale), kept(offset))
        }
        Grid::Planes => {
            let (first, second) = planes(weights);
            Levels::Planes(kept(first), kept(second))
        }
        Grid::Int4 => int4(weights),
        Grid::Int8 => {
            let most = weights.iter().fold(0.0f32, |m, w| m.max(w.abs()));
            Levels::Steps(f16::from_f32(most / 127.0).to_f32(), -127, 127)
        }
    }
}

/// The scale of trits with the least squared error, exactly: with the `k` largest weights as nonzero trits the best scale is
/// their mean and takes `sum^2 / k` off the error, so every `k` is tried.
pub fn ternary(weights: &[f32]) -> f32 {
    let mut sizes: Vec<f32> = weights.iter().map(|w| w.abs()).collect();
    sizes.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut sum, mut best, mut scale) = (0.0f64, 0.0f64, 0.0f64);
    for (i, &size) in sizes.iter().enumerate() {
        sum += f64::from(size);
        let k = (i + 1) as f64;
        if sum * sum / k > best {
            (best, scale) = (sum * sum / k, sum / k);
        }
    }
    scale as f32
}

/// A scale and an offset by alternation of codes and least squares, from two starts: no offset, and the mean.
fn shifted(weights: &[f32]) -> (f32, f32) {
    let mean = (weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len() as f64) as f32;
    let moved: Vec<f32> = weights.iter().map(|w| w - mean).collect();
    let settled =
        [(ternary(weights), 0.0), (ternary(&moved), mean)].map(|start| settle_shifted(weights, start));
    if settled[1].2 < settled[0].2 { (settled[1].0, settled[1].1) } else { (settled[0].0, settled[0].1) }
}

fn settle_shifted(weights: &[f32], (mut scale, mut offset): (f32, f32)) -> (f32, f32, f64) {
    let n = weights.len() as f64;
    let sum: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let mut best = (scale, offset, Levels::Shifted(scale, offset).error(weights));
    for _ in 0..ROUNDS {
        let (mut t1, mut t2, mut wt) = (0.0f64, 0.0f64, 0.0f64);
        for &w in weights {
            let t = f64::from(Levels::Shifted(scale, offset).nearest(w).0[0]);
            (t1, t2, wt) = (t1 + t, t2 + t * t, wt + t * f64::from(w));
        }
        let determinant = n * t2 - t1 * t1;
        if determinant <= 0.0 {
            break;
        }
        scale = ((n * wt - t1 * sum) / determinant) as f32;
        offset = ((sum - f64::from(scale) * t1) / n) as f32;
        let error = Levels::Shifted(scale, offset).error(weights);
        if error >= best.2 {
            break;
        }
        best = (scale, offset, error);
    }
    best
}

/// Two scales by alternation of codes and least squares, from two starts: the second plane on what the first leaves, and nine
/// even steps.
fn planes(weights: &[f32]) -> (f32, f32) {
    let first = ternary(weights);
    let left: Vec<f32> = weights.iter().map(|&w| w - Levels::Ternary(first).nearest(w).1).collect();
    let most = weights.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    let starts = [(first, ternary(&left)), (0.75 * most, 0.25 * most)];
    let settled = starts.map(|start| settle_planes(weights, start));
    if settled[1].2 < settled[0].2 { (settled[1].0, settled[1].1) } else { (settled[0].0, settled[0].1) }
}

fn settle_planes(weights: &[f32], (mut a, mut b): (f32, f32)) -> (f32, f32, f64) {
    let mut best = (a, b, Levels::Planes(a, b).error(weights));
    for _ in 0..ROUNDS {
        let (mut tt, mut uu, mut tu, mut wt, mut wu) = (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for &w in weights {
            let [t, u] = Levels::Planes(a, b).nearest(w).0.map(f64::from);
            (tt, uu, tu) = (tt + t * t, uu + u * u, tu + t * u);
            (wt, wu) = (wt + t * f64::from(w), wu + u * f64::from(w));
        }
        let determinant = tt * uu - tu * tu;
        if determinant <= 0.0 {
            break;
        }
        // A negative scale is the opposite trits.
        let solved = ((wt * uu - wu * tu) / determinant, (wu * tt - wt * tu) / determinant);
        (a, b) = (solved.0.abs() as f32, solved.1.abs() as f32);
        let error = Levels::Planes(a, b).error(weights);
        if error >= best.2 {
            break;
        }
        best = (a, b, error);
    }
    best
}

/// The step of four bits with the least error of several around the one that just reaches the largest weight.
fn int4(weights: &[f32]) -> Levels {
    const TRIED: i32 = 8;
    let most = weights.iter().fold(0.0f32, |m, &w| if w.abs() > m.abs() { w } else { m });
    let tried = (0..=TRIED).map(|i| {
        // The codes reach from -8 to 7, so a positive extreme needs a wider step.
        let reach = if most < 0.0 { 8.0 } else { 7.0 };
        let step = f16::from_f32(most.abs() / (reach + 0.15 * i as f32)).to_f32();
        Levels::Steps(step, -8, 7)
    });
    let best = tried.min_by(|a, b| a.error(weights).total_cmp(&b.error(weights)));
    best.unwrap_or(Levels::Steps(0.0, -8, 7))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize) -> Vec<f32> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 24) - 0.5
        };
        (0..n).map(|_| (next() + next() + next()) as f32).collect()
    }

    #[test]
    fn a_ternary_group_is_found_again() {
        let weights: Vec<f32> = [0, 1, -1, 1, 0, 0, -1].map(|t| t as f32 * 0.375).into();
        let found = levels(Grid::Ternary, &weights, true);
        assert_eq!(found, Levels::Ternary(0.375));
        assert_eq!(found.error(&weights), 0.0);
        // The mean of absolute values is another number.
        assert!(levels(Grid::Absmean, &weights, true).error(&weights) > 0.0);
    }

    #[test]
    fn no_other_scale_is_better() {
        let weights = noise(64);
        let best = Levels::Ternary(ternary(&weights)).error(&weights);
        for i in 1..400 {
            assert!(Levels::Ternary(i as f32 * 0.005).error(&weights) >= best - 1e-9, "{i}");
        }
    }

    #[test]
    fn nine_levels_are_found_again() {
        let pairs = (-1..=1).flat_map(|t| (-1..=1).map(move |u| [t, u]));
        let weights: Vec<f32> = pairs.map(|c| Levels::Planes(0.75, 0.25).value(c)).collect();
        assert!(levels(Grid::Planes, &weights, true).error(&weights) < 1e-9);
    }

    #[test]
    fn more_levels_have_less_error() {
        let weights = noise(32);
        let error = |grid| levels(grid, &weights, true).error(&weights);
        let order = [Grid::Absmean, Grid::Ternary, Grid::Shifted, Grid::Planes, Grid::Int8];
        let errors = order.map(error);
        assert!(errors.is_sorted_by(|a, b| a > b), "{errors:?}");
        assert!(error(Grid::Int4) < error(Grid::Planes));
    }

    #[test]
    fn nothing_is_quantized_to_nothing() {
        for grid in [Grid::Ternary, Grid::Shifted, Grid::Planes, Grid::Int4, Grid::Int8] {
            assert_eq!(levels(grid, &[0.0; 32], true).error(&[0.0; 32]), 0.0, "{grid:?}");
        }
    }
}
