//! How many bits each matrix gets, under a budget of bytes.

use std::cmp::Ordering;

use bitnet_model::Part;

use crate::{Grid, QuantizeError};

/// One way to store a matrix, and its price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanOption {
    /// The numbers that the matrix may hold.
    pub grid: Grid,
    /// Bytes that the matrix takes in the file.
    pub bytes: u64,
    /// What it is expected to add to the loss, in nats.
    pub harm: f64,
}

/// A matrix and the ways to store it.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The matrix that the choice is about.
    pub part: Part,
    /// The ways to store it; there is at least one.
    pub options: Vec<PlanOption>,
}

/// The way of each matrix that together fit a budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Each matrix with the way that was chosen for it.
    pub chosen: Vec<(Part, PlanOption)>,
    /// Bytes of all matrices as they were chosen.
    pub bytes: u64,
    /// The sum of what they are expected to add.
    pub harm: f64,
}

impl Plan {
    /// Spends `budget` bytes. Every matrix begins with its smallest option; then, again and again, the step to a larger one that
    /// takes off the most harm per byte and still fits is made. Where harms add up and options are convex this is the best plan
    /// but for the last step, and it takes a moment where the exact knapsack would not end.
    ///
    /// # Errors
    /// [`QuantizeError::Budget`] when the smallest options do not fit.
    pub fn new(choices: &[Choice], budget: u64) -> Result<Self, QuantizeError> {
        let smallest = |c: &Choice| {
            let order =
                |a: &&PlanOption, b: &&PlanOption| a.bytes.cmp(&b.bytes).then(a.harm.total_cmp(&b.harm));
            c.options.iter().min_by(order).copied().map(|option| (c.part, option))
        };
        let mut chosen: Vec<(Part, PlanOption)> = choices.iter().filter_map(smallest).collect();
        let total = |chosen: &[(Part, PlanOption)]| chosen.iter().map(|(_, o)| o.bytes).sum::<u64>();
        let least = total(&chosen);
        if least > budget {
            return Err(QuantizeError::Budget { budget, least });
        }
        loop {
            let left = budget - total(&chosen);
            let steps = chosen.iter().enumerate().flat_map(|(i, (part, now))| {
                let options = choices.iter().find(|c| c.part == *part).map_or(&[][..], |c| &c.options);
                let better =
                    move |o: &&PlanOption| o.harm < now.harm && o.bytes.saturating_sub(now.bytes) <= left;
                options.iter().filter(better).map(move |o| (i, *o, gain(now, o)))
            });
            let Some((i, option, _)) = steps.max_by(|a, b| a.2.total_cmp(&b.2).then(Ordering::Greater))
            else {
                break;
            };
            chosen[i].1 = option;
        }
        let harm = chosen.iter().map(|(_, o)| o.harm).sum();
        Ok(Self { bytes: total(&chosen), harm, chosen })
    }
}

/// Harm taken off per byte; what costs nothing comes first.
fn gain(now: &PlanOption, then: &PlanOption) -> f64 {
    let more = then.bytes.saturating_sub(now.bytes);
    if more == 0 { f64::INFINITY } else { (now.harm - then.harm) / more as f64 }
}

#[cfg(test)]
mod tests {
    use bitnet_model::Projection;

    use super::*;

    fn choices(harms: &[f64]) -> Vec<Choice> {
        let one = |(layer, &harm): (usize, &f64)| Choice {
            part: Part::Weight(layer, Projection::Down),
            options: [
                (Grid::Ternary, 20, harm),
                (Grid::Planes, 40, harm / 10.0),
                (Grid::Int4, 45, harm / 30.0),
                (Grid::Int8, 85, harm / 9000.0),
            ]
            .map(|(grid, bytes, harm)| PlanOption { grid, bytes, harm })
            .into(),
        };
        harms.iter().enumerate().map(one).collect()
    }

    #[test]
    fn no_budget_is_exceeded() {
        let choices = choices(&[0.1, 0.02, 0.5, 0.0, 0.07]);
        for budget in 100..=425 {
            let plan = Plan::new(&choices, budget).unwrap();
            assert!(plan.bytes <= budget, "{budget}: {plan:?}");
            assert_eq!(plan.chosen.len(), 5);
        }
        let all = Plan::new(&choices, 425).unwrap();
        // Where nothing is to be won, nothing is spent.
        assert_eq!(all.chosen.iter().filter(|(_, o)| o.grid == Grid::Int8).count(), 4);
        let error = Plan::new(&choices, 99).unwrap_err();
        assert!(matches!(error, QuantizeError::Budget { budget: 99, least: 100 }), "{error}");
    }

    #[test]
    fn bytes_go_where_they_help_most() {
        let plan = Plan::new(&choices(&[0.001, 0.5, 0.002]), 85).unwrap();
        let grids: Vec<Grid> = plan.chosen.iter().map(|(_, o)| o.grid).collect();
        assert_eq!(grids, [Grid::Ternary, Grid::Int4, Grid::Ternary]);
    }
}
