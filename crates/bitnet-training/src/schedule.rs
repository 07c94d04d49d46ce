//! Learning rate and weight decay of every step.

use std::f64::consts::PI;

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stages {
    /// The learning rate stays at its highest.
    Constant,
    /// Half a cosine from the peak to `floor` times the peak.
    Cosine {
        /// The last learning rate over the highest.
        floor: f64,
    },
    /// Two straight lines, as BitNet b1.58 models are trained: from the peak to `first_end` times the peak, then from
    /// `second_start` times the peak to 0; weights decay in the first stage only.
    TwoStage {
        /// The share of the steps that the first stage takes.
        split: f64,
        /// The rate at the end of the first stage over the peak.
        first_end: f64,
        /// The rate at the beginning of the second over the peak.
        second_start: f64,
    },
}

/// The learning rate and weight decay of every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps in which the rate rises in a straight line to the peak.
    pub warmup: u64,
    /// The highest learning rate.
    pub peak: f64,
    /// The weight decay (of the first stage, where there are two).
    pub weight_decay: f64,
    /// The course of the rate after the warm-up.
    pub stages: Stages,
}

/// What the optimizer is told in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// The learning rate of one step.
    pub learning_rate: f64,
    /// The weight decay, which is multiplied with the learning rate.
    pub weight_decay: f64,
}

impl Schedule {
    /// The rates of step `step`, the first being 0.
    pub fn at(&self, step: u64) -> Rates {
        let rate =
            |over_peak: f64, weight_decay| Rates { learning_rate: self.peak * over_peak, weight_decay };
        if step < self.warmup {
            return rate((step + 1) as f64 / self.warmup as f64, self.weight_decay);
        }
        let rest = self.steps.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / rest).min(1.0);
        match self.stages {
            Stages::Constant => rate(1.0, self.weight_decay),
            Stages::Cosine { floor } => {
                rate(floor + (1.0 - floor) * 0.5 * (1.0 + (PI * done).cos()), self.weight_decay)
            }
            Stages::TwoStage { split, first_end, second_start } => {
                // The split is one of the whole run, warm-up included.
                let split = ((split * self.steps as f64 - self.warmup as f64) / rest).clamp(0.0, 1.0);
                if done < split {
                    rate(1.0 + (first_end - 1.0) * done / split, self.weight_decay)
                } else {
                    let left = (1.0 - done) / (1.0 - split).max(f64::MIN_POSITIVE);
                    rate(second_start * left.min(1.0), 0.0)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(stages: Stages) -> Schedule {
        Schedule { steps: 100, warmup: 10, peak: 2.0, weight_decay: 0.1, stages }
    }

    #[test]
    fn the_rate_rises_to_the_peak_and_falls_to_its_floor() {
        let s = rates(Stages::Cosine { floor: 0.1 });
        let at = |step| s.at(step).learning_rate;
        assert_eq!((at(0), at(9), at(10)), (0.2, 2.0, 2.0));
        assert!(
            (at(55) - 1.1).abs() < 1e-12 && (at(100) - 0.2).abs() < 1e-12 && (at(1000) - 0.2).abs() < 1e-12
        );
        assert_eq!(rates(Stages::Constant).at(99).learning_rate, 2.0);
    }

    #[test]
    fn the_second_stage_begins_lower_ends_at_zero_and_does_not_decay() {
        let s = rates(Stages::TwoStage { split: 0.5, first_end: 0.6, second_start: 0.3 });
        let (before, behind) = (s.at(49), s.at(50));
        assert!(before.learning_rate > 1.2 && before.learning_rate < 1.23, "{before:?}");
        assert_eq!((behind.learning_rate, behind.weight_decay, before.weight_decay), (0.6, 0.0, 0.1));
        assert!(s.at(99).learning_rate < 0.02 && s.at(100).learning_rate == 0.0);
    }
}
