//! Flags that say how the next token is chosen.

use std::str::FromStr;

use clap::Args;

use super::number::{self, shift};

/// What is not given is left to the engine's defaults.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Always take the likeliest token; the same as --temperature 0
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p"])]
    pub greedy: bool,
    /// Higher is more surprising; 0 is greedy [default: what the model's files say, else 0.6]
    #[arg(long, alias = "temp", value_name = "T", value_parser = number::non_negative)]
    pub temperature: Option<f32>,
    /// Choose among the K likeliest tokens; 0 is all, which takes longer with a large vocabulary [default: what the model's files say, else 40]
    #[arg(long, value_name = "K", value_parser = number::from_0::<u32>)]
    pub top_k: Option<u32>,
    /// Choose among the likeliest tokens that together have this probability; 1 is all [default: what the model's files say, else 0.9]
    #[arg(long, value_name = "P", value_parser = number::positive_probability)]
    pub top_p: Option<f32>,
    /// Drop tokens less likely than this share of the likeliest one [default: what the model's files say, else 0]
    #[arg(long, value_name = "P", value_parser = number::probability)]
    pub min_p: Option<f32>,
    /// Divide (or multiply, below zero) the logits of recent tokens by this [default: what the model's files say, else 1]
    #[arg(long, alias = "repeat-penalty", value_name = "X", value_parser = number::ratio)]
    pub repetition_penalty: Option<f32>,
    /// Lower a logit by this for every recent occurrence [default: 0]
    #[arg(long, value_name = "X", value_parser = shift)]
    pub frequency_penalty: Option<f32>,
    /// Lower a logit by this once if the token occurred recently [default: 0]
    #[arg(long, value_name = "X", value_parser = shift)]
    pub presence_penalty: Option<f32>,
    /// How many tokens count as recent [default: 64]
    #[arg(long, alias = "repeat-last-n", value_name = "N", value_parser = number::from_0::<u32>)]
    pub penalty_window: Option<u32>,
    /// Add a number to a token's logit, such as 42=-5.5; may be repeated
    #[arg(long, value_name = "ID=X")]
    pub logit_bias: Vec<LogitBias>,
    /// The same seed gives the same text [default: a new one each time, told by --stats, by --json and when `chat` begins]
    #[arg(long, value_name = "N", value_parser = number::from_0::<u64>)]
    pub seed: Option<u64>,
}

/// A token and what is added to its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitBias {
    pub id: u32,
    pub bias: f32,
}

impl FromStr for LogitBias {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, bias) = text.split_once('=').ok_or("the form is ID=X, such as 42=-5.5")?;
        let id = id.parse().map_err(|_| format!("'{id}' is not a token id"))?;
        Ok(Self { id, bias: shift(bias)? })
    }
}

/// What is given and has no effect, with the reason.
pub type Idle = (&'static str, &'static str);

impl SamplingArgs {
    /// The flags that change nothing because of others.
    pub fn idle(&self) -> Vec<Idle> {
        let greedy = self.greedy || self.temperature == Some(0.0);
        let penalizes = self.repetition_penalty.is_some_and(|x| x != 1.0)
            || [self.frequency_penalty, self.presence_penalty].iter().flatten().any(|&x| x != 0.0);
        const GREEDY: &str = "the likeliest token is always taken";
        let window = self.penalty_window.is_some();
        let flags = [
            ("--top-k", greedy && self.top_k.is_some(), GREEDY),
            ("--top-p", greedy && self.top_p.is_some(), GREEDY),
            ("--min-p", greedy && self.min_p.is_some(), GREEDY),
            ("--seed", greedy && self.seed.is_some(), GREEDY),
            ("--penalty-window", window && !penalizes, "no penalty is given"),
            (
                "a penalty",
                self.penalty_window == Some(0) && penalizes,
                "--penalty-window 0 looks at no token",
            ),
        ];
        flags.into_iter().filter_map(|(flag, idle, why)| idle.then_some((flag, why))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_names_its_token() {
        assert_eq!("42=-5.5".parse(), Ok(LogitBias { id: 42, bias: -5.5 }));
        for wrong in ["42", "x=1", "-1=1", "1=nan", "1=inf", "1=", "1=3.4e38", "1=-1000001"] {
            assert!(wrong.parse::<LogitBias>().is_err(), "{wrong}");
        }
    }
}
