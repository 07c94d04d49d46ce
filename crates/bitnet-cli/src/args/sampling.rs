//! Flags that say how the next token is chosen.

use std::str::FromStr;

use bitnet_inference::LARGEST_SHIFT;
use clap::Args;

/// What is not given is left to the engine's defaults.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Always take the likeliest token; the same as --temperature 0
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p", "min_p"])]
    pub greedy: bool,
    /// Higher is more surprising; 0 is greedy [default: 0.6]
    #[arg(long, value_name = "T", value_parser = non_negative, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Choose among the K likeliest tokens; 0 is all, which takes the head in full [default: 40]
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// Choose among the likeliest tokens that together have this probability [default: 0.9]
    #[arg(long, value_name = "P", value_parser = probability, allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Drop tokens less likely than this share of the likeliest one [default: 0]
    #[arg(long, value_name = "P", value_parser = probability, allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Divide (or multiply, below zero) the logits of recent tokens by this [default: 1]
    #[arg(long, value_name = "X", value_parser = ratio, allow_negative_numbers = true)]
    pub repetition_penalty: Option<f32>,
    /// Lower a logit by this for every recent occurrence [default: 0]
    #[arg(long, value_name = "X", value_parser = shift, allow_negative_numbers = true)]
    pub frequency_penalty: Option<f32>,
    /// Lower a logit by this once if the token occurred recently [default: 0]
    #[arg(long, value_name = "X", value_parser = shift, allow_negative_numbers = true)]
    pub presence_penalty: Option<f32>,
    /// How many tokens count as recent [default: 64]
    #[arg(long, value_name = "N")]
    pub penalty_window: Option<u32>,
    /// Add a number to a token's logit, such as 42=-5.5; may be repeated
    #[arg(long, value_name = "ID=X")]
    pub logit_bias: Vec<LogitBias>,
    /// The same seed gives the same text [default: a new one each time, told by --stats and --json]
    #[arg(long, value_name = "N")]
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

fn finite(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(x) if x.is_finite() => Ok(x),
        _ => Err(format!("'{text}' is not a number")),
    }
}

fn within(text: &str, allowed: impl Fn(f32) -> bool, rule: &str) -> Result<f32, String> {
    let x = finite(text)?;
    if allowed(x) { Ok(x) } else { Err(format!("{text} is not {rule}")) }
}

fn non_negative(text: &str) -> Result<f32, String> {
    within(text, |x| x >= 0.0, "0 or more")
}

fn ratio(text: &str) -> Result<f32, String> {
    within(
        text,
        |x| (1.0 / LARGEST_SHIFT..=LARGEST_SHIFT).contains(&x),
        &format!("from 0.000001 to {LARGEST_SHIFT}"),
    )
}

fn shift(text: &str) -> Result<f32, String> {
    within(text, |x| x.abs() <= LARGEST_SHIFT, &format!("from -{LARGEST_SHIFT} to {LARGEST_SHIFT}"))
}

fn probability(text: &str) -> Result<f32, String> {
    within(text, |x| (0.0..=1.0).contains(&x), "between 0 and 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_checked_before_the_model_is_loaded() {
        assert_eq!("42=-5.5".parse(), Ok(LogitBias { id: 42, bias: -5.5 }));
        for wrong in ["42", "x=1", "-1=1", "1=nan", "1=inf", "1=", "1=3.4e38", "1=-1000001"] {
            assert!(wrong.parse::<LogitBias>().is_err(), "{wrong}");
        }
        assert!(non_negative("0").is_ok() && non_negative("-0.1").is_err() && non_negative("inf").is_err());
        assert!(ratio("0").is_err() && ratio("1e-45").is_err() && ratio("1e-3").is_ok());
        assert!(shift("-3e38").is_err() && shift("-1000000").is_ok());
        assert!(probability("1").is_ok() && probability("1.01").is_err());
    }
}
